//! What is known of one half.

use std::time::Instant;

use common::{BUCKETS, COUNTERS, Counter, HistogramKind};
use topology::model::HalfKey;

/// Largest count of a bucket that the columns can hold.
const LARGEST_COUNT: u64 = u64::MAX >> 1;

/// A bucket that has ever had a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// `kind * BUCKETS + bucket`.
    code: u16,
    total: u64,
    /// Part of the total that the stream has not been told.
    unsent: u64,
}

/// Values of a bucket as the columns want them.
pub(super) type BucketRecord = (HistogramKind, u16, u64);

/// Totals of a half since the map generation began, over all kernel slots that ever counted
/// for it.
#[derive(Clone, Debug)]
pub(super) struct Half {
    /// What it is a half of; the workload by its id.
    pub(super) key: HalfKey<u32>,
    /// Ids of the addresses.
    pub(super) local: u32,
    pub(super) peer: u32,
    /// Kernel slots that count for it now.
    pub(super) slots: u32,
    /// When it last changed.
    pub(super) changed: Instant,
    /// When a failure was last worth a batch of its own.
    pub(super) alarmed: Option<Instant>,
    /// The stream knows its id.
    pub(super) defined: bool,
    /// It has something to send.
    pub(super) dirty: bool,
    /// It is to be retired unless it changes before.
    pub(super) ending: bool,
    totals: [u64; COUNTERS],
    unsent: [u64; COUNTERS],
    buckets: Vec<Bucket>,
}

impl Half {
    pub(super) fn new(key: HalfKey<u32>, local: u32, peer: u32, now: Instant) -> Self {
        Self {
            key,
            local,
            peer,
            slots: 0,
            changed: now,
            alarmed: None,
            defined: false,
            dirty: false,
            ending: false,
            totals: [0; COUNTERS],
            unsent: [0; COUNTERS],
            buckets: Vec::new(),
        }
    }

    /// Adds increments.
    pub(super) fn add(&mut self, counters: &[u64; COUNTERS], buckets: &[BucketRecord]) {
        for (index, gain) in counters.iter().enumerate() {
            self.totals[index] = self.totals[index].saturating_add(*gain);
            self.unsent[index] = self.unsent[index].saturating_add(*gain);
        }
        for (kind, bucket, gain) in buckets {
            if usize::from(*bucket) < BUCKETS {
                self.add_bucket(code(*kind, *bucket), *gain);
            }
        }
    }

    fn add_bucket(&mut self, code: u16, gain: u64) {
        let at = match self.buckets.binary_search_by_key(&code, |bucket| bucket.code) {
            Ok(at) => at,
            Err(at) => {
                self.buckets.insert(at, Bucket { code, total: 0, unsent: 0 });
                at
            }
        };
        let bucket = &mut self.buckets[at];
        bucket.total = bucket.total.saturating_add(gain).min(LARGEST_COUNT);
        bucket.unsent = bucket.unsent.saturating_add(gain).min(LARGEST_COUNT);
    }

    /// Takes over what another instance of the same half counted.
    pub(super) fn merge(&mut self, other: &Half) {
        for (mine, theirs) in self.totals.iter_mut().zip(other.totals) {
            *mine = mine.saturating_add(theirs);
        }
        for bucket in &other.buckets {
            self.add_bucket(bucket.code, bucket.total);
        }
    }

    /// What the stream has to be told: everything when it does not know the half yet, else what
    /// was added since it was last told.
    pub(super) fn record(&self, buckets: &mut Vec<BucketRecord>) -> &[u64; COUNTERS] {
        buckets.clear();
        for bucket in &self.buckets {
            let count = if self.defined { bucket.unsent } else { bucket.total };
            if let (Some((kind, index)), true) = (decode(bucket.code), count > 0) {
                buckets.push((kind, index, count));
            }
        }
        if self.defined { &self.unsent } else { &self.totals }
    }

    /// The stream has been told.
    pub(super) fn sent(&mut self) {
        self.defined = true;
        self.dirty = false;
        self.unsent = [0; COUNTERS];
        for bucket in &mut self.buckets {
            bucket.unsent = 0;
        }
    }

    /// Attempts and connections in these increments that somebody waits to see.
    pub(super) fn alarms(counters: &[u64; COUNTERS]) -> bool {
        const ALARMING: [Counter; 7] = [
            Counter::FailedRefused,
            Counter::FailedTimeout,
            Counter::FailedUnreachable,
            Counter::FailedAborted,
            Counter::FailedLocal,
            Counter::ResetSent,
            Counter::ResetReceived,
        ];
        ALARMING.iter().any(|counter| counters[counter.index()] > 0)
    }
}

fn code(kind: HistogramKind, bucket: u16) -> u16 {
    kind.index() as u16 * BUCKETS as u16 + bucket
}

fn decode(code: u16) -> Option<(HistogramKind, u16)> {
    let kind = HistogramKind::ALL.get(usize::from(code) / BUCKETS)?;
    Some((*kind, code % BUCKETS as u16))
}
