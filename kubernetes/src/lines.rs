//! Lines of a stream that comes in pieces.

/// What is kept of the room of a long line, in bytes.
const KEPT: usize = 16 << 10;

/// Puts pieces together, and takes them apart again where a line ends.
#[derive(Debug)]
pub struct Lines {
    longest: usize,
    begun: Vec<u8>,
    /// The line that has begun is too long.
    passing: bool,
}

impl Lines {
    /// Lines of so many bytes at most.
    #[must_use]
    pub fn new(longest: usize) -> Self {
        Self { longest, begun: Vec::new(), passing: false }
    }

    /// Takes a piece; `found` gets each line that it ends, if there is anything in it. Returns how many were too long.
    pub fn take(&mut self, bytes: &[u8], mut found: impl FnMut(&[u8])) -> u64 {
        let mut passed = 0;
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.begun.len() + piece.len() > self.longest {
                passed += u64::from(!std::mem::replace(&mut self.passing, true));
                self.begun = Vec::new();
            }
            if !self.passing {
                self.begun.extend_from_slice(piece);
            }
            if pieces.peek().is_some() {
                let line = self.begun.trim_ascii();
                if !self.passing && !line.is_empty() {
                    found(line);
                }
                self.begun.clear();
                self.begun.shrink_to(KEPT);
                self.passing = false;
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONGEST: usize = 64 << 10;

    fn lines(pieces: &[&[u8]]) -> (Vec<String>, u64) {
        let (mut lines, mut found, mut passed) = (Lines::new(LONGEST), Vec::new(), 0);
        for piece in pieces {
            passed += lines.take(piece, |line| found.push(String::from_utf8_lossy(line).into()));
        }
        (found, passed)
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        assert_eq!(lines(&[b"a", b"b\r\n\n", b"c\nd"]).0, ["ab", "c"]);
        assert_eq!(lines(&[b"a\nb\nc\n"]).0, ["a", "b", "c"]);
    }

    #[test]
    fn one_that_is_too_long_is_passed_over() {
        let long = vec![b'x'; LONGEST / 2 + 1];
        assert_eq!(
            lines(&[b"a\n", &long, &long, &long, b"\nb\n"]),
            (vec!["a".into(), "b".into()], 1)
        );
    }

    proptest! {
        #[test]
        fn where_the_pieces_are_cut_does_not_matter(
            text in prop::collection::vec(prop::sample::select(b"ab\n\r ".to_vec()), 0..40),
            cut in 1_usize..10,
        ) {
            let pieces: Vec<&[u8]> = text.chunks(cut).collect();
            prop_assert_eq!(lines(&pieces), lines(&[&text]));
        }
    }
}
