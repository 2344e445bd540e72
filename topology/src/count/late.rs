//! What came late: to which steps the numbers belong that a link has not published yet.
//!
//! A batch that waited for a connection tells of a step that is over. Its increments count at once, like any
//! others; besides, the link notes here of which step they are, until it publishes them. That may be at once, or
//! later: when the link settles, or when both sides agree. Then a gain takes what is noted of it, oldest first,
//! and only the rest of it belongs to the running step.

use std::collections::BTreeMap;

use common::{BUCKETS, HistogramKind};
use serde::{Deserialize, Serialize};

use super::link::Row;
use crate::{
    base::{
        time::Timestamp,
        totals::{EdgeTotals, MEASURES, Measure},
    },
    count::{
        edges::Edges,
        pairing::{Party, Sides},
    },
    model::Role,
    who::services::ServiceIx,
};

/// Numbers noted for one side of a link, at 24 bytes each. What goes beyond is noted with the last of its kind.
const MOST: usize = 4096;

/// What came late to a link and is not published yet.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Late {
    notes: Vec<Notes>,
}

/// What the halves of one service told.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Notes {
    role: Role,
    service: ServiceIx,
    /// In the order in which they came, so by step.
    numbers: Vec<Number>,
}

/// One number of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Number {
    step: Timestamp,
    kind: Kind,
    value: u64,
}

/// Which number it is: a measure by its index, or after these a bucket of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Kind(u16);

impl Kind {
    const fn of(measure: Measure) -> Self {
        Kind(measure.index() as u16)
    }

    fn is_shared(self) -> bool {
        Measure::SHARED.iter().any(|measure| Kind::of(*measure) == self)
    }

    fn add_to(self, totals: &mut EdgeTotals, value: u64) {
        let number = usize::from(self.0);
        if let Some(measure) = Measure::ALL.get(number) {
            totals.add(*measure, value);
            return;
        }
        let bucket = number - MEASURES;
        if let Some(kind) = HistogramKind::ALL.get(bucket / BUCKETS) {
            totals.add_bucket(*kind, (bucket % BUCKETS) as u16, value);
        }
    }
}

/// Every number that is not 0.
fn numbers(totals: &EdgeTotals) -> impl Iterator<Item = (Kind, u64)> + '_ {
    let measures = Measure::ALL.into_iter().map(|measure| (Kind::of(measure), totals.get(measure)));
    let buckets = HistogramKind::ALL.into_iter().flat_map(|kind| {
        let first = MEASURES + kind.index() * BUCKETS;
        let number = move |(bucket, count)| (Kind(first as u16 + bucket), count);
        totals.histogram(kind).iter().map(number)
    });
    measures.chain(buckets).filter(|(_, value)| *value > 0)
}

impl Notes {
    fn add(&mut self, step: Timestamp, kind: Kind, value: u64) {
        let same_step = self.numbers.iter_mut().rev().take_while(|number| number.step == step);
        let mut same = same_step.filter(|number| number.kind == kind);
        if let Some(number) = same.next() {
            number.value = number.value.saturating_add(value);
        } else if self.numbers.len() < MOST {
            self.numbers.push(Number { step, kind, value });
        } else if let Some(last) = self.numbers.iter_mut().rev().find(|number| number.kind == kind)
        {
            last.value = last.value.saturating_add(value);
        }
    }

    /// Forgets so much of one kind, oldest first.
    fn forget(&mut self, kind: Kind, mut value: u64) {
        for number in self.numbers.iter_mut().filter(|number| number.kind == kind) {
            let part = number.value.min(value);
            number.value -= part;
            value -= part;
        }
    }

    fn sum(&self, kind: Kind) -> u64 {
        let same = self.numbers.iter().filter(|number| number.kind == kind);
        same.fold(0, |sum, number| sum.saturating_add(number.value))
    }

    fn sweep(&mut self) {
        self.numbers.retain(|number| number.value > 0);
    }
}

impl Late {
    /// Two links are one: so is what came late to them.
    pub(crate) fn absorb(&mut self, other: Late) {
        for theirs in other.notes {
            let same =
                |notes: &&mut Notes| (notes.role, notes.service) == (theirs.role, theirs.service);
            let Some(notes) = self.notes.iter_mut().find(same) else {
                self.notes.push(theirs);
                continue;
            };
            let ours = std::mem::take(&mut notes.numbers);
            let mut both: Vec<Number> = ours.into_iter().chain(theirs.numbers).collect();
            both.sort_by_key(|number| number.step);
            both.iter().for_each(|number| notes.add(number.step, number.kind, number.value));
        }
    }

    /// Notes of which step these increments of a half are.
    pub(crate) fn add(
        &mut self,
        role: Role,
        service: ServiceIx,
        step: Timestamp,
        gained: &EdgeTotals,
    ) {
        let same = |notes: &Notes| (notes.role, notes.service) == (role, service);
        let at = self.notes.iter().position(same).unwrap_or_else(|| {
            self.notes.push(Notes { role, service, numbers: Vec::new() });
            self.notes.len() - 1
        });
        for (kind, value) in numbers(gained) {
            self.notes[at].add(step, kind, value);
        }
    }

