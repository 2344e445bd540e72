//! What of a split is certain, because somebody had only one other to talk to.

use std::collections::{BTreeMap, BTreeSet};

use super::pairing::Sides;
use crate::base::totals::{EdgeTotals, Measure};

/// The parts of what servers counted that are certain: by server and client, the shared numbers.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<(usize, usize), [u64; Measure::SHARED.len()]>);

impl Known {
    /// Each client's certain part of what a server counted, not more than that in all.
    pub(super) fn of(&self, server: usize, measure: Measure, whole: u64) -> BTreeMap<usize, u64> {
        let Some(at) = Measure::SHARED.iter().position(|shared| *shared == measure) else {
            return BTreeMap::new();
        };
        let ours = self.0.range((server, 0)..=(server, usize::MAX));
        let ours: BTreeMap<usize, u64> =
            ours.map(|((_, client), values)| (*client, values[at])).collect();
        let mut left = whole;
        let bounded = |(client, value): (usize, u64)| {
            let value = value.min(left);
            left -= value;
            (client, value)
        };
        ours.into_iter().map(bounded).collect()
    }
}

impl Sides {
    /// Whoever can have talked to one alone had all its traffic with that one; without that, the same may hold of
    /// others.
    pub(super) fn known(&self, left: &[EdgeTotals]) -> Known {
        let mut known = Known::default();
        if self.reach.is_none() {
            return known;
        }
        let shared = |totals: &EdgeTotals| Measure::SHARED.map(|measure| totals.get(measure));
        let mut left: Vec<_> = left.iter().map(shared).collect();
        let mut wholes: Vec<_> = self.wholes.iter().map(|whole| shared(&whole.totals)).collect();
        // Who is left for each, and those who are the only ones left for somebody.
        let mut clients_of: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); wholes.len()];
        let mut servers_of: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); left.len()];
        for (server, clients) in clients_of.iter_mut().enumerate() {
            for (client, servers) in servers_of.iter_mut().enumerate() {
                if self.reaches(client, server) {
                    clients.insert(client);
                    servers.insert(server);
                }
            }
        }
        let only = |all: &BTreeSet<usize>| all.first().copied().filter(|_| all.len() == 1);
        let bounded = |at: usize| self.clients.get(at).is_some_and(|client| !client.elsewhere);
        let mut alone: BTreeSet<(usize, usize)> = BTreeSet::new();
        let of_servers = clients_of.iter().enumerate();
        alone.extend(of_servers.filter_map(|(server, all)| Some((server, only(all)?))));
        let of_clients = servers_of.iter().enumerate().filter(|(client, _)| bounded(*client));
        alone.extend(of_clients.filter_map(|(client, all)| Some((only(all)?, client))));
        while let Some((server, client)) = alone.pop_first() {
            // A server that only one client can have talked to is all that client's, whatever the client has told.
            let whole = clients_of[server].len() == 1;
            let mut values = wholes[server];
            for (at, value) in values.iter_mut().enumerate() {
                if !whole {
                    *value = (*value).min(left[client][at]);
                }
                wholes[server][at] -= *value;
                left[client][at] = left[client][at].saturating_sub(*value);
            }
            known.0.insert((server, client), values);
            clients_of[server].remove(&client);
            servers_of[client].remove(&server);
            alone.extend(only(&clients_of[server]).map(|client| (server, client)));
            let last = only(&servers_of[client]).filter(|_| bounded(client));
            alone.extend(last.map(|server| (server, client)));
        }
        known
    }
}
