//! LEB128 and zigzag.

/// A varint that ends early or does not fit into 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    Truncated,
    Overflow,
}

/// Appends a number.
#[inline]
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off the front.
#[inline]
pub(super) fn take(from: &mut &[u8]) -> Result<u64, Bad> {
    match **from {
        [first, ref rest @ ..] if first < 0x80 => {
            *from = rest;
            Ok(u64::from(first))
        }
        _ => take_long(from),
    }
}

/// Bytes that are looked at at a time.
const WORD: usize = 8;

/// The highest bit of each byte of a word: not set in the last byte of a number.
const HIGHEST: u64 = 0x8080_8080_8080_8080;

/// A number of several bytes, which nearly all have their end in the next word.
fn take_long(from: &mut &[u8]) -> Result<u64, Bad> {
    let Some(word) = from.first_chunk().map(|word: &[u8; WORD]| u64::from_le_bytes(*word)) else {
        return take_slowly(from);
    };
    let last = !word & HIGHEST;
    if last == 0 {
        return take_slowly(from);
    }
    let bytes = last.trailing_zeros() / u8::BITS + 1;
    *from = &from[bytes as usize..];
    Ok(join(word & (u64::MAX >> (u64::BITS - bytes * u8::BITS))))
}

/// Seven bits of each byte, moved together.
#[inline]
fn join(bytes: u64) -> u64 {
    let bits = bytes & !HIGHEST;
    let bits = bits & 0x007f_007f_007f_007f | (bits & 0x7f00_7f00_7f00_7f00) >> 1;
    let bits = bits & 0x0000_3fff_0000_3fff | (bits & 0x3fff_0000_3fff_0000) >> 2;
    bits & 0x0fff_ffff | (bits & 0x0fff_ffff_0000_0000) >> 4
}

/// Reads every number of a column, a word of them at a time, in the place of what `out` had.
pub(super) fn take_all(mut column: &[u8], out: &mut Vec<u64>) -> Result<(), Bad> {
    let numbers = count(column);
    out.clear();
    out.resize(numbers, 0);
    let places = out.as_mut_slice();
    let mut at = 0;
    while let Some(bytes) = column.first_chunk::<WORD>() {
        let word = u64::from_le_bytes(*bytes);
        let mut ends = !word & HIGHEST;
        if ends == HIGHEST
            && let Some(eight) = places.get_mut(at..at + WORD)
        {
            eight.iter_mut().zip(bytes).for_each(|(place, byte)| *place = u64::from(*byte));
            (at, column) = (at + WORD, &column[WORD..]);
            continue;
        }
        if ends == 0 {
            place(places, &mut at, take_slowly(&mut column)?);
            continue;
        }
        let mut begin = 0;
        while ends != 0 {
            // All bits up to the end of this number, less those of the ones before it.
            place(places, &mut at, join((word & (ends ^ (ends - 1))) >> begin));
            begin = ends.trailing_zeros() + 1;
            ends &= ends - 1;
        }
        column = &column[(begin / u8::BITS) as usize..];
    }
    while !column.is_empty() {
        place(places, &mut at, take(&mut column)?);
    }
    Ok(())
}

/// Writes to the next place, of which there are as many as numbers.
#[inline]
fn place(places: &mut [u64], at: &mut usize, value: u64) {
    if let Some(place) = places.get_mut(*at) {
        *place = value;
        *at += 1;
    }
}

/// How many numbers end in these bytes.
pub(super) fn count(bytes: &[u8]) -> usize {
    // As many as a byte can count: so many bytes are compared and added up at a time as a processor can.
    let ends = |some: &[u8]| some.iter().map(|byte| u8::from(*byte < 0x80)).sum::<u8>();
    bytes.chunks(usize::from(u8::MAX)).map(|some| usize::from(ends(some))).sum()
}

#[cold]
fn take_slowly(from: &mut &[u8]) -> Result<u64, Bad> {
    let mut value = 0_u64;
    for (index, byte) in from.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for the highest bit only.
        if index > 9 || (index == 9 && bits > 1) {
            return Err(Bad::Overflow);
        }
        value |= bits << (index * 7);
        if *byte < 0x80 {
            *from = &from[index + 1..];
            return Ok(value);
        }
    }
    Err(Bad::Truncated)
}

/// Small numbers of either sign as small numbers.
#[inline]
pub(super) fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)) as u32)
}

/// Back from [`zigzag`].
#[inline]
pub(super) fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(value: u64, tail in any::<[u8; 3]>()) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            prop_assert!(bytes.len() <= 10);
            bytes.extend(tail);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(take(&mut rest), Ok(value));
            prop_assert_eq!(rest, tail.as_slice());
        }

        #[test]
        fn numbers_of_every_length_come_back(
            values in proptest::collection::vec((any::<u64>(), 0..64_u32), 0..20),
        ) {
            let values: Vec<u64> = values.into_iter().map(|(value, shift)| value >> shift).collect();
            let mut bytes = Vec::new();
            values.iter().for_each(|value| put(&mut bytes, *value));
            prop_assert_eq!(count(&bytes), values.len());
            let mut told = Vec::new();
            prop_assert_eq!(take_all(&bytes, &mut told), Ok(()));
            prop_assert_eq!(&told, &values);
            let mut rest = bytes.as_slice();
            for value in values {
                prop_assert_eq!(take(&mut rest), Ok(value));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn signs_come_back(value: i32) {
            prop_assert_eq!(unzigzag(zigzag(value)), i64::from(value));
        }

        #[test]
        fn any_bytes_are_a_number_or_an_error(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            let _ = take(&mut rest);
            prop_assert!(rest.len() <= bytes.len());
            let mut one_by_one = (Vec::new(), bytes.as_slice(), Ok(()));
            while !one_by_one.1.is_empty() && one_by_one.2.is_ok() {
                one_by_one.2 = take(&mut one_by_one.1).map(|value| one_by_one.0.push(value));
            }
            let mut told = Vec::new();
            let all = take_all(&bytes, &mut told);
            prop_assert_eq!(all, one_by_one.2);
            prop_assert!(all.is_err() || told == one_by_one.0);
        }
    }

    #[test]
    fn too_long_and_too_short_are_told_apart() {
        assert_eq!(take(&mut [0x80_u8; 3].as_slice()), Err(Bad::Truncated));
        assert_eq!(take(&mut [0xff_u8; 12].as_slice()), Err(Bad::Overflow));
    }
}
