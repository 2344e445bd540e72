//! The form of a segment: a magic number, then frames of length, checksum and contents.

use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::clock::Moment;

/// Begins each file; its last digit is the version.
pub(super) const MAGIC: [u8; 8] = *b"weftspl1";

/// Length and checksum.
const HEAD: usize = 4 + 4;

/// Kind, number, two clocks.
const FACTS: usize = 1 + 8 + 8 + 8;

/// Longest contents that are believed.
const LONGEST: usize = proto::MAX_MESSAGE_BYTES + FACTS;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A `Hello`: the first frame.
    Hello = 1,
    /// A batch of the preface.
    Preface = 2,
    /// A batch.
    Batch = 3,
}

impl Kind {
    const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Hello),
            2 => Some(Self::Preface),
            3 => Some(Self::Batch),
            _ => None,
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) seq: u64,
    pub(crate) ended: Moment,
    pub(crate) payload: Bytes,
}

/// Why a file cannot be read further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("it is no spool file of this version")]
    Magic,
    #[error("it ends within a frame")]
    Torn,
    #[error("a frame says that it is {0} bytes long")]
    Length(usize),
    #[error("the checksum of a frame is wrong")]
    Checksum,
    #[error("a frame is of the unknown kind {0}")]
    Kind(u8),
    #[error("its frames are not in order")]
    Order,
    #[error("a frame holds something else than it should: {0}")]
    Contents(#[from] prost::DecodeError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Frame {
    /// Writes it; returns how many bytes that were.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<u64> {
        let mut contents = Vec::with_capacity(HEAD + FACTS + self.payload.len());
        contents.resize(HEAD, 0);
        contents.push(self.kind as u8);
        contents.extend_from_slice(&self.seq.to_le_bytes());
        contents.extend_from_slice(&self.ended.boot_ns.to_le_bytes());
        contents.extend_from_slice(&self.ended.unix_ns.to_le_bytes());
        contents.extend_from_slice(&self.payload);
        let length = u32::try_from(contents.len() - HEAD).map_err(io::Error::other)?;
        let checksum = crc32fast::hash(&contents[HEAD..]);
        contents[..4].copy_from_slice(&length.to_le_bytes());
        contents[4..HEAD].copy_from_slice(&checksum.to_le_bytes());
        out.write_all(&contents)?;
        Ok(contents.len() as u64)
    }

    /// Reads the next; `None` at the end of the file.
    pub(crate) fn read(from: &mut impl Read) -> Result<Option<Self>, FrameError> {
        let mut head = [0; HEAD];
        match fill(from, &mut head)? {
            0 => return Ok(None),
            HEAD => {}
            _ => return Err(FrameError::Torn),
        }
        let [l0, l1, l2, l3, c0, c1, c2, c3] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if !(FACTS..=LONGEST).contains(&length) {
            return Err(FrameError::Length(length));
        }
        let mut contents = vec![0; length];
        if fill(from, &mut contents)? < length {
            return Err(FrameError::Torn);
        }
        if crc32fast::hash(&contents) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(FrameError::Checksum);
        }
        let contents = Bytes::from(contents);
        let number = |at: usize| {
            let bytes = contents.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let kind = Kind::of(contents[0]).ok_or(FrameError::Kind(contents[0]))?;
        let ended = Moment { boot_ns: number(9), unix_ns: number(17) };
        let (seq, payload) = (number(1), contents.slice(FACTS..));
        Ok(Some(Self { kind, seq, ended, payload }))
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
