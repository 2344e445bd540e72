//! From the halves of a link to its pairings: the table of `docs/ARCHITECTURE.md`. Halves of
//! one service on one side count as one: they make the same edges.

use common::HistogramKind;

use super::agreement::Lead;
use crate::{
    base::totals::{EdgeTotals, Measure},
    who::services::ServiceIx,
};

/// The halves of one service on one side of a link.
#[derive(Clone, Debug)]
pub(crate) struct Party {
    pub(crate) service: ServiceIx,
    pub(crate) totals: EdgeTotals,
    /// Connections open now.
    pub(crate) open: u64,
    /// Some of its halves have not ended, and their node is connected.
    pub(crate) live: bool,
}

/// What a server party counted for one client party.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) client: usize,
    pub(crate) server: usize,
    pub(crate) totals: EdgeTotals,
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
    /// Some of what the servers counted is in no cell yet: the question is open.
    pub(crate) asking: bool,
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
    /// Whether a number that only one side has may belong to one of several edges.
    pub(crate) const fn are_shared(&self) -> bool {
        self.clients.len() > 1 || self.servers.len() > 1
    }

    /// By how much each side is ahead of the other; `None` where there is only one.
    pub(crate) fn lead(&self) -> Option<Lead> {
        if self.clients.is_empty() || self.servers.is_empty() {
            return None;
        }
        Some(Lead::between(&sum(&self.clients), &sum(&self.servers)))
    }

    /// The pairings. Of what one side has counted beyond the other, `lasting` counts. Takes the
    /// totals out of the parties.
    pub(crate) fn pair(&mut self, lasting: &Lead) -> Pairings {
        let mut limits = [u64::MAX; Measure::SHARED.len()];
        let pairings = match (self.clients.len(), self.servers.len()) {
            (_, 0) => alone(&mut self.clients, |at| (Some(at), None)),
            (0, _) => alone(&mut self.servers, |at| (None, Some(at))),
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
        let (clients, servers) = (sum(&self.clients), sum(&self.servers));
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
            let pairing = pairing(&mut found, cell.client, cell.server);
            pairing.totals.merge(&cell.totals);
            pairing.open = pairing.open.saturating_add(cell.open);
        }
        let mut beyond = self.lead().unwrap_or_default().at_most(lasting).clients;
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
            let only_failed = !self.asking && client.totals.get(Measure::Connections) == 0;
            if first.is_none() && missing.is_zero() && !only_failed {
                continue;
            }
            let pairing = pairing(&mut found, at, first.unwrap_or(0));
            pairing.totals.merge(&missing);
            both_sides(&mut pairing.totals, &client.totals);
            client_only(&mut pairing.totals, &client.totals);
        }
        found
    }
}

fn pairing(found: &mut Vec<Pairing>, client: usize, server: usize) -> &mut Pairing {
    let ends = (Some(client), Some(server));
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
fn sum(parties: &[Party]) -> EdgeTotals {
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
