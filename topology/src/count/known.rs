//! What of a split is certain, because somebody had only one other to talk to.

use std::collections::{BTreeMap, HashMap};

use super::pairing::Sides;
use crate::base::totals::{EdgeTotals, Measure};

/// The parts of what servers counted that are certain: by server and client, the shared numbers.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<(usize, usize), [u64; Measure::SHARED.len()]>);

impl Known {
    /// Each client's certain part of what a server counted, not more than that in all.
    pub(super) fn of(&self, server: usize, measure: Measure, whole: u64) -> BTreeMap<usize, u64> {
        let Some(at) = Measure::SHARED.iter().position(|shared| *shared == measure) else {
            return BTreeMap::new();
        };
        let ours = self.0.iter().filter(|((of, _), _)| *of == server);
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
        let mut open: Vec<(usize, usize)> = (0..wholes.len())
            .flat_map(|server| (0..left.len()).map(move |client| (server, client)))
            .filter(|(server, client)| self.reaches(*client, *server))
            .collect();
        loop {
            let alone = |(server, client): &&(usize, usize)| {
                let bounded = self.clients.get(*client).is_some_and(|client| !client.elsewhere);
                open.iter().filter(|(other, _)| other == server).count() == 1
                    || (bounded && open.iter().filter(|(_, other)| other == client).count() == 1)
            };
            let Some((server, client)) = open.iter().find(alone).copied() else { return known };
            // A server that only one client can have talked to is all that client's, whatever the client has told.
            let whole = open.iter().filter(|(other, _)| *other == server).count() == 1;
            let mut values = wholes[server];
            for (at, value) in values.iter_mut().enumerate() {
                if !whole {
                    *value = (*value).min(left[client][at]);
                }
                wholes[server][at] -= *value;
                left[client][at] = left[client][at].saturating_sub(*value);
            }
            known.0.insert((server, client), values);
            open.retain(|ends| *ends != (server, client));
        }
    }
}
