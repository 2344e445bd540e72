//! What an evaluation adds to what was published before.
//!
//! A row is what a link publishes for one edge. When a pairing moves to another edge, the old
//! row keeps what it has: that is a debt, and the new row gains only what goes beyond it.

use common::HistogramKind;

use crate::{
    base::totals::{EdgeTotals, Measure},
    who::services::ServiceIx,
};

/// One row, before and after.
pub(crate) struct Change<'a> {
    /// Client and server of its edge.
    pub(crate) ends: (ServiceIx, ServiceIx),
    pub(crate) published: &'a EdgeTotals,
    pub(crate) target: &'a EdgeTotals,
}

impl Change<'_> {
    /// What the only row of a link gains: nearly all links have one.
    fn gain(&self, limits: &[u64; Measure::SHARED.len()]) -> EdgeTotals {
        let mut gain = EdgeTotals::default();
        for measure in Measure::ALL {
            let (target, published) = (self.target.get(measure), self.published.get(measure));
            gain.add(measure, target.saturating_sub(published));
        }
        for (measure, limit) in Measure::SHARED.into_iter().zip(limits) {
            gain.limit(measure, limit.saturating_sub(self.published.get(measure)));
        }
        for kind in HistogramKind::ALL {
            let (target, published) = (self.target.histogram(kind), self.published.histogram(kind));
            let room = target.count().saturating_sub(published.count());
            *gain.histogram_mut(kind) = target.beyond(published, room);
        }
        gain
    }
}

