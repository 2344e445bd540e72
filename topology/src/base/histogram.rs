//! The one histogram.

use std::{fmt, sync::LazyLock};

use common::{BUCKETS, histogram::bound_seconds};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};

use super::cells::Cells;

/// The most that a bucket counts, so that the sum of all is a number, too. A sample each nanosecond for a year is
/// less; what would go beyond stays at the most.
pub(super) const MOST: u64 = (1 << 55) - 1;

/// The middle of each bucket in seconds, on a logarithmic scale.
static MIDDLES: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let middle = f64::exp2(-1.0 / 16.0);
    (0..BUCKETS as u16).map(|bucket| bound_seconds(bucket) * middle).collect()
});

/// Counts per bucket of `common::histogram`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Stored<Bytes<Vec<u8>>>")]
pub struct Histogram {
    cells: Cells,
}

/// A histogram as it is stored, not checked yet: its counts as they lie in memory, which is little more than numbers of
/// as few bytes as they need would take, and is copied as a whole.
#[derive(Serialize, Deserialize)]
struct Stored<B> {
    first: u16,
    width: u8,
    counts: B,
}

/// Bytes that are written as such, not as a sequence of numbers.
struct Bytes<B>(B);

impl Serialize for Bytes<&[u8]> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes<Vec<u8>> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Read)
    }
}

/// Takes bytes.
struct Read;

impl Visitor<'_> for Read {
    type Value = Bytes<Vec<u8>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Bytes(bytes.to_vec()))
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (first, width, counts) = self.cells.parts();
        Stored { first, width, counts: Bytes(counts) }.serialize(serializer)
    }
}

impl TryFrom<Stored<Bytes<Vec<u8>>>> for Histogram {
    type Error = &'static str;

    fn try_from(stored: Stored<Bytes<Vec<u8>>>) -> Result<Self, Self::Error> {
        let Stored { first, width, counts: Bytes(counts) } = stored;
        let cells = Cells::of_parts((first, width, counts), BUCKETS as u16 - 1, MOST);
        Ok(Histogram { cells: cells.ok_or("a histogram is out of order")? })
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        // The same counts may lie in cells of other widths.
        self.iter().eq(other.iter())
    }
}

impl Eq for Histogram {}

impl Histogram {
    /// Adds `count` samples to a bucket. A bucket above the last is the last.
    #[inline]
    pub fn add(&mut self, bucket: u16, count: u64) {
        self.cells.add(bucket.min(BUCKETS as u16 - 1), count, MOST);
    }

    /// Reads a byte of what [`add`](Self::add) would write to, for the memory's sake.
    #[inline]
    pub(crate) fn see(&self, bucket: u16) -> u8 {
        self.cells.see(bucket)
    }

    /// Samples of neighbouring buckets, from this one on; none of them has more than [`MOST`].
    pub(super) fn of_counts(first: u16, counts: &[u64]) -> Self {
        Histogram { cells: Cells::of_counts(first, counts) }
    }

