//! Gathers the halves of a link into its two sides.

use super::{Graph, questions::ATTEMPTS};
use crate::{
    base::{time::Timestamp, totals::EdgeTotals},
    count::{
        half::{Half, Whose},
        link::{Link, Rest},
        pairing::{Cell, Party, Sides},
    },
    model::Role,
    who::services::{ServiceIx, Services},
};

impl Graph {
    pub(crate) fn sides(&self, link: &Link, now: Timestamp) -> Sides {
        let mut sides = Sides::default();
        for half in link.halves.iter().filter_map(|ix| self.halves.get(*ix)) {
            let parties = match half.role() {
                Role::Client => &mut sides.clients,
                Role::Server => &mut sides.servers,
            };
            let party = party(parties, half.service);
            party.totals.add_half(half.role(), &half.counters, &half.histograms);
            party.open = party.open.saturating_add(half.open());
            let node = self.nodes.get(half.node());
            party.live |= half.ended.is_none() && node.is_some_and(|node| node.connected());
        }
        for rest in &link.rests {
            let parties = match rest.role {
                Role::Client => &mut sides.clients,
                Role::Server => &mut sides.servers,
            };
            party(parties, rest.service).totals.merge(&rest.totals);
        }
        sort(&mut sides.clients, &self.services);
        sort(&mut sides.servers, &self.services);
        if sides.clients.len() > 1 && sides.servers.len() > 1 {
            self.fill_cells(link, &mut sides, now);
        }
        sides
    }

    fn fill_cells(&self, link: &Link, sides: &mut Sides, now: Timestamp) {
        let halves = link.halves.iter().filter_map(|ix| self.halves.get(*ix));
        for half in halves.filter(|half| half.role() == Role::Server) {
            match self.client_of(half, sides, now) {
                Some(client) => {
                    let mut totals = EdgeTotals::default();
                    totals.add_half(Role::Server, &half.counters, &half.histograms);
                    put(sides, client, half.service, totals, half.open());
                }
                None => sides.asking = true,
            }
        }
        for Rest { role, service, client, totals } in &link.rests {
            if *role == Role::Server {
                let client = client.and_then(|client| find(&sides.clients, client)).unwrap_or(0);
                put(sides, client, *service, totals.clone(), 0);
            }
        }
    }

    /// For whom of the clients a server half counted. Without an answer it is the first of them;
    /// `None` while there may still be one.
    fn client_of(&self, half: &Half, sides: &Sides, now: Timestamp) -> Option<usize> {
        let young = now.since(half.opened) < self.config.settle_after;
        match half.whose {
            Whose::Of(client) => {
                find(&sides.clients, client).or(if young { None } else { Some(0) })
            }
            Whose::Nobody => Some(0),
            Whose::Unknown { asked, again_at } => {
                let given_up = asked >= ATTEMPTS && again_at <= now;
                let hopeless = half.id.2.client_port == 0 || given_up || !young;
                hopeless.then_some(0)
            }
        }
    }
}

fn party(parties: &mut Vec<Party>, service: ServiceIx) -> &mut Party {
    let at = find(parties, service).unwrap_or_else(|| {
        parties.push(Party { service, totals: EdgeTotals::default(), open: 0, live: false });
        parties.len() - 1
    });
    &mut parties[at]
}

fn find(parties: &[Party], service: ServiceIx) -> Option<usize> {
    parties.iter().position(|party| party.service == service)
}

fn sort(parties: &mut [Party], services: &Services) {
    if parties.len() > 1 {
        parties.sort_by(|a, b| {
            let rank = |party: &Party| services.get(party.service).map(|service| service.rank());
            rank(a).cmp(&rank(b))
        });
    }
}

fn put(sides: &mut Sides, client: usize, service: ServiceIx, totals: EdgeTotals, open: u64) {
    if let Some(server) = find(&sides.servers, service) {
        sides.cells.push(Cell { client, server, totals, open });
    }
}