    /// Forgets what is published already, because the other side had told it before: of what both sides count, no
    /// more is left than each party is ahead of what is published.
    pub(crate) fn trim(&mut self, sides: &Sides, rows: &[Row], edges: &Edges) {
        for notes in &mut self.notes {
            let (role, service) = (notes.role, notes.service);
            let parties = match role {
                Role::Client => &sides.clients,
                Role::Server => &sides.servers,
            };
            let ours = parties.iter().filter(|party| party.service == service);
            let mine = |row: &&Row| {
                edges.get(row.edge).is_some_and(|edge| match role {
                    Role::Client => edge.key.0 == service,
                    Role::Server => edge.key.1 == service,
                })
            };
            for measure in Measure::SHARED {
                let told: u64 = ours.clone().map(|party: &Party| party.totals.get(measure)).sum();
                let published =
                    rows.iter().filter(mine).map(|row| edges.published(row).get(measure));
                let ahead = told.saturating_sub(published.sum());
                let noted = notes.sum(Kind::of(measure));
                notes.forget(Kind::of(measure), noted.saturating_sub(ahead));
            }
            notes.sweep();
        }
    }

    /// Forgets all but what one side may still wait with for the other.
    pub(crate) fn keep_shared(&mut self) {
        for notes in &mut self.notes {
            notes.numbers.retain(|number| number.kind.is_shared());
        }
    }

    /// The first step of which something is noted.
    pub(crate) fn first_step(&self) -> Option<Timestamp> {
        let numbers = self.notes.iter().flat_map(|notes| &notes.numbers);
        numbers.map(|number| number.step).min()
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.notes.iter().all(|notes| notes.numbers.is_empty())
    }

    /// Takes out what is noted of a gain of the edge between two services; returns it by step. It is never more
    /// than the gain.
    pub(crate) fn take(
        &mut self,
        (client, server): (ServiceIx, ServiceIx),
        gain: &EdgeTotals,
    ) -> BTreeMap<Timestamp, EdgeTotals> {
        let mut placed: BTreeMap<Timestamp, EdgeTotals> = BTreeMap::new();
        let mut left: BTreeMap<Kind, u64> = numbers(gain).collect();
        let mut taken: BTreeMap<Kind, u64> = BTreeMap::new();
        for (role, service) in [(Role::Client, client), (Role::Server, server)] {
            let same = |notes: &&mut Notes| (notes.role, notes.service) == (role, service);
            let Some(notes) = self.notes.iter_mut().find(same) else { continue };
            // Both sides told it: once is enough.
            for (kind, value) in std::mem::take(&mut taken) {
                if kind.is_shared() {
                    notes.forget(kind, value);
                }
            }
            for number in &mut notes.numbers {
                let Some(left) = left.get_mut(&number.kind) else { continue };
                let part = number.value.min(*left);
                if part > 0 {
                    *left -= part;
                    number.value -= part;
                    number.kind.add_to(placed.entry(number.step).or_default(), part);
                    *taken.entry(number.kind).or_default() += part;
                }
            }
            notes.sweep();
        }
        placed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::arena::Arena;

    fn services() -> (ServiceIx, ServiceIx) {
        let mut arena = Arena::default();
        let mut next = || arena.insert(crate::who::services::Service::nameless());
        (next(), next())
    }

    fn at(step: u64) -> Timestamp {
        Timestamp::from_unix_ns(step * 10_000_000_000)
    }

    fn totals(bytes: u64, retransmits: u64, samples: &[(u16, u64)]) -> EdgeTotals {
        let mut totals = EdgeTotals::default();
        totals.add(Measure::BytesToServer, bytes);
        totals.add(Measure::Retransmits, retransmits);
        for (bucket, count) in samples {
            totals.add_bucket(HistogramKind::Rtt, *bucket, *count);
        }
        totals
    }

    #[test]
    fn what_both_sides_told_is_placed_once_and_sums_of_both_twice() {
        let ends = services();
        let mut late = Late::default();
        late.add(Role::Client, ends.0, at(1), &totals(10, 1, &[(3, 2)]));
        late.add(Role::Client, ends.0, at(2), &totals(5, 0, &[]));
        late.add(Role::Server, ends.1, at(1), &totals(10, 2, &[(3, 1)]));
        late.add(Role::Server, ends.1, at(3), &totals(9, 0, &[]));
        // 4 are what the server alone had counted, of its last step; 1 is of now.
        let placed = late.take(ends, &totals(20, 3, &[(3, 3), (4, 1)]));
        let expected = [
            (at(1), totals(10, 3, &[(3, 3)])),
            (at(2), totals(5, 0, &[])),
            (at(3), totals(4, 0, &[])),
        ];
        assert_eq!(placed, expected.into());
        assert!(late.is_empty());
    }

    proptest! {
        #[test]
        fn never_more_is_placed_than_was_gained(
            told in proptest::collection::vec(
                (any::<bool>(), 0..9_u64, 0..50_u64, 0..5_u64, 0..320_u16, 0..9_u64), 0..40,
            ),
            gains in proptest::collection::vec((0..200_u64, 0..20_u64, 0..320_u16, 0..9_u64), 0..6),
        ) {
            let ends = services();
            let mut late = Late::default();
            for (client, step, bytes, retransmits, bucket, count) in told {
                let gained = totals(bytes, retransmits, &[(bucket, count)]);
                match client {
                    true => late.add(Role::Client, ends.0, at(step), &gained),
                    false => late.add(Role::Server, ends.1, at(step), &gained),
                }
            }
            for (bytes, retransmits, bucket, count) in gains {
                let gain = totals(bytes, retransmits, &[(bucket, count)]);
                let mut sum = EdgeTotals::default();
                late.take(ends, &gain).values().for_each(|part| sum.merge(part));
                prop_assert!(gain.less(&sum).is_some());
            }
        }
    }
}