/// What each row gains. The sum of what is published rises to the sum of the targets, and never falls. Of a shared
/// measure with a limit, each row gains what is its own wherever that which is beyond the limit belongs.
pub(crate) fn gains(
    changes: &[Change<'_>],
    limits: &[u64; Measure::SHARED.len()],
) -> Vec<EdgeTotals> {
    if let [only] = changes {
        return vec![only.gain(limits)];
    }
    let mut gains = vec![EdgeTotals::default(); changes.len()];
    let mut values = Values::default();
    for measure in Measure::ALL {
        let shared = Measure::SHARED.iter().position(|shared| *shared == measure);
        let limit = shared.map_or(u64::MAX, |at| limits[at]);
        values.load(changes, |totals| totals.get(measure));
        values.settle(changes, limit);
        for (gain, value) in gains.iter_mut().zip(&values.gains) {
            gain.add(measure, *value);
        }
    }
    for kind in HistogramKind::ALL {
        histogram_gains(changes, kind, &mut gains);
    }
    gains
}

fn histogram_gains(changes: &[Change<'_>], kind: HistogramKind, gains: &mut [EdgeTotals]) {
    let mut buckets: Vec<u16> = Vec::new();
    for change in changes {
        let (target, published) = (change.target.histogram(kind), change.published.histogram(kind));
        let more = |(bucket, count): &(u16, u64)| *count > published.get(*bucket);
        buckets.extend(target.iter().filter(more).map(|entry| entry.0));
    }
    buckets.sort_unstable();
    buckets.dedup();
    let mut room = 0_u64;
    let mut published = 0_u64;
    for change in changes {
        room = room.saturating_add(change.target.histogram(kind).count());
        published = published.saturating_add(change.published.histogram(kind).count());
    }
    // Samples may have moved to other buckets, too.
    room = room.saturating_sub(published);
    let mut values = Values::default();
    for bucket in buckets {
        values.load(changes, |totals| totals.histogram(kind).get(bucket));
        values.settle(changes, u64::MAX);
        for (gain, value) in gains.iter_mut().zip(&values.gains) {
            let value = (*value).min(room);
            room -= value;
            gain.add_bucket(kind, bucket, value);
        }
    }
}

/// One number of every row.
#[derive(Default)]
struct Values {
    published: u64,
    gains: Vec<u64>,
    debts: Vec<u64>,
}

impl Values {
    fn load(&mut self, changes: &[Change<'_>], get: impl Fn(&EdgeTotals) -> u64) {
        self.published = 0;
        self.gains.clear();
        self.debts.clear();
        for change in changes {
            let (target, published) = (get(change.target), get(change.published));
            self.published = self.published.saturating_add(published);
            self.gains.push(target.saturating_sub(published));
            self.debts.push(published.saturating_sub(target));
        }
    }

    fn settle(&mut self, changes: &[Change<'_>], limit: u64) {
        if self.debts.iter().any(|debt| *debt > 0) {
            self.pay(changes, |a, b| a.0 == b.0);
            self.pay(changes, |a, b| a.1 == b.1);
            self.pay(changes, |_, _| true);
        }
        let room = limit.saturating_sub(self.published);
        let sum = self.gains.iter().fold(0, |sum: u64, gain| sum.saturating_add(*gain));
        // Whose it is that there is no room for is not known: it may be that of any of them, with somebody else.
        let open = sum.saturating_sub(room);
        self.gains.iter_mut().for_each(|gain| *gain = gain.saturating_sub(open));
    }

    /// Sets gains off against the debts of rows whose ends go together.
    fn pay(
        &mut self,
        changes: &[Change<'_>],
        together: impl Fn((ServiceIx, ServiceIx), (ServiceIx, ServiceIx)) -> bool,
    ) {
        for (gain, to) in self.gains.iter_mut().zip(changes) {
            for (debt, from) in self.debts.iter_mut().zip(changes) {
                if together(to.ends, from.ends) {
                    let paid = (*gain).min(*debt);
                    *gain -= paid;
                    *debt -= paid;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::arena::Arena;

    const NO_LIMIT: [u64; Measure::SHARED.len()] = [u64::MAX; Measure::SHARED.len()];

    fn services() -> Vec<ServiceIx> {
        let mut arena = Arena::default();
        (0..4).map(|_| arena.insert(crate::who::services::Service::nameless())).collect()
    }

    fn bytes(value: u64) -> EdgeTotals {
        let mut totals = EdgeTotals::default();
        totals.add(Measure::BytesToServer, value);
        totals
    }

    fn samples(entries: &[(u16, u64)]) -> EdgeTotals {
        let mut totals = EdgeTotals::default();
        for (bucket, count) in entries {
            totals.add_bucket(HistogramKind::Lifetime, *bucket, *count);
        }
        totals
    }

    /// Gains of rows given as (client, server, published, target).
    fn of(
        rows: &[(usize, usize, EdgeTotals, EdgeTotals)],
        limits: &[u64; Measure::SHARED.len()],
    ) -> Vec<EdgeTotals> {
        let services = services();
        let changes: Vec<_> = rows
            .iter()
            .map(|(client, server, published, target)| Change {
                ends: (services[*client], services[*server]),
                published,
                target,
            })
            .collect();
        gains(&changes, limits)
    }

    #[test]
    fn what_moved_is_paid_for_by_the_same_client() {
        let rows = [
            (0, 2, bytes(100), bytes(0)),
            (1, 2, bytes(50), bytes(0)),
            (1, 3, bytes(0), bytes(60)),
            (0, 3, bytes(0), bytes(110)),
        ];
        let gains = of(&rows, &NO_LIMIT);
        assert_eq!(gains, [bytes(0), bytes(0), bytes(10), bytes(10)]);
    }

    #[test]
    fn then_by_the_same_server() {
        let rows = [
            (0, 2, bytes(100), bytes(0)),
            (1, 3, bytes(0), bytes(60)),
            (1, 2, bytes(0), bytes(110)),
        ];
        assert_eq!(of(&rows, &NO_LIMIT), [bytes(0), bytes(60), bytes(10)]);
    }

    #[test]
    fn samples_that_moved_to_another_bucket_are_not_counted_again() {
        let one = [(0, 2, samples(&[(10, 5)]), samples(&[(11, 6)]))];
        assert_eq!(of(&one, &NO_LIMIT), [samples(&[(11, 1)])]);
        let two = [
            (0, 2, samples(&[(10, 5)]), samples(&[(11, 6)])),
            (1, 2, samples(&[]), samples(&[(10, 5)])),
        ];
        let gains = of(&two, &NO_LIMIT);
        assert_eq!(gains[0].histogram(HistogramKind::Lifetime).count(), 6);
        assert_eq!(gains[1], samples(&[]));
    }

    #[test]
    fn what_is_beyond_a_limit_may_be_anybodys() {
        let mut limits = NO_LIMIT;
        limits[0] = 210;
        let rows = [
            (0, 2, bytes(100), bytes(200)),
            (1, 2, bytes(0), bytes(50)),
            (1, 3, bytes(0), bytes(0)),
        ];
        assert_eq!(of(&rows, &limits), [bytes(60), bytes(10), bytes(0)]);
    }

    proptest! {
        #[test]
        fn the_sum_rises_to_the_target_or_the_limit_and_never_falls(
            rows in proptest::collection::vec((0..2_usize, 2..4_usize, 0_u64..99, 0_u64..99), 1..6),
            limit in 0_u64..400,
        ) {
            let mut limits = NO_LIMIT;
            limits[0] = limit;
            let published: u64 = rows.iter().map(|row| row.2).sum();
            let target: u64 = rows.iter().map(|row| row.3).sum();
            let in_bytes: Vec<_> = rows
                .iter()
                .map(|(client, server, published, target)| {
                    (*client, *server, bytes(*published), bytes(*target))
                })
                .collect();
            let gains = of(&in_bytes, &limits);
            let gained: u64 = gains.iter().map(EdgeTotals::bytes).sum();
            let room = target.min(limit).saturating_sub(published);
            prop_assert!(gained <= room);
            prop_assert!(gained == room || limit < target);
            for (gain, row) in gains.iter().map(EdgeTotals::bytes).zip(&rows) {
                let beyond = target.saturating_sub(limit);
                prop_assert!(gain == 0 || row.2 + gain + beyond <= row.3);
            }
        }
    }
}
