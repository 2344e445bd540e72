//! From the halves of a link to its pairings: the table of `docs/ARCHITECTURE.md`. Halves of
//! one service on one side count as one: they make the same edges.

use std::collections::BTreeSet;

use common::HistogramKind;

use super::{agreement::Lead, link::LinkKey, most::Most, reach::Reach};
use crate::{
    base::totals::{EdgeTotals, Measure},
    model::Role,
    who::services::ServiceIx,
};

/// The halves of one service on one side of a link.
#[derive(Clone, Debug)]
pub(crate) struct Party {
    pub(crate) service: ServiceIx,
    /// Of a server, the port it listens on.
    pub(crate) port: u16,
    pub(crate) totals: EdgeTotals,
    /// Connections open now.
    pub(crate) open: u64,
    /// Some of its halves have not ended, and their node is connected.
    pub(crate) live: bool,
    /// Where to look for the other side, where no half of it is known.
    pub(crate) away: LinkKey,
    /// Some or all of what it counts may be with somebody there.
    pub(crate) elsewhere: bool,
    /// Where it goes by the address of a Service, some is with pods that nobody covers.
    pub(crate) open_ended: bool,
    /// Addresses and port of one of its halves.
    pub(crate) own: LinkKey,
    /// Of a link that is tied: where the connections of its halves lead, or come from.
    pub(crate) led_to: BTreeSet<LinkKey>,
    /// The same, with the addresses and ports of the halves themselves.
    pub(crate) reach: BTreeSet<LinkKey>,
}

impl Party {
    pub(crate) fn new(service: ServiceIx, port: u16, own: LinkKey) -> Self {
        Party {
            service,
            port,
            totals: EdgeTotals::default(),
            open: 0,
            live: false,
            away: own,
            elsewhere: false,
            open_ended: false,
            own,
            led_to: BTreeSet::new(),
            reach: BTreeSet::new(),
        }
    }
}

/// What a server party counted for one client party.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) client: usize,
    pub(crate) server: usize,
    pub(crate) totals: EdgeTotals,
    pub(crate) open: u64,
    /// A part of what was counted for several clients together.
    pub(crate) whole: bool,
}

/// What a server party counted without telling connections apart, and is in no cell yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whole {
    pub(crate) totals: EdgeTotals,
    /// Connections open now, those in cells included.
    pub(crate) open: u64,
}

/// Everybody at a link, in an order that does not depend on who came first.
#[derive(Debug, Default)]
pub(crate) struct Sides {
    pub(crate) clients: Vec<Party>,
    pub(crate) servers: Vec<Party>,
    /// With several parties on both sides: who of the servers counted what for whom of the
    /// clients.
    pub(crate) cells: Vec<Cell>,
    /// Then also, by server: what is to be split over the clients (`split.rs`).
    pub(crate) wholes: Vec<Whole>,
    /// Servers that have less to split than was given away, by their port.
    pub(crate) misfits: Vec<(ServiceIx, u16)>,
    /// Who can have talked to whom, where not everybody can.
    pub(crate) reach: Option<Reach>,
    /// Some of what the servers counted is in no cell yet: the question is open.
    pub(crate) asking: bool,
    /// How much it can all come to, when that has to be looked at anew.
    pub(crate) most: Option<Box<Most>>,
}

/// What an edge has from a link. A party that is missing is to be found by its address.
#[derive(Clone, Debug)]
pub(crate) struct Pairing {
    pub(crate) client: Option<usize>,
    pub(crate) server: Option<usize>,
    pub(crate) totals: EdgeTotals,
    pub(crate) open: u64,
}

/// The pairings of a link, and how much they may count together.
#[derive(Debug)]
pub(crate) struct Pairings {
    pub(crate) pairings: Vec<Pairing>,
    /// By the order of [`Measure::SHARED`].
    pub(crate) limits: [u64; Measure::SHARED.len()],
}

impl Sides {
    /// The parties of one side.
    pub(crate) const fn of(&mut self, role: Role) -> &mut Vec<Party> {
        match role {
            Role::Client => &mut self.clients,
            Role::Server => &mut self.servers,
        }
    }

    /// Whether a number that only one side has may belong to one of several edges.
    pub(crate) const fn are_shared(&self) -> bool {
        self.clients.len() > 1 || self.servers.len() > 1
    }

    /// By how much each side is ahead of the other; `None` where there is only one.
    pub(crate) fn lead(&self) -> Option<Lead> {
        if self.clients.is_empty() || self.servers.is_empty() {
            return None;
        }
        Some(Lead::between(&sum(&self.clients), &sum(self.servers.iter().filter(met))))
    }