    /// Adds every sample of `other`.
    pub fn merge(&mut self, other: &Histogram) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        for (bucket, count) in other.iter() {
            self.cells.add(bucket, count, MOST);
        }
    }

    /// The samples that `self` has beyond `less`, bucket by bucket, but no more than `room` in all.
    pub(crate) fn beyond(&self, less: &Histogram, mut room: u64) -> Histogram {
        let mut beyond = Histogram::default();
        for (bucket, count) in self.iter() {
            let more = count.saturating_sub(less.get(bucket)).min(room);
            room -= more;
            beyond.add(bucket, more);
        }
        beyond
    }

    /// Adds to `gain` by how much `one` and `other` together are beyond `less`; false when `less` has more of anything,
    /// whatever was added by then.
    pub(crate) fn add_beyond(
        gain: &mut Histogram,
        one: &Histogram,
        other: Option<&Histogram>,
        less: &Histogram,
    ) -> bool {
        let other = other.map(|other| &other.cells);
        Cells::beyond(&one.cells, other, &less.cells, MOST, |bucket, count| gain.add(bucket, count))
    }

    /// Samples in one bucket.
    #[must_use]
    pub fn get(&self, bucket: u16) -> u64 {
        self.cells.get(bucket)
    }

    /// Samples in all buckets.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.cells.sum()
    }

    /// Whether there is no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Buckets and their counts, ascending, none of them 0.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> + Clone + '_ {
        self.cells.iter()
    }

    /// The value in seconds below which the share `q` of the samples lies, `None`
    /// without samples. Within a bucket samples are taken to lie evenly on a logarithmic
    /// scale, so the answer is never further off than the bucket is wide.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q.clamp(0.0, 1.0) * self.count() as f64;
        let mut below = 0.0;
        let mut answer = None;
        for (bucket, count) in self.iter() {
            let count = count as f64;
            let part = ((rank - below) / count).clamp(0.0, 1.0);
            answer = Some(bound_seconds(bucket) * f64::exp2((part - 1.0) / 8.0));
            below += count;
            if below >= rank {
                break;
            }
        }
        answer
    }

    /// The sum of the samples in seconds, each taken at the middle of its bucket on
    /// a logarithmic scale: at most 4.5 % off.
    #[must_use]
    pub fn approximate_sum(&self) -> f64 {
        self.iter().map(|(k, n)| MIDDLES.get(usize::from(k)).map_or(0.0, |m| m * n as f64)).sum()
    }

    /// Forgets every sample, keeps the memory.
    pub fn clear(&mut self) {
        self.cells.clear();
    }

    /// Gives back memory that growth has left over.
    pub fn shrink(&mut self) {
        self.cells.shrink();
    }
}

impl FromIterator<(u16, u64)> for Histogram {
    fn from_iter<I: IntoIterator<Item = (u16, u64)>>(entries: I) -> Self {
        let mut histogram = Histogram::default();
        for (bucket, count) in entries {
            histogram.add(bucket, count);
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::histogram::bucket_of_ns;
    use proptest::prelude::*;

    fn samples() -> impl Strategy<Value = Vec<u64>> {
        proptest::collection::vec(0_u64..100_000_000_000, 1..200)
    }

    fn of(samples: &[u64]) -> Histogram {
        samples.iter().map(|ns| (bucket_of_ns(*ns), 1)).collect()
    }

    #[test]
    fn without_samples_there_is_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn what_overflows_stays_at_the_end() {
        let mut histogram = Histogram::default();
        histogram.add(u16::MAX, u64::MAX);
        histogram.add(u16::MAX, 1);
        assert_eq!(histogram.iter().collect::<Vec<_>>(), [(BUCKETS as u16 - 1, MOST)]);
    }

    proptest! {
        #[test]
        fn a_quantile_is_right_to_within_one_bucket(mut ns in samples(), q in 0.0..=1.0) {
            let answer = of(&ns).quantile(q).unwrap();
            ns.sort_unstable();
            let rank = (q * ns.len() as f64).ceil() as usize;
            let exact = bucket_of_ns(ns[rank.saturating_sub(1)]);
            let low = bound_seconds(exact) * f64::exp2(-1.0 / 8.0);
            prop_assert!(answer >= low * 0.999_999 && answer <= bound_seconds(exact) * 1.000_001);
        }

        #[test]
        fn merging_is_adding(a in samples(), b in samples(), c in samples()) {
            let (x, y, z) = (of(&a), of(&b), of(&c));
            let mut left = x.clone();
            left.merge(&y);
            left.merge(&z);
            let mut right = z.clone();
            right.merge(&y);
            right.merge(&x);
            prop_assert_eq!(&left, &right);
            prop_assert_eq!(left.count(), (a.len() + b.len() + c.len()) as u64);
        }

        #[test]
        fn the_sum_is_nearly_right(ns in proptest::collection::vec(2_000_u64..1_000_000_000, 1..99)) {
            let exact = ns.iter().map(|ns| *ns as f64 / 1e9).sum::<f64>();
            let near = of(&ns).approximate_sum();
            prop_assert!((near - exact).abs() <= exact * 0.046, "{} {}", near, exact);
        }
    }
}
