//! Gathers the halves of a link into its two sides.

use super::{Graph, questions::ATTEMPTS};
use crate::{
    base::{time::Timestamp, totals::EdgeTotals},
    count::{
        half::{Half, Whose},
        link::{Link, Rest},
        pairing::{Cell, Party, Sides, Whole, find},
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
        sides.wholes.resize_with(sides.servers.len(), Whole::default);
        let halves = link.halves.iter().filter_map(|ix| self.halves.get(*ix));
        for half in halves.filter(|half| half.role() == Role::Server) {
            let whose = match self.client_of(half, sides, now) {
                Some(whose) => whose,
                None => {
                    sides.asking = true;
                    continue;
                }
            };
            let mut totals = EdgeTotals::default();
            totals.add_half(Role::Server, &half.counters, &half.histograms);
            put(sides, whose, half.service, totals, half.open());
        }
        for Rest { role, service, client, totals } in &link.rests {
            if *role == Role::Server {
                let client = client.and_then(|client| find(&sides.clients, client));
                put(sides, client, *service, totals.clone(), 0);
            }
        }
        if let Some(split) = &link.split {
            sides.take_shares(split);
        }
    }

    /// For whom of the clients a server half counted: `Some(None)` when that is for their own
    /// numbers to tell, `None` while there may still be an answer.
    fn client_of(&self, half: &Half, sides: &Sides, now: Timestamp) -> Option<Option<usize>> {
        let young = now.since(half.opened) < self.config.settle_after;
        match half.whose {
            _ if half.id.2.client_port == 0 || half.has_several() => Some(None),
            Whose::Of(client) => match find(&sides.clients, client) {
                None if young => None,
                found => Some(found),
            },
            Whose::Nobody => Some(None),
            Whose::Unknown { asked, again_at } => {
                let given_up = asked >= ATTEMPTS && again_at <= now;
                (given_up || !young).then_some(None)
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

fn sort(parties: &mut [Party], services: &Services) {
    if parties.len() > 1 {
        parties.sort_by(|a, b| {
            let rank = |party: &Party| services.get(party.service).map(|service| service.rank());
            rank(a).cmp(&rank(b))
        });
    }
}

fn put(
    sides: &mut Sides,
    client: Option<usize>,
    service: ServiceIx,
    totals: EdgeTotals,
    open: u64,
) {
    let Some(server) = find(&sides.servers, service) else { return };
    match (client, sides.wholes.get_mut(server)) {
        (Some(client), _) => sides.cells.push(Cell { client, server, totals, open, whole: false }),
        (None, Some(whole)) => {
            whole.totals.merge(&totals);
            whole.open = whole.open.saturating_add(open);
        }
        (None, None) => {}
    }
}