    /// The pairings. Of what one side has counted beyond the other, `lasting` counts. Takes the
    /// totals out of the parties.
    pub(crate) fn pair(&mut self, lasting: &Lead) -> Pairings {
        let mut limits = [u64::MAX; Measure::SHARED.len()];
        let pairings = match (self.clients.len(), self.servers.len()) {
            (_, 0) => alone(&mut self.clients, |at| (Some(at), None)),
            (0, _) => alone(&mut self.servers, |at| (None, Some(at))),
            _ if self.reach.is_some() => self.many_to_many(lasting),
            (_, 1) => {
                limits = self.limits(lasting);
                self.many_clients(lasting)
            }
            (1, _) => {
                limits = self.limits(lasting);
                self.one_client(lasting)
            }
            _ => self.many_to_many(lasting),
        };
        Pairings { pairings, limits }
    }

    fn limits(&self, lasting: &Lead) -> [u64; Measure::SHARED.len()] {
        let (clients, servers) = (sum(&self.clients), sum(self.servers.iter().filter(met)));
        let lead = Lead::between(&clients, &servers).at_most(lasting);
        let mut limits = [0; Measure::SHARED.len()];
        for (at, measure) in Measure::SHARED.into_iter().enumerate() {
            let both = clients.get(measure).min(servers.get(measure));
            limits[at] = both.saturating_add(lead.clients[at]).saturating_add(lead.servers[at]);
        }
        limits
    }

    /// Each client's own view; what the server counted beyond them goes to the largest.
    fn many_clients(&mut self, lasting: &Lead) -> Vec<Pairing> {
        let lead = self.lead().unwrap_or_default().at_most(lasting);
        let mut pairings = alone(&mut self.clients, |at| (Some(at), Some(0)));
        let Some(server) = self.servers.first() else { return pairings };
        if let Some(largest) = largest(&mut pairings) {
            beyond(&mut largest.totals, &lead.servers);
            both_sides(&mut largest.totals, &server.totals);
            if let [client] = self.clients.as_slice()
                && !client.live
                && server.live
            {
                largest.open = server.open;
            }
        }
        pairings
    }

    /// Each server's own view; what the client counted beyond them, and what only a client
    /// knows, goes to the largest.
    fn one_client(&mut self, lasting: &Lead) -> Vec<Pairing> {
        let lead = self.lead().unwrap_or_default().at_most(lasting);
        let mut pairings = alone(&mut self.servers, |at| (Some(0), Some(at)));
        let Some(client) = self.clients.first() else { return pairings };
        if let Some(largest) = largest(&mut pairings) {
            beyond(&mut largest.totals, &lead.clients);
            both_sides(&mut largest.totals, &client.totals);
            client_only(&mut largest.totals, &client.totals);
        }
        pairings
    }

    /// The servers' view, cell by cell. What the clients counted beyond it, and what only
    /// a client knows, goes to the client's first pairing.
    fn many_to_many(&self, lasting: &Lead) -> Vec<Pairing> {
        let mut found = Vec::new();
        for cell in &self.cells {
            let pairing = pairing(&mut found, cell.client, Some(cell.server));
            pairing.totals.merge(&cell.totals);
            pairing.open = pairing.open.saturating_add(cell.open);
        }
        for (at, server) in self.servers.iter().enumerate().filter(|(_, server)| !met(server)) {
            let (totals, open) = (server.totals.clone(), server.open);
            found.push(Pairing { client: None, server: Some(at), totals, open });
        }
        self.split_open(&mut found);
        let mut beyond = self.lead().unwrap_or_default().at_most(lasting).clients;
        if self.undivided().next().is_some() {
            // What a client has beyond may be its part of that.
            beyond = Lead::default().clients;
        }
        for (at, client) in self.clients.iter().enumerate() {
            let cells = || self.cells.iter().filter(|cell| cell.client == at);
            let mut missing = EdgeTotals::default();
            for (measure, beyond) in Measure::SHARED.into_iter().zip(&mut beyond) {
                let seen = cells().map(|cell| cell.totals.get(measure)).sum::<u64>();
                let more = client.totals.get(measure).saturating_sub(seen).min(*beyond);
                *beyond -= more;
                missing.add(measure, more);
            }
            // The parties are in order, so this is the same pairing whichever came first. Of a
            // client whose connections no server has reported yet, nothing is known.
            let first = cells().map(|cell| cell.server).min();
            let connected = client.totals.get(Measure::Connections) > 0;
            let only_failed = !self.asking && !connected;
            let nothing = missing.is_zero() && !only_failed;
            let unfounded = connected && missing.get(Measure::Connections) == 0;
            if first.is_none() && (nothing || unfounded) {
                continue;
            }
            // Segments alone do not tell that there was somebody: each side counts them in its own way.
            let away = client.elsewhere && missing.tells();
            if away {
                let open = client.open.saturating_sub(in_cells_of(&found, at));
                let totals = std::mem::take(&mut missing);
                found.push(Pairing { client: Some(at), server: None, totals, open });
            }
            let first = first.or_else(|| self.first_reached(at).filter(|_| !away));
            let pairing = pairing(&mut found, at, first);
            pairing.totals.merge(&missing);
            both_sides(&mut pairing.totals, &client.totals);
            client_only(&mut pairing.totals, &client.totals);
        }
        found
    }

