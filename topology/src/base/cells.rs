//! Counts of neighbouring buckets, side by side, each as wide as the largest of them needs.
//!
//! The samples of a histogram lie close together, and most counts are small: a byte each takes an eighth of what
//! pairs of bucket and count do, and a bucket is found without a search.

/// Buckets begin and end at multiples of this, so that the same bucket is at the same place of a word in any two
/// histograms of one width.
const BLOCK: u16 = 8;

/// Bytes that are looked at at a time.
const WORD: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Cells {
    /// Little-endian counts of `width` bytes each. Not all of them are 0.
    bytes: Vec<u8>,
    /// Bucket of the first count.
    first: u16,
    /// 1, 2, 4 or 8.
    width: u8,
}

impl Default for Cells {
    fn default() -> Self {
        Cells { bytes: Vec::new(), first: 0, width: 1 }
    }
}

impl Cells {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets everything, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.width = 1;
    }

    /// The counts as they lie in memory, with the bucket of the first and the width of each.
    pub(super) fn parts(&self) -> (u16, u8, &[u8]) {
        (self.first, self.width, &self.bytes)
    }

    /// Back from [`parts`](Self::parts); `None` for what no counts of at most `most` up to bucket `last` can be.
    pub(super) fn of_parts(
        (first, width, bytes): (u16, u8, Vec<u8>),
        last: u16,
        most: u64,
    ) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Cells::default());
        }
        let block = usize::from(BLOCK) * usize::from(width);
        let whole = [1, 2, 4, 8].contains(&width) && bytes.len().is_multiple_of(block);
        if !whole || !first.is_multiple_of(BLOCK) {
            return None;
        }
        let cells = Cells { bytes, first, width };
        let fits = |(bucket, count): (u16, u64)| bucket <= last && count <= most;
        let reaches = usize::from(first) + cells.cells() <= usize::from((last / BLOCK + 1) * BLOCK);
        (reaches && cells.iter().next().is_some() && cells.iter().all(fits)).then_some(cells)
    }

    /// Counts of neighbouring buckets, from this one on, in as much memory as they need.
    pub(super) fn of_counts(first: u16, counts: &[u64]) -> Self {
        let most = counts.iter().copied().max().unwrap_or_default();
        if most == 0 {
            return Cells::default();
        }
        let width = width_of(1, most);
        let begin = first / BLOCK * BLOCK;
        let before = usize::from(first - begin);
        let cells = (before + counts.len()).next_multiple_of(usize::from(BLOCK));
        let bytes = vec![0; cells * usize::from(width)];
        let mut cells = Cells { bytes, first: begin, width };
        for (at, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            cells.set(before + at, *count);
        }
        cells
    }

    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    fn cells(&self) -> usize {
        // What a division by 1, 2, 4 or 8 is.
        self.bytes.len() >> self.width.trailing_zeros()
    }

    /// The count of a cell, 0 where there is none.
    #[inline]
    fn at(&self, cell: usize) -> u64 {
        let bytes = &self.bytes;
        match self.width {
            1 => bytes.get(cell).map(|count| u64::from(*count)),
            2 => bytes.as_chunks().0.get(cell).map(|count| u64::from(u16::from_le_bytes(*count))),
            4 => bytes.as_chunks().0.get(cell).map(|count| u64::from(u32::from_le_bytes(*count))),
            _ => bytes.as_chunks().0.get(cell).map(|count| u64::from_le_bytes(*count)),
        }
        .unwrap_or(0)
    }

    /// Writes a count that fits.
    #[inline]
    fn set(&mut self, cell: usize, count: u64) {
        let bytes = &mut self.bytes;
        match self.width {
            1 => bytes.get_mut(cell).map(|to| *to = count as u8),
            2 => bytes.as_chunks_mut().0.get_mut(cell).map(|to| *to = (count as u16).to_le_bytes()),
            4 => bytes.as_chunks_mut().0.get_mut(cell).map(|to| *to = (count as u32).to_le_bytes()),
            _ => bytes.as_chunks_mut().0.get_mut(cell).map(|to| *to = count.to_le_bytes()),
        };
    }

    /// Where a bucket is; not below the number of cells where it is in none.
    #[inline]
    fn cell(&self, bucket: u16) -> usize {
        // One before the first wraps to far beyond the last.
        usize::from(bucket.wrapping_sub(self.first))
    }

    #[inline]
    pub(super) fn get(&self, bucket: u16) -> u64 {
        self.at(self.cell(bucket))
    }

    /// Reads what [`add`](Self::add) would write to, for the memory's sake.
    #[inline]
    pub(super) fn see(&self, bucket: u16) -> u8 {
        let at = self.cell(bucket) << self.width.trailing_zeros();
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// Adds to a bucket, up to `most`.
    #[inline]
    pub(super) fn add(&mut self, bucket: u16, count: u64, most: u64) {
        let cell = self.cell(bucket);
        // Nearly always there is a cell, of a byte or two, and room in it.
        let is_added = match self.width {
            1 => self.bytes.get_mut(cell).is_some_and(|to| {
                let sum = u64::from(*to).checked_add(count).filter(|sum| *sum <= most);
                sum.and_then(|sum| u8::try_from(sum).ok()).map(|sum| *to = sum).is_some()
            }),
            2 => self.bytes.as_chunks_mut().0.get_mut(cell).is_some_and(|to| {
                let sum = u64::from(u16::from_le_bytes(*to)).checked_add(count);
                let sum = sum.filter(|sum| *sum <= most).and_then(|sum| u16::try_from(sum).ok());
                sum.map(|sum| *to = sum.to_le_bytes()).is_some()
            }),
            _ => false,
        };
        if !is_added {
            self.add_anywhere(bucket, count, most);
        }
    }

    #[cold]
    fn add_anywhere(&mut self, bucket: u16, count: u64, most: u64) {
        if count == 0 {
            return;
        }
        let mut cell = self.cell(bucket);
        if cell >= self.cells() {
            self.reach(bucket);
            cell = self.cell(bucket);
        }
        let sum = self.at(cell).saturating_add(count).min(most);
        if sum >> (u32::from(self.width) * 8 - 1) > 1 {
            self.widen(sum);
        }
        self.set(cell, sum);
    }

    /// Makes room for a bucket.
    #[cold]
    fn reach(&mut self, bucket: u16) {
        let block = bucket / BLOCK * BLOCK;
        let width = usize::from(self.width);
        if self.bytes.is_empty() {
            self.first = block;
        }
        let before = usize::from(self.first.saturating_sub(block)) * width;
        if before > 0 {
            self.bytes.reserve_exact(before);
            self.bytes.splice(0..0, std::iter::repeat_n(0, before));
            self.first = block;
        }
        let length = (usize::from(block - self.first) + usize::from(BLOCK)) * width;
        if length > self.bytes.len() {
            self.bytes.reserve_exact(length - self.bytes.len());
            self.bytes.resize(length, 0);
        }
    }

    /// Makes the counts wide enough for this one.
    #[cold]
    fn widen(&mut self, count: u64) {
        let width = width_of(self.width, count);
        let mut wider =
            Cells { bytes: vec![0; self.cells() * usize::from(width)], first: self.first, width };
        for cell in 0..self.cells() {
            wider.set(cell, self.at(cell));
        }
        *self = wider;
    }

    /// Buckets and their counts, ascending, none of them 0.
    #[inline]
    pub(super) fn iter(&self) -> Iter<'_> {
        Iter {
            words: self.bytes.as_chunks().0,
            word: 0,
            begin: self.first,
            next: self.first,
            width: self.width,
        }
    }

    /// The sum of all counts.
    pub(super) fn sum(&self) -> u64 {
        let bytes = &self.bytes;
        match self.width {
            1 => bytes.iter().map(|count| u64::from(*count)).sum(),
            2 => {
                bytes.as_chunks().0.iter().map(|count| u64::from(u16::from_le_bytes(*count))).sum()
            }
            4 => {
                bytes.as_chunks().0.iter().map(|count| u64::from(u32::from_le_bytes(*count))).sum()
            }
            _ => bytes.as_chunks().0.iter().map(|count| u64::from_le_bytes(*count)).sum(),
        }
    }

    /// The counts of the block that begins at a bucket.
    fn block(&self, begin: u16) -> [u64; BLOCK as usize] {
        let first = self.cell(begin);
        std::array::from_fn(|at| self.at(first + at))
    }

    /// Tells of every bucket by how much `one` and `other` together are beyond `less`; false when `less` has more
    /// anywhere, whatever was told by then. Together they have no more than `most`.
    pub(super) fn beyond(
        one: &Cells,
        other: Option<&Cells>,
        less: &Cells,
        most: u64,
        mut tell: impl FnMut(u16, u64),
    ) -> bool {
        let nothing = Cells::default();
        let other = other.unwrap_or(&nothing);
        let all = [one, other, less];
        let all = || all.iter().filter(|cells| !cells.is_empty());
        let Some(first) = all().map(|cells| cells.first).min() else { return true };
        let end = all().map(|cells| cells.first + cells.cells() as u16).max().unwrap_or(first);
        if all().all(|cells| cells.width == less.width) {
            let span = Span { first, width: less.width };
            let (ours, more, theirs) = (span.words(one), span.words(other), span.words(less));
            for at in 0..usize::from(end - first) * usize::from(span.width) / WORD {
                let (a, b, c) = (ours.get(at), more.get(at), theirs.get(at));
                if !span.beyond(at, [a, b, c], most, &mut tell) {
                    return false;
                }
            }
            return true;
        }
        for begin in (first..end).step_by(usize::from(BLOCK)) {
            let (ours, more, theirs) = (one.block(begin), other.block(begin), less.block(begin));
            for at in 0..usize::from(BLOCK) {
                let counts = [ours[at], more[at], theirs[at]];
                if !beyond(begin + at as u16, counts, most, &mut tell) {
                    return false;
                }
            }
        }
        true
    }
}

