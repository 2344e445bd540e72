//! The one histogram, sparse.

use common::{BUCKETS, histogram::bound_seconds};
use serde::{Deserialize, Serialize, Serializer};

/// A count has 55 bits, so that it fits into one word with its bucket. A sample each nanosecond
/// for a year is less; what would go beyond stays at the most.
const COUNT_BITS: u32 = 55;
const MOST: u64 = (1 << COUNT_BITS) - 1;

/// Counts per bucket of `common::histogram`, only those that are not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Entries")]
pub struct Histogram {
    /// Bucket and count in one word, ascending by bucket, no count is 0.
    words: Vec<u64>,
}

/// A histogram as it is stored, not checked yet: small numbers take few bytes, words would not.
#[derive(Deserialize)]
struct Entries(Vec<(u16, u64)>);

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl TryFrom<Entries> for Histogram {
    type Error = &'static str;

    fn try_from(Entries(entries): Entries) -> Result<Self, Self::Error> {
        let ascending = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let in_range = entries.last().is_none_or(|last| usize::from(last.0) < BUCKETS);
        let counted = entries.iter().all(|entry| (1..=MOST).contains(&entry.1));
        if ascending && in_range && counted {
            Ok(Histogram { words: entries.into_iter().map(|(k, n)| word(k, n)).collect() })
        } else {
            Err("a histogram is out of order")
        }
    }
}

const fn bucket(word: u64) -> u16 {
    (word >> COUNT_BITS) as u16
}

const fn count(word: u64) -> u64 {
    word & MOST
}

fn word(bucket: u16, count: u64) -> u64 {
    u64::from(bucket) << COUNT_BITS | count.min(MOST)
}

impl Histogram {
    /// Adds `count` samples to a bucket. A bucket above the last is the last.
    pub fn add(&mut self, bucket: u16, count: u64) {
        let at = self.find(bucket.min(BUCKETS as u16 - 1));
        self.add_at(at, bucket.min(BUCKETS as u16 - 1), count);
    }

    /// Adds every sample of `other`.
    pub fn merge(&mut self, other: &Histogram) {
        if self.words.is_empty() {
            self.words.clone_from(&other.words);
            return;
        }
        let mut at = 0;
        for (bucket, count) in other.iter() {
            while self.words.get(at).is_some_and(|word| self::bucket(*word) < bucket) {
                at += 1;
            }
            self.add_at(at, bucket, count);
        }
    }

    /// Takes samples from a bucket, as far as it has them.
    pub(crate) fn take(&mut self, bucket: u16, count: u64) {
        let at = self.find(bucket);
        let have = self.get(bucket);
        if have > count {
            self.words[at] = word(bucket, have - count);
        } else if have > 0 {
            self.words.remove(at);
        }
    }

    /// Where a bucket is, or would be.
    fn find(&self, bucket: u16) -> usize {
        self.words.partition_point(|word| self::bucket(*word) < bucket)
    }

    fn add_at(&mut self, at: usize, bucket: u16, count: u64) {
        match self.words.get_mut(at) {
            Some(mine) if self::bucket(*mine) == bucket => {
                *mine = word(bucket, self::count(*mine).saturating_add(count));
            }
            _ if count > 0 => self.words.insert(at, word(bucket, count)),
            _ => {}
        }
    }

    /// The samples that `self` has beyond `less`, bucket by bucket, but no more than `room` in all.
    pub(crate) fn beyond(&self, less: &Histogram, mut room: u64) -> Histogram {
        let mut words = Vec::new();
        let mut at = 0;
        for (bucket, count) in self.iter() {
            while less.words.get(at).is_some_and(|word| self::bucket(*word) < bucket) {
                at += 1;
            }
            let same = less.words.get(at).filter(|word| self::bucket(**word) == bucket);
            let more = count.saturating_sub(same.map_or(0, |word| self::count(*word))).min(room);
            if more > 0 {
                room -= more;
                words.push(word(bucket, more));
            }
        }
        Histogram { words }
    }

    /// Samples in one bucket.
    #[must_use]
    pub fn get(&self, bucket: u16) -> u64 {
        let word = self.words.get(self.find(bucket));
        word.filter(|word| self::bucket(**word) == bucket).map_or(0, |word| count(*word))
    }

    /// Samples in all buckets.
    #[must_use]
    pub fn count(&self) -> u64 {
        // At most 320 counts of 55 bits fit.
        self.words.iter().map(|word| count(*word)).sum()
    }

    /// Whether there is no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Buckets and their counts, ascending, none of them 0.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.words.iter().map(|word| (bucket(*word), count(*word)))
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
        let middle = f64::exp2(-1.0 / 16.0);
        self.iter().map(|(k, n)| bound_seconds(k) * middle * n as f64).sum()
    }

    /// Forgets every sample, keeps the memory.
    pub fn clear(&mut self) {
        self.words.clear();
    }

    /// Gives back memory that growth has left over.
    pub fn shrink(&mut self) {
        self.words.shrink_to_fit();
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
