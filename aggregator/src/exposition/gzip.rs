//! Pieces packed by gzip, as most who scrape ask for it.

use std::{io::Write, mem};

use flate2::{Compression, write::GzEncoder};

/// Bytes of a packed piece; that the encoder hands out at a time is more.
const PIECE: usize = 32 << 10;

/// As far as it is cheap: the default level, 6, packs text to four fifths of this, and takes four times as long.
const LEVEL: u32 = 2;

/// Packs pieces as they are asked for.
pub struct Gzip<I> {
    pieces: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I: Iterator<Item = Vec<u8>>> Gzip<I> {
    /// What the pieces are together.
    pub fn new(pieces: I) -> Self {
        Self {
            pieces,
            encoder: Some(GzEncoder::new(Vec::with_capacity(2 * PIECE), Compression::new(LEVEL))),
        }
    }
}

impl<I: Iterator<Item = Vec<u8>>> Iterator for Gzip<I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let encoder = self.encoder.as_mut()?;
        for piece in &mut self.pieces {
            // Writing to memory does not fail.
            encoder.write_all(&piece).ok()?;
            if encoder.get_ref().len() >= PIECE {
                return Some(mem::replace(encoder.get_mut(), Vec::with_capacity(2 * PIECE)));
            }
        }
        self.encoder.take()?.finish().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        // Some that packs well, and some that does not.
        let line = |number: u64| {
            let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("weft_edge_bytes_total{{client=\"svc-{}\"}} {random}\n", number % 7)
        };
        let piece =
            |number: u64| (0..1_000).map(|at| line(number * 1_000 + at)).collect::<String>();
        let pieces: Vec<Vec<u8>> = (0..40).map(|number| piece(number).into()).collect();
        let packed: Vec<Vec<u8>> = Gzip::new(pieces.iter().cloned()).collect();
        assert!(packed.len() > 3, "it is handed out as it comes");
        assert!(packed.iter().all(|piece| piece.len() < 8 * PIECE));
        let (packed, mut found) = (packed.concat(), Vec::new());
        assert!(packed.len() < pieces.concat().len() * 2 / 3);
        GzDecoder::new(&packed[..]).read_to_end(&mut found).unwrap();
        assert!(found == pieces.concat());
        let nothing: Vec<u8> = Gzip::new(std::iter::empty()).flatten().collect();
        assert_eq!(GzDecoder::new(&nothing[..]).read_to_end(&mut found).unwrap(), 0);
    }
}