/// The least width, from one on, that a count fits into.
fn width_of(mut width: u8, count: u64) -> u8 {
    while count >> (u32::from(width) * 8 - 1) > 1 {
        width *= 2;
    }
    width
}

/// The same for one bucket.
#[inline]
fn beyond(
    bucket: u16,
    [one, other, less]: [u64; 3],
    most: u64,
    tell: impl FnOnce(u16, u64),
) -> bool {
    match one.saturating_add(other).min(most).checked_sub(less) {
        Some(0) => true,
        Some(more) => {
            tell(bucket, more);
            true
        }
        None => false,
    }
}

/// Where histograms of one width are looked at a word at a time.
struct Span {
    /// Bucket of the first count of the first word.
    first: u16,
    width: u8,
}

/// The words of one of them, and how many words of the span come before.
struct Words<'a> {
    words: &'a [[u8; WORD]],
    before: usize,
}

impl Words<'_> {
    #[inline]
    fn get(&self, at: usize) -> u64 {
        // One before the first wraps to far beyond the last.
        self.words.get(at.wrapping_sub(self.before)).map_or(0, |word| u64::from_le_bytes(*word))
    }
}

impl Span {
    fn words<'a>(&self, cells: &'a Cells) -> Words<'a> {
        let before = usize::from(cells.first.wrapping_sub(self.first));
        Words { words: cells.bytes.as_chunks().0, before: before * usize::from(self.width) / WORD }
    }

    #[inline]
    fn beyond(
        &self,
        at: usize,
        [one, other, less]: [u64; 3],
        most: u64,
        tell: &mut impl FnMut(u16, u64),
    ) -> bool {
        let bits = u32::from(self.width) * 8;
        let mask = u64::MAX >> (64 - bits);
        // The highest bit of each count: where neither has one, sums of counts do not run into each other.
        let highest = (u64::MAX / mask) << (bits - 1);
        let differing = if one == 0 || other == 0 || (one | other) & highest == 0 {
            one.wrapping_add(other) ^ less
        } else {
            u64::MAX
        };
        if differing == 0 {
            return true;
        }
        let begin = self.first + (at * WORD) as u16 / u16::from(self.width);
        (0..WORD as u32 / u32::from(self.width)).all(|lane| {
            let count = |word: u64| word >> (lane * bits) & mask;
            let counts = [count(one), count(other), count(less)];
            count(differing) == 0 || beyond(begin + lane as u16, counts, most, &mut *tell)
        })
    }
}

