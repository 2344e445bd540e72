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
        }

        #[test]
        fn broken_bytes_end(bytes: Vec<u8>) {
            let mut reader = BitReader::new(&bytes);
            let read = std::iter::from_fn(|| reader.next()).count();
            prop_assert!(read <= 8 * bytes.len());
        }
    }
}
