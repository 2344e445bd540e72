//! Random numbers that are the same on every machine: SplitMix64 (Steele, Lea and Flood, 2014).

/// Odd, and its bits look random: 2^64 over the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream that belongs to these numbers: a seed, then what it is for.
    pub fn of(numbers: &[u64]) -> Self {
        Self(numbers.iter().fold(0, |state, number| mix(state ^ number).wrapping_add(STEP)))
    }

    /// Any number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `end`, 0 when that is 0. The bias is below `end` / 2^64.
    pub const fn below(&mut self, end: u64) -> u64 {
        ((self.next() as u128 * end as u128) >> 64) as u64
    }

    /// A number from 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability >= 1.0 || self.unit() < probability
    }

    /// Nearly a standard normal number: the sum of four uniform ones, so within ±3.46.
    pub fn normal(&mut self) -> f64 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
        // Four uniform numbers have the variance 4 / 12.
        (sum as f64 / 65_535.0 - 2.0) * 3_f64.sqrt()
    }
}

const fn mix(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// Draws ranks by Zipf's law: rank `n` has a weight of `(n + 1)^-exponent`.
pub struct Zipf(Vec<f64>);

impl Zipf {
    pub fn new(ranks: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut add = |rank: u32| {
            sum += f64::from(rank + 1).powf(-exponent);
            sum
        };
        Self((0..ranks).map(&mut add).collect())
    }

    pub fn draw(&self, random: &mut Random) -> u32 {
        let sum = self.0.last().copied().unwrap_or_default();
        let at = random.unit() * sum;
        self.0.partition_point(|upto| *upto <= at).min(self.0.len().saturating_sub(1)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_that_of_its_numbers() {
        let draw = |numbers: &[u64]| Random::of(numbers).next();
        assert_eq!(draw(&[1, 2]), draw(&[1, 2]));
        assert_ne!(draw(&[1, 2]), draw(&[2, 1]));
        // As published for the state 0.
        assert_eq!(Random(0).next(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn numbers_spread_as_they_should() {
        let mut random = Random::of(&[7]);
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..10_000 {
            let normal = random.normal();
            (sum, squares) = (sum + normal, squares + normal * normal);
            assert!(random.below(10) < 10 && random.below(0) == 0);
        }
        assert!((sum / 1e4).abs() < 0.05 && (squares / 1e4 - 1.0).abs() < 0.05);
        let zipf = Zipf::new(100, 1.0);
        let first = (0..10_000).filter(|_| zipf.draw(&mut random) == 0).count();
        assert!((1_500..2_500).contains(&first), "{first}: 1 in 5.19 is due");
    }
}