#[derive(Clone)]
pub(super) struct Iter<'a> {
    words: &'a [[u8; WORD]],
    /// What is left of the word that was begun, its next count lowest.
    word: u64,
    /// Bucket of its next count.
    begin: u16,
    /// Bucket of the first count of the next word.
    next: u16,
    width: u8,
}

impl Iterator for Iter<'_> {
    type Item = (u16, u64);

    #[inline]
    fn next(&mut self) -> Option<(u16, u64)> {
        let bits = u32::from(self.width) * 8;
        while self.word == 0 {
            let (word, words) = self.words.split_first()?;
            self.words = words;
            self.word = u64::from_le_bytes(*word);
            self.begin = self.next;
            self.next += (WORD as u16) / u16::from(self.width);
        }
        let skipped = self.word.trailing_zeros() / bits;
        let rest = self.word >> (skipped * bits);
        let bucket = self.begin + skipped as u16;
        let count = rest & (u64::MAX >> (64 - bits));
        self.word = if bits == 64 { 0 } else { rest >> bits };
        self.begin = bucket + 1;
        Some((bucket, count))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Counts of every width.
    fn entries() -> impl Strategy<Value = Vec<(u16, u64)>> {
        let count =
            (any::<u64>(), prop_oneof![Just(60_u32), Just(50), Just(40), Just(20), Just(9)]);
        let count = count.prop_map(|(count, shift)| (count >> shift) + 1);
        proptest::collection::vec((0_u16..320, count), 0..30)
    }

    fn of(entries: &[(u16, u64)]) -> (Cells, BTreeMap<u16, u64>) {
        let (mut cells, mut plain) = (Cells::default(), BTreeMap::new());
        for (bucket, count) in entries {
            cells.add(*bucket, *count, u64::MAX >> 1);
            *plain.entry(*bucket).or_insert(0) += count;
        }
        (cells, plain)
    }

    proptest! {
        #[test]
        fn cells_come_back_from_their_parts(entries in entries()) {
            let cells = of(&entries).0;
            let most = u64::MAX >> 1;
            let (first, width, bytes) = cells.parts();
            let parts = |first, width, times| (first, width, bytes.repeat(times));
            let back = Cells::of_parts(parts(first, width, 1), 319, most).unwrap();
            prop_assert!(back.iter().eq(cells.iter()));
            for wrong in [parts(first + 1, width, 1), parts(first, 3, 1), parts(312, width, 2)] {
                prop_assert!(bytes.is_empty() || Cells::of_parts(wrong, 319, most).is_none());
            }
        }

        #[test]
        fn any_parts_are_cells_or_nothing(first: u16, width: u8, bytes: Vec<u8>) {
            for first in [first, first % 320 / BLOCK * BLOCK] {
                if let Some(cells) = Cells::of_parts((first, width, bytes.clone()), 319, 99) {
                    prop_assert!(cells.iter().all(|(bucket, count)| bucket < 320 && count <= 99));
                    prop_assert_eq!(cells.is_empty(), bytes.is_empty());
                }
            }
        }

        #[test]
        fn cells_are_a_map(entries in entries()) {
            let (cells, plain) = of(&entries);
            prop_assert!(cells.iter().eq(plain.iter().map(|(bucket, count)| (*bucket, *count))));
            prop_assert_eq!(cells.sum(), plain.values().sum::<u64>());
            prop_assert_eq!(cells.is_empty(), plain.is_empty());
            for bucket in 0..320 {
                prop_assert_eq!(cells.get(bucket), plain.get(&bucket).copied().unwrap_or(0));
            }
        }

        #[test]
        fn what_is_beyond_is_told(one in entries(), other in entries(), more in entries()) {
            // What was told before is what there is now without `more`.
            let less = [one.clone(), other.clone()].concat();
            let longer = [one.clone(), more.clone()].concat();
            let (less, (_, expected)) = (of(&less).0, of(&more));
            let mut told = BTreeMap::new();
            let fits = Cells::beyond(&of(&longer).0, Some(&of(&other).0), &less, u64::MAX, |bucket, count| {
                told.insert(bucket, count);
            });
            prop_assert!(fits);
            prop_assert_eq!(told, expected);
            let falls = !Cells::beyond(&of(&one).0, Some(&of(&other).0), &of(&[less.iter().collect(), more.clone()].concat()).0, u64::MAX, |_, _| {});
            prop_assert_eq!(falls, !more.is_empty());
        }

        #[test]
        fn what_is_anywhere_else_is_told_too(one in entries(), other in entries(), less in entries()) {
            let ((one, a), (other, b), (less, c)) = (of(&one), of(&other), of(&less));
            let get = |map: &BTreeMap<u16, u64>, bucket| map.get(&bucket).copied().unwrap_or(0);
            let mut told = BTreeMap::new();
            let fits = Cells::beyond(&one, Some(&other), &less, u64::MAX, |bucket, count| {
                told.insert(bucket, count);
            });
            let sum = |bucket: u16| get(&a, bucket) + get(&b, bucket);
            prop_assert_eq!(fits, (0..320).all(|bucket| sum(bucket) >= get(&c, bucket)));
            if fits {
                for bucket in 0..320 {
                    prop_assert_eq!(get(&told, bucket), sum(bucket) - get(&c, bucket));
                }
            }
        }
    }
}