    /// Of connections that are open and not told apart, each client has those that are in no cell, at
    /// servers that it is known to have talked to.
    fn split_open(&self, found: &mut [Pairing]) {
        let in_cells = |at| self.cells.iter().filter(move |cell| cell.client == at);
        let left = |(at, client): (usize, &Party)| {
            client.open.saturating_sub(in_cells(at).map(|cell| cell.open).sum())
        };
        let mut left: Vec<u64> = self.clients.iter().enumerate().map(left).collect();
        for (server, whole) in self.wholes.iter().enumerate() {
            let mut open = whole.open;
            for pairing in found.iter_mut().filter(|pairing| pairing.server == Some(server)) {
                let Some(left) = pairing.client.and_then(|at| left.get_mut(at)) else { continue };
                let more = open.min(*left);
                open -= more;
                *left -= more;
                pairing.open = pairing.open.saturating_add(more);
            }
        }
    }
}

pub(crate) fn find(parties: &[Party], service: ServiceIx) -> Option<usize> {
    parties.iter().position(|party| party.service == service)
}

pub(crate) fn find_server(parties: &[Party], (service, port): (ServiceIx, u16)) -> Option<usize> {
    parties.iter().position(|party| (party.service, party.port) == (service, port))
}

/// Whether any of the clients can have talked to this server.
pub(super) fn met(server: &&Party) -> bool {
    !server.elsewhere
}

/// Connections open of a client that are told apart.
fn in_cells_of(found: &[Pairing], client: usize) -> u64 {
    found.iter().filter(|pairing| pairing.client == Some(client)).map(|pairing| pairing.open).sum()
}

fn pairing(found: &mut Vec<Pairing>, client: usize, server: Option<usize>) -> &mut Pairing {
    let ends = (Some(client), server);
    let at = found.iter().position(|p| (p.client, p.server) == ends).unwrap_or_else(|| {
        let totals = EdgeTotals::default();
        found.push(Pairing { client: ends.0, server: ends.1, totals, open: 0 });
        found.len() - 1
    });
    &mut found[at]
}

fn alone(
    parties: &mut [Party],
    ends: impl Fn(usize) -> (Option<usize>, Option<usize>),
) -> Vec<Pairing> {
    let pairing = |(at, party): (usize, &mut Party)| {
        let (client, server) = ends(at);
        let totals = std::mem::take(&mut party.totals);
        Pairing { client, server, totals, open: party.open }
    };
    parties.iter_mut().enumerate().map(pairing).collect()
}

/// The shared measures of all parties.
fn sum<'a>(parties: impl IntoIterator<Item = &'a Party>) -> EdgeTotals {
    let mut sum = EdgeTotals::default();
    for party in parties {
        for measure in Measure::SHARED {
            sum.add(measure, party.totals.get(measure));
        }
    }
    sum
}

/// The pairing with the most bytes; the first of several.
fn largest(pairings: &mut [Pairing]) -> Option<&mut Pairing> {
    let most = pairings.iter().map(|pairing| pairing.totals.bytes()).max()?;
    pairings.iter_mut().find(|pairing| pairing.totals.bytes() == most)
}

fn beyond(totals: &mut EdgeTotals, lead: &[u64; Measure::SHARED.len()]) {
    for (measure, more) in Measure::SHARED.into_iter().zip(lead) {
        totals.add(measure, *more);
    }
}

/// What both sides count for themselves, so that it is the sum of the two.
fn both_sides(totals: &mut EdgeTotals, other: &EdgeTotals) {
    totals.add(Measure::Retransmits, other.get(Measure::Retransmits));
    totals.histogram_mut(HistogramKind::Rtt).merge(other.histogram(HistogramKind::Rtt));
}

/// What only a client knows.
fn client_only(totals: &mut EdgeTotals, client: &EdgeTotals) {
    for measure in [
        Measure::FailedRefused,
        Measure::FailedTimeout,
        Measure::FailedUnreachable,
        Measure::FailedAborted,
        Measure::FailedLocal,
    ] {
        totals.add(measure, client.get(measure));
    }
    totals.histogram_mut(HistogramKind::Connect).merge(client.histogram(HistogramKind::Connect));
}
