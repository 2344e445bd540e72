//! What the agents have seen, all together.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::agent::{StreamError, WireBytes};

/// Steps of an octave: a latency is known to 1.6 %.
const STEPS: usize = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Counters that every agent adds to.
#[derive(Default)]
pub struct Stats {
    /// Agents with a stream now, and those whose first batches are acknowledged.
    pub connected: AtomicU64,
    pub defined: AtomicU64,
    /// Records that were counted, and those that were acknowledged.
    pub records_counted: AtomicU64,
    pub records: AtomicU64,
    pub batches: AtomicU64,
    pub reconnects: AtomicU64,
    pub restarts: AtomicU64,
    /// Connections that somebody was asked for.
    pub asked: AtomicU64,
    pub bytes: Arc<WireBytes>,
    pub latency: Latency,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Stats {
    pub fn failed(&self, error: &StreamError) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(error.to_string()).or_default() += 1;
    }

    /// Why streams ended or never began.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// From the end of an interval to its acknowledgement: a histogram that threads share.
pub struct Latency {
    /// By microseconds, on a scale of [`STEPS`] to the octave.
    counts: Vec<AtomicU64>,
    highest_us: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        let counts = (0..STEPS * 40).map(|_| AtomicU64::new(0)).collect();
        Self { counts, highest_us: AtomicU64::new(0) }
    }
}

/// Quantiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    pub fn record(&self, latency: Duration) {
        let us = latency.as_micros() as u64;
        let place = place(us).min(self.counts.len() - 1);
        self.counts[place].fetch_add(1, Relaxed);
        self.highest_us.fetch_max(us, Relaxed);
    }

    /// All counts so far, to tell later what came since.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Relaxed)).collect()
    }

    /// Forgets the highest; what was counted stays.
    pub fn forget_highest(&self) {
        self.highest_us.store(0, Relaxed);
    }

    /// Of what came since `before`.
    pub fn since(&self, before: &[u64]) -> Quantiles {
        let counts: Vec<u64> =
            self.counts().iter().zip(before).map(|(now, before)| now - before).collect();
        let count: u64 = counts.iter().sum();
        let quantile = |q: f64| {
            let rank = ((count as f64 * q).ceil() as u64).max(1);
            let mut sum = 0;
            let at = counts.iter().position(|count| {
                sum += count;
                sum >= rank
            });
            at.map_or(0.0, |place| highest_of(place) as f64 / 1e3)
        };
        let max = self.highest_us.load(Relaxed) as f64 / 1e3;
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(quantile).map(|ms| ms.min(max));
        Quantiles { count, p50, p90, p99, max }
    }
}

/// Exact below [`STEPS`], then so many steps to the octave.
fn place(us: u64) -> usize {
    let octave = (us | (STEPS as u64 - 1)).ilog2() + 1 - STEP_BITS;
    let within = (us >> octave) as usize;
    octave as usize * STEPS / 2 + within
}

/// The highest value of a place.
fn highest_of(place: usize) -> u64 {
    if place < STEPS {
        return place as u64;
    }
    let octave = place / (STEPS / 2) - 1;
    let within = place - octave * STEPS / 2;
    ((within as u64 + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_below_the_highest_of_its_place() {
        let mut last = 0;
        for us in (0..5_000).chain((1..40).map(|bit| (1_u64 << bit) + 1)) {
            let place = place(us);
            assert!(place >= last || us < 5_000, "{us}");
            last = place;
            let highest = highest_of(place);
            assert!(highest >= us && highest as f64 <= us as f64 * 1.032 + 1.0, "{us}: {highest}");
        }
    }

    #[test]
    fn quantiles_are_of_what_came_since() {
        let latency = Latency::default();
        latency.record(Duration::from_secs(9));
        let before = latency.counts();
        latency.forget_highest();
        (1..=100).for_each(|ms| latency.record(Duration::from_millis(ms)));
        let quantiles = latency.since(&before);
        assert_eq!((quantiles.count, quantiles.max), (100, 100.0));
        assert!((quantiles.p50 - 50.0).abs() < 2.0 && (quantiles.p99 - 99.0).abs() < 2.0);
        assert_eq!(Latency::default().since(&[0; STEPS * 40]), Quantiles::default());
    }
}
