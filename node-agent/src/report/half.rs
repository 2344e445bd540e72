//! What is known of one half.

use std::time::{Duration, Instant};

use common::{BUCKETS, COUNTERS, Counter, HistogramKind};
use topology::model::{Ends, HalfKey};

/// Largest count of a bucket that the columns can hold.
const LARGEST_COUNT: u64 = u64::MAX >> 1;

/// Failures of a half, and its last closes, call for a batch of their own at most this often.
pub(super) const ALARM_EVERY: Duration = Duration::from_secs(1);

/// A bucket that has ever had a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// `kind * BUCKETS + bucket`.
    code: u16,
    total: u64,
    /// Part of the total that no batch holds.
    unsent: u64,
}

/// Values of a bucket as the columns want them.
pub(super) type BucketRecord = (HistogramKind, u16, u64);

/// What somebody waits to see is told before the interval is over, each kind at most so often: closes do not keep failures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Alarms {
    failed: Option<Instant>,
    closed: Option<Instant>,
}

impl Alarms {
    /// Whether these call for a batch of their own; if so, they have it.
    pub(super) fn raise(&mut self, failed: bool, closed: bool, now: Instant) -> bool {
        let raise = |last: &mut Option<Instant>| {
            let quiet = last.is_none_or(|last| now.duration_since(last) >= ALARM_EVERY);
            if quiet {
                *last = Some(now);
            }
            quiet
        };
        // Both are told by one batch.
        let failed = failed && raise(&mut self.failed);
        let closed = closed && raise(&mut self.closed);
        failed || closed
    }
}

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
    /// When failures, and the last close, were last worth a batch of their own.
    pub(super) alarmed: Alarms,
    /// The batch that defined it; 0 for none yet.
    pub(super) defined: u64,
    /// The batch that retired it; 0 for none yet.
    pub(super) retired: u64,
    /// It has something to send.
    pub(super) dirty: bool,
    /// It is to be retired unless it changes before.
    pub(super) ending: bool,
    /// Which half it is of all there were: later ones with its key have higher numbers.
    pub(super) birth: u64,
    /// What the other ends of its connections see, where addresses are translated, and how many of these batches tell.
    pub(super) ends: Vec<Ends>,
    pub(super) ends_told: usize,
    /// When it was last looked for that.
    pub(super) ends_looked: Option<Instant>,
    /// It is counted among those of which not all translations could be told.
    pub(super) ends_refused: bool,
    /// How often its translations might have been another's.
    pub(super) ends_unclear: u8,
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
            alarmed: Alarms::default(),
            defined: 0,
            retired: 0,
            dirty: false,
            ending: false,
            birth: 0,
            ends: Vec::new(),
            ends_told: 0,
            ends_looked: None,
            ends_refused: false,
            ends_unclear: 0,
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

    /// What the next batch has to say: everything when none has defined the half yet, else what
    /// was added since the last one.
    pub(super) fn record(&self, buckets: &mut Vec<BucketRecord>) -> &[u64; COUNTERS] {
        buckets.clear();
        let unsent = self.buckets.iter().filter(|bucket| bucket.unsent > 0);
        buckets.extend(unsent.filter_map(|bucket| {
            let (kind, index) = decode(bucket.code)?;
            Some((kind, index, bucket.unsent))
        }));
        &self.unsent
    }

    /// More than its totals take in columns.
    pub(super) fn most_bytes(&self) -> usize {
        COUNTERS * 10 + self.buckets.len() * 12
    }

    /// A batch holds it all.
    pub(super) fn sent(&mut self, seq: u64) {
        if self.defined == 0 {
            self.defined = seq;
        }
        self.dirty = false;
        self.unsent = [0; COUNTERS];
        for bucket in &mut self.buckets {
            bucket.unsent = 0;
        }
    }

    /// What batches hold, those that are acknowledged included.
    pub(super) fn told(&self) -> Told {
        let mut counters = self.totals;
        for (total, unsent) in counters.iter_mut().zip(self.unsent) {
            *total = total.saturating_sub(unsent);
        }
        let told = |bucket: &Bucket| (bucket.code, bucket.total.saturating_sub(bucket.unsent));
        Told { counters, buckets: self.buckets.iter().map(told).collect() }
    }

    /// Whether there are attempts and connections in these increments that somebody waits to see.
    pub(super) fn has_failed(counters: &[u64; COUNTERS]) -> bool {
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

/// What batches have told of a half, as of one of them.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) counters: [u64; COUNTERS],
    /// By code, ascending.
    buckets: Vec<(u16, u64)>,
}

impl Told {
    /// Goes back before a batch that added this.
    pub(super) fn take_counter(&mut self, counter: Counter, gain: u64) {
        let told = &mut self.counters[counter.index()];
        *told = told.saturating_sub(gain);
    }

    /// As [`take_counter`](Self::take_counter).
    pub(super) fn take_bucket(&mut self, kind: HistogramKind, bucket: u16, gain: u64) {
        let code = code(kind, bucket);
        if let Ok(at) = self.buckets.binary_search_by_key(&code, |(code, _)| *code) {
            let told = &mut self.buckets[at].1;
            *told = told.saturating_sub(gain);
        }
    }

    /// The buckets as the columns want them.
    pub(super) fn buckets(&self, buckets: &mut Vec<BucketRecord>) {
        buckets.clear();
        let told = self.buckets.iter().filter(|(_, count)| *count > 0);
        buckets.extend(told.filter_map(|(code, count)| {
            let (kind, index) = decode(*code)?;
            Some((kind, index, *count))
        }));
    }
}

fn code(kind: HistogramKind, bucket: u16) -> u16 {
    kind.index() as u16 * BUCKETS as u16 + bucket
}

fn decode(code: u16) -> Option<(HistogramKind, u16)> {
    let kind = HistogramKind::ALL.get(usize::from(code) / BUCKETS)?;
    Some((*kind, code % BUCKETS as u16))
}
