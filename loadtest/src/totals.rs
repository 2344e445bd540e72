//! What has been counted: by a half since its generation began, and by an edge in all.

use common::{COUNTERS, Counter, HISTOGRAMS, HistogramKind};

use crate::world::{Increment, Side};

/// A histogram that keeps the buckets with samples, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets(Vec<(u16, u64)>);

impl Buckets {
    pub fn add(&mut self, bucket: u16, count: u64) {
        match self.0.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => self.0[at].1 += count,
            Err(at) => self.0.insert(at, (bucket, count)),
        }
    }

    pub fn take(&mut self, bucket: u16, count: u64) {
        if let Ok(at) = self.0.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            self.0[at].1 = self.0[at].1.saturating_sub(count);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(bucket, count)| self.add(bucket, count));
    }

    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        self.0.iter().copied()
    }

    /// Samples in all buckets up to this one.
    pub fn up_to(&self, bucket: u16) -> u64 {
        self.iter().take_while(|(at, _)| *at <= bucket).map(|(_, count)| count).sum()
    }

    pub fn count(&self) -> u64 {
        self.up_to(u16::MAX)
    }
}

/// What a half has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HalfTotals {
    pub counters: [u64; COUNTERS],
    pub histograms: [Buckets; HISTOGRAMS],
}

impl HalfTotals {
    pub fn add(&mut self, increment: &Increment) {
        for (mine, more) in self.counters.iter_mut().zip(increment.counters) {
            *mine += more;
        }
        for (kind, bucket, count) in &increment.buckets {
            self.histograms[kind.index()].add(*bucket, *count);
        }
    }

    pub const fn get(&self, counter: Counter) -> u64 {
        self.counters[counter.index()]
    }

    /// Connections open now.
    pub const fn open(&self) -> u64 {
        self.get(Counter::Connections) + self.get(Counter::Adopted) - self.get(Counter::Closed)
    }

    /// In the order in which records have them.
    pub fn buckets(&self) -> Vec<(HistogramKind, u16, u64)> {
        let of = |kind: HistogramKind| {
            self.histograms[kind.index()].iter().map(move |(bucket, count)| (kind, bucket, count))
        };
        HistogramKind::ALL.into_iter().flat_map(of).collect()
    }
}

/// Numbers of an edge that `/metrics` shows, histograms apart.
pub const NUMBERS: usize = 13;

/// A number of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Number {
    BytesToServer,
    BytesToClient,
    Connections,
    FailedRefused,
    FailedTimeout,
    FailedUnreachable,
    FailedAborted,
    FailedLocal,
    ResetsByClient,
    ResetsByServer,
    Segments,
    Retransmits,
    Open,
}

impl Number {
    pub const ALL: [Self; NUMBERS] = [
        Self::BytesToServer,
        Self::BytesToClient,
        Self::Connections,
        Self::FailedRefused,
        Self::FailedTimeout,
        Self::FailedUnreachable,
        Self::FailedAborted,
        Self::FailedLocal,
        Self::ResetsByClient,
        Self::ResetsByServer,
        Self::Segments,
        Self::Retransmits,
        Self::Open,
    ];
}

/// What an edge has counted by all its halves there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeTotals {
    pub numbers: [u64; NUMBERS],
    pub histograms: [Buckets; HISTOGRAMS],
}

impl EdgeTotals {
    pub fn get(&self, number: Number) -> u64 {
        self.numbers[number as usize]
    }

    /// Adds a half. What both ends count, the client tells; what each counts of its own adds up.
    pub fn add(&mut self, side: Side, half: &HalfTotals) {
        let rtt = HistogramKind::Rtt.index();
        self.histograms[rtt].merge(&half.histograms[rtt]);
        let mut add = |number: Number, value: u64| self.numbers[number as usize] += value;
        add(Number::Retransmits, half.get(Counter::Retransmits));
        if side == Side::Server {
            return;
        }
        for (number, counter) in [
            (Number::BytesToServer, Counter::BytesSent),
            (Number::BytesToClient, Counter::BytesReceived),
            (Number::Connections, Counter::Connections),
            (Number::FailedRefused, Counter::FailedRefused),
            (Number::FailedTimeout, Counter::FailedTimeout),
            (Number::FailedUnreachable, Counter::FailedUnreachable),
            (Number::FailedAborted, Counter::FailedAborted),
            (Number::FailedLocal, Counter::FailedLocal),
            (Number::ResetsByClient, Counter::ResetSent),
            (Number::ResetsByServer, Counter::ResetReceived),
            (Number::Segments, Counter::SegmentsSent),
            (Number::Segments, Counter::SegmentsReceived),
        ] {
            add(number, half.get(counter));
        }
        for kind in [HistogramKind::Connect, HistogramKind::Lifetime] {
            self.histograms[kind.index()].merge(&half.histograms[kind.index()]);
        }
    }

    /// Adds the connections of a half that is still there.
    pub fn add_open(&mut self, side: Side, half: &HalfTotals) {
        if side == Side::Client {
            self.numbers[Number::Open as usize] += half.open();
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, more) in self.numbers.iter_mut().zip(other.numbers) {
            *mine += more;
        }
        for (mine, more) in self.histograms.iter_mut().zip(&other.histograms) {
            mine.merge(more);
        }
    }

    pub fn is_zero(&self) -> bool {
        self.numbers == [0; NUMBERS] && self.histograms.iter().all(|one| one.count() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_tells_what_both_ends_know() {
        let mut half = HalfTotals { counters: [2; COUNTERS], ..HalfTotals::default() };
        for buckets in &mut half.histograms {
            buckets.add(7, 1);
            buckets.add(3, 2);
        }
        assert_eq!(half.open(), 2);
        let mut edge = EdgeTotals::default();
        edge.add(Side::Client, &half);
        edge.add(Side::Server, &half);
        edge.add_open(Side::Client, &half);
        assert_eq!(edge.numbers, [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 4, 4, 2]);
        assert_eq!(edge.histograms.each_ref().map(Buckets::count), [6, 3, 3]);
        assert_eq!([2, 3, 6, 7].map(|to| edge.histograms[0].up_to(to)), [0, 4, 4, 6]);
    }
}
