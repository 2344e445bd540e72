//! What an edge counts.

use common::{COUNTERS, Counter, HISTOGRAMS, HistogramKind};
use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use crate::model::Role;

/// How many numbers an edge has, histograms apart.
pub const MEASURES: usize = 13;

/// A number of an edge: its index in [`EdgeTotals`]. All are cumulative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Measure {
    /// Payload bytes from the client to the server.
    BytesToServer = 0,
    /// Payload bytes from the server to the client.
    BytesToClient = 1,
    /// Connections established, each once.
    Connections = 2,
    /// Attempts answered by a reset.
    FailedRefused = 3,
    /// Attempts never answered.
    FailedTimeout = 4,
    /// Attempts with no route, or answered by an ICMP error.
    FailedUnreachable = 5,
    /// Attempts given up by the application.
    FailedAborted = 6,
    /// Attempts that failed on the client's own host.
    FailedLocal = 7,
    /// Established connections that the client reset.
    ResetsByClient = 8,
    /// Established connections that the server reset.
    ResetsByServer = 9,
    /// Segments from the client to the server.
    SegmentsToServer = 10,
    /// Segments from the server to the client.
    SegmentsToClient = 11,
    /// Segments that either covered side sent again.
    Retransmits = 12,
}

impl Measure {
    /// Every measure in the order of its index.
    pub const ALL: [Measure; MEASURES] = [
        Measure::BytesToServer,
        Measure::BytesToClient,
        Measure::Connections,
        Measure::FailedRefused,
        Measure::FailedTimeout,
        Measure::FailedUnreachable,
        Measure::FailedAborted,
        Measure::FailedLocal,
        Measure::ResetsByClient,
        Measure::ResetsByServer,
        Measure::SegmentsToServer,
        Measure::SegmentsToClient,
        Measure::Retransmits,
    ];

    /// The measures that both sides of a connection count, each in its own way: the
    /// larger one holds. The others are known to one side only, or are sums.
    pub const SHARED: [Measure; 7] = [
        Measure::BytesToServer,
        Measure::BytesToClient,
        Measure::Connections,
        Measure::ResetsByClient,
        Measure::ResetsByServer,
        Measure::SegmentsToServer,
        Measure::SegmentsToClient,
    ];

    /// Those of the shared ones that tell that there was somebody, and who it was. What else both sides count, each
    /// counts in its own way: it may differ for ever.
    pub(crate) const TELLING: [Measure; 3] =
        [Measure::BytesToServer, Measure::BytesToClient, Measure::Connections];

    /// Index of the measure in every array of [`MEASURES`] values.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The counter in which a side of this role counts the measure.
    const fn counter(self, role: Role) -> Option<Counter> {
        let (client, server) = match self {
            Measure::BytesToServer => (Counter::BytesSent, Some(Counter::BytesReceived)),
            Measure::BytesToClient => (Counter::BytesReceived, Some(Counter::BytesSent)),
            Measure::Connections => (Counter::Connections, Some(Counter::Connections)),
            Measure::FailedRefused => (Counter::FailedRefused, None),
            Measure::FailedTimeout => (Counter::FailedTimeout, None),
            Measure::FailedUnreachable => (Counter::FailedUnreachable, None),
            Measure::FailedAborted => (Counter::FailedAborted, None),
            Measure::FailedLocal => (Counter::FailedLocal, None),
            Measure::ResetsByClient => (Counter::ResetSent, Some(Counter::ResetReceived)),
            Measure::ResetsByServer => (Counter::ResetReceived, Some(Counter::ResetSent)),
            Measure::SegmentsToServer => (Counter::SegmentsSent, Some(Counter::SegmentsReceived)),
            Measure::SegmentsToClient => (Counter::SegmentsReceived, Some(Counter::SegmentsSent)),
            Measure::Retransmits => (Counter::Retransmits, Some(Counter::Retransmits)),
        };
        match role {
            Role::Client => Some(client),
            Role::Server => server,
        }
    }
}

/// What a half of this role has counted, as an edge counts it, by [`Measure::index`].
#[inline]
pub(crate) fn measures(role: Role, counters: &[u64; COUNTERS]) -> [u64; MEASURES] {
    let counters_of = match role {
        Role::Client => &CLIENT,
        Role::Server => &SERVER,
    };
    let mut values = [0; MEASURES];
    for (value, counter) in values.iter_mut().zip(counters_of) {
        // Past the last counter is what this role does not count.
        *value = counters.get(*counter).copied().unwrap_or(0);
    }
    values
}

/// Index of the counter of each measure, by role.
const CLIENT: [usize; MEASURES] = counters_of(Role::Client);
const SERVER: [usize; MEASURES] = counters_of(Role::Server);

const fn counters_of(role: Role) -> [usize; MEASURES] {
    let mut counters = [COUNTERS; MEASURES];
    let mut at = 0;
    while at < MEASURES {
        if let Some(counter) = Measure::ALL[at].counter(role) {
            counters[at] = counter.index();
        }
        at += 1;
    }
    counters
}

/// What an edge has counted, in all or over a window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeTotals {
    /// By [`Measure::index`].
    values: [u64; MEASURES],
    /// By [`HistogramKind::index`].
    histograms: [Histogram; HISTOGRAMS],
}

