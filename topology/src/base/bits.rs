//! Numbers in about as many bits as they need, one after the other.
//!
//! A number from 1 on is as many zeros as it has bits after its highest one, then a one, then these: 1 takes one bit, 2
//! and 3 take three, and so on. Bits of a byte are taken from the lowest on. What is left of the last byte is 0, which no
//! number begins and ends with.

/// Numbers that have this many bits after the highest one, or more, are so many zeros, a one, how many bits these are, and
/// these.
const LARGE: u32 = 16;

/// Bits that say how many.
const LENGTH: u32 = 6;

/// Bits that are taken at a time, at most.
const HALF: u32 = 32;

/// Bits by which two small numbers are read at once.
const PEEK: u32 = 11;

/// Two numbers, and the bits they take; 0 where they take more than [`PEEK`].
#[derive(Clone, Copy)]
struct Pair {
    numbers: [u8; 2],
    bits: u8,
}

static PAIRS: [Pair; 1 << PEEK] = pairs();

const fn pairs() -> [Pair; 1 << PEEK] {
    let mut pairs = [Pair { numbers: [0; 2], bits: 0 }; 1 << PEEK];
    let mut word = 0;
    while word < pairs.len() {
        let (mut rest, mut bits, mut at) = (word, 0, 0);
        while at < 2 && rest > 0 {
            let more = rest.trailing_zeros();
            rest >>= more + 1;
            pairs[word].numbers[at] = (rest & ((1 << more) - 1) | 1 << more) as u8;
            rest >>= more;
            bits += 2 * more + 1;
            at += 1;
        }
        if at == 2 && bits <= PEEK {
            pairs[word].bits = bits as u8;
        }
        word += 1;
    }
    pairs
}

/// Writes numbers.
pub(crate) struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    /// What does not fill a byte yet, and how many bits that is.
    word: u64,
    held: u32,
}

impl<'a> BitWriter<'a> {
    /// Writes behind what there is. Whoever has begun it has to [`end`](Self::end) it.
    pub(crate) const fn new(bytes: &'a mut Vec<u8>) -> Self {
        BitWriter { bytes, word: 0, held: 0 }
    }

    /// Adds a number; 0 is written as 1.
    #[inline]
    pub(crate) fn put(&mut self, number: u64) {
        let number = number.max(1);
        let more = number.ilog2();
        if more < LARGE {
            let rest = number ^ (1 << more);
            self.bits((rest << 1 | 1) << more, 2 * more + 1);
        } else {
            let (rest, low) = (number ^ (1 << more), more.min(HALF));
            self.bits(1 << LARGE, LARGE + 1);
            self.bits(u64::from(more), LENGTH);
            self.bits(rest & ((1 << low) - 1), low);
            self.bits(rest >> low, more - low);
        }
    }

    #[inline]
    fn bits(&mut self, bits: u64, many: u32) {
        self.word |= bits << self.held;
        self.held += many;
        while self.held >= 8 {
            self.bytes.push(self.word as u8);
            self.word >>= 8;
            self.held -= 8;
        }
    }

    /// Fills the last byte.
    pub(crate) fn end(self) {
        if self.held > 0 {
            self.bytes.push(self.word as u8);
        }
    }
}

/// Reads what a [`BitWriter`] wrote.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bits, and how many of them were taken from the bytes. Above those may be some that will be.
    word: u64,
    held: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, word: 0, held: 0 }
    }

    /// The next number; `None` at the end, and where bits make no sense.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<u64> {
        // No number that is not written out has as many bits.
        if self.held < 2 * LARGE {
            self.fill();
        }
        let more = self.word.trailing_zeros();
        if more < LARGE {
            let number = self.word >> (more + 1) & ((1 << more) - 1) | 1 << more;
            self.pass(2 * more + 1)?;
            return Some(number);
        }
        if more > LARGE {
            return None;
        }
        self.pass(LARGE + 1)?;
        let more = self.take(LENGTH)? as u32;
        let low = more.min(HALF);
        Some(self.take(low)? | self.take(more - low)? << low | 1 << more)
    }

    /// The next two numbers; `None` where there are not two more.
    #[inline]
    pub(crate) fn pair(&mut self) -> Option<(u64, u64)> {
        if self.held < PEEK {
            self.fill();
        }
        let Pair { numbers: [one, other], bits } = PAIRS[(self.word & ((1 << PEEK) - 1)) as usize];
        if bits > 0 && u32::from(bits) <= self.held {
            self.held -= u32::from(bits);
            self.word >>= bits;
            return Some((u64::from(one), u64::from(other)));
        }
        Some((self.next()?, self.next()?))
    }

    /// Whether everything was read, but for what fills the last byte.
    pub(crate) const fn is_over(&self) -> bool {
        self.bytes.is_empty() && self.held < 8 && self.word == 0
    }

    /// So many bits, at most [`HALF`].
    fn take(&mut self, many: u32) -> Option<u64> {
        self.fill();
        let bits = self.word & ((1 << many) - 1);
        self.pass(many)?;
        Some(bits)
    }

    #[inline]
    fn pass(&mut self, many: u32) -> Option<()> {
        self.held = self.held.checked_sub(many)?;
        self.word >>= many;
        Some(())
    }

    /// Takes as many whole bytes as there is room for.
    #[inline]
    fn fill(&mut self) {
        if let Some(word) = self.bytes.first_chunk() {
            self.word |= u64::from_le_bytes(*word) << self.held;
            let many = (u64::BITS - 1 - self.held) / 8;
            self.bytes = self.bytes.get(many as usize..).unwrap_or_default();
            self.held += many * 8;
            return;
        }
        while self.held <= u64::BITS - 8
            && let Some((byte, rest)) = self.bytes.split_first()
        {
            self.word |= u64::from(*byte) << self.held;
            self.held += 8;
            self.bytes = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(numbers: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        numbers.iter().for_each(|number| writer.put(*number));
        writer.end();
        bytes
    }

    #[test]
    fn small_numbers_take_few_bits() {
        assert_eq!(written(&[1; 16]).len(), 2);
        assert_eq!(written(&[2, 3, 1, 1]), [0b1111_0010]);
        assert_eq!(written(&[100_000]).len(), 5);
        assert_eq!(written(&[u64::MAX]).len(), 11);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in proptest::collection::vec(prop_oneof![1_u64..9, 1_u64..200_000, 1_u64..], 0..99),
        ) {
            let bytes = written(&numbers);
            let mut reader = BitReader::new(&bytes);
            for number in &numbers {
                prop_assert_eq!(reader.next(), Some(*number));
            }
            prop_assert_eq!(reader.next(), None);
            prop_assert!(reader.is_over());
        }

        #[test]
        fn two_at_a_time_are_the_same(
            numbers in proptest::collection::vec(prop_oneof![8 => 1_u64..9, 1 => 1_u64..], 0..99),
        ) {
            let bytes = written(&numbers);
            let mut reader = BitReader::new(&bytes);
            for pair in numbers.chunks_exact(2) {
                prop_assert_eq!(reader.pair(), Some((pair[0], pair[1])));
            }
            let is_odd = numbers.len() % 2 > 0;
            prop_assert_eq!(reader.is_over(), !is_odd);
            prop_assert_eq!(reader.pair(), None);
        }

        #[test]
        fn broken_bytes_end(bytes: Vec<u8>) {
            let mut reader = BitReader::new(&bytes);
            let read = std::iter::from_fn(|| reader.next()).count();
            prop_assert!(read <= 8 * bytes.len());
        }
    }
}