impl EdgeTotals {
    /// These numbers and histograms, by their indices.
    pub(super) const fn of(values: [u64; MEASURES], histograms: [Histogram; HISTOGRAMS]) -> Self {
        EdgeTotals { values, histograms }
    }

    /// One number.
    #[must_use]
    pub const fn get(&self, measure: Measure) -> u64 {
        self.values[measure.index()]
    }

    /// One histogram.
    #[must_use]
    pub const fn histogram(&self, kind: HistogramKind) -> &Histogram {
        &self.histograms[kind.index()]
    }

    /// Payload bytes in both directions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.get(Measure::BytesToServer).saturating_add(self.get(Measure::BytesToClient))
    }

    /// Segments in both directions.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.get(Measure::SegmentsToServer).saturating_add(self.get(Measure::SegmentsToClient))
    }

    /// Attempts that failed, for whatever reason.
    #[must_use]
    pub fn failures(&self) -> u64 {
        let (first, last) = (Measure::FailedRefused.index(), Measure::FailedLocal.index());
        self.values[first..=last].iter().fold(0, |sum, value| sum.saturating_add(*value))
    }

    /// Whether everything is 0.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.values.iter().all(|value| *value == 0)
            && self.histograms.iter().all(Histogram::is_empty)
    }

    /// Whether there was somebody, and not only what went to and fro beside it.
    pub(crate) fn tells(&self) -> bool {
        Measure::TELLING.into_iter().any(|measure| self.get(measure) > 0)
    }

    /// Adds everything of `other`.
    pub fn merge(&mut self, other: &EdgeTotals) {
        for (mine, theirs) in self.values.iter_mut().zip(&other.values) {
            *mine = mine.saturating_add(*theirs);
        }
        for (mine, theirs) in self.histograms.iter_mut().zip(&other.histograms) {
            mine.merge(theirs);
        }
    }

    /// What is left without `other`; `None` when that has more of anything.
    pub(crate) fn less(&self, other: &EdgeTotals) -> Option<EdgeTotals> {
        let mut left = EdgeTotals::default();
        for ((left, mine), theirs) in left.values.iter_mut().zip(&self.values).zip(&other.values) {
            *left = mine.checked_sub(*theirs)?;
        }
        let histograms = self.histograms.iter().zip(&other.histograms);
        for (left, (mine, theirs)) in left.histograms.iter_mut().zip(histograms) {
            *left = mine.beyond(theirs, u64::MAX);
            if left.count().checked_add(theirs.count()) != Some(mine.count()) {
                return None;
            }
        }
        Some(left)
    }

    /// Adds to one number.
    pub fn add(&mut self, measure: Measure, value: u64) {
        let mine = &mut self.values[measure.index()];
        *mine = mine.saturating_add(value);
    }

    /// Adds samples to one histogram.
    pub fn add_bucket(&mut self, kind: HistogramKind, bucket: u16, count: u64) {
        self.histograms[kind.index()].add(bucket, count);
    }

    /// All numbers, by [`Measure::index`].
    pub(crate) const fn values(&self) -> &[u64; MEASURES] {
        &self.values
    }

    /// Sets one number.
    pub(crate) fn set(&mut self, measure: Measure, value: u64) {
        self.values[measure.index()] = value;
    }

    /// Lowers a number that is higher.
    pub(crate) fn limit(&mut self, measure: Measure, most: u64) {
        let mine = &mut self.values[measure.index()];
        *mine = (*mine).min(most);
    }

    /// Sets everything to 0, keeps the memory.
    pub fn clear(&mut self) {
        self.values = [0; MEASURES];
        self.histograms.iter_mut().for_each(Histogram::clear);
    }

    pub(crate) fn histogram_mut(&mut self, kind: HistogramKind) -> &mut Histogram {
        &mut self.histograms[kind.index()]
    }

    /// Adds what a half of this role has counted, as an edge counts it.
    pub(crate) fn add_half(
        &mut self,
        role: Role,
        counters: &[u64; COUNTERS],
        histograms: &[Histogram; HISTOGRAMS],
    ) {
        for (mine, theirs) in self.values.iter_mut().zip(measures(role, counters)) {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in self.histograms.iter_mut().zip(histograms) {
            mine.merge(theirs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_measure_at_its_index() {
        for (index, measure) in Measure::ALL.iter().enumerate() {
            assert_eq!(measure.index(), index);
        }
    }

    #[test]
    fn two_sides_of_one_connection_agree() {
        let mut client = [0; COUNTERS];
        let mut server = [0; COUNTERS];
        for (mine, theirs, value) in [
            (Counter::BytesSent, Counter::BytesReceived, 3),
            (Counter::BytesReceived, Counter::BytesSent, 5),
            (Counter::ResetSent, Counter::ResetReceived, 7),
            (Counter::SegmentsSent, Counter::SegmentsReceived, 11),
        ] {
            client[mine.index()] = value;
            server[theirs.index()] = value;
        }
        let (mut a, mut b) = (EdgeTotals::default(), EdgeTotals::default());
        a.add_half(Role::Client, &client, &Default::default());
        b.add_half(Role::Server, &server, &Default::default());
        assert_eq!(a, b);
        assert_eq!((a.bytes(), a.segments(), a.failures()), (8, 11, 0));
    }
}
