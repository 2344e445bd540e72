//! A snapshot's file: magic, version, checksum and length, then what is stored.

use std::io::{self, BufWriter, Seek, Write};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use topology::SNAPSHOT_VERSION;

use crate::core::Frozen;

const MAGIC: [u8; 8] = *b"weftsnap";

/// Layout of what is around the graph.
const AROUND: u32 = 3;

/// The same, and layout of the graph.
const VERSION: u32 = AROUND << 16 | SNAPSHOT_VERSION;

/// Magic, version, checksum, length.
const HEADER: usize = 8 + 4 + 4 + 8;

/// Bytes that are written at a time.
const GATHERED: usize = 64 << 10;

/// What is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    /// Random number of the state.
    pub(super) instance: u64,
    /// Position in the journal of what comes after it.
    pub(super) position: u64,
    /// The state.
    pub(super) state: Frozen,
}

/// Why a file is not a snapshot.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum FrameError {
    #[error("it is no snapshot")]
    Magic,
    #[error("its layout is {0:#x}, this version reads {VERSION:#x}")]
    Version(u32),
    #[error("it is {0} bytes long instead of {1}")]
    Length(u64, u64),
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its contents make no sense: {0}")]
    Contents(postcard::Error),
}

/// Writes a snapshot's file; returns how long it is. It is never in memory as a whole: what a large block leaves behind when
/// it is freed, the allocator keeps.
pub(super) fn write_to(stored: &Stored, file: &mut (impl Write + Seek)) -> io::Result<u64> {
    file.write_all(&[0; HEADER])?;
    let (checksum, length) = write_body(stored, file)?;
    file.rewind()?;
    file.write_all(&header(checksum, length))?;
    Ok(HEADER as u64 + length)
}

fn write_body(stored: &Stored, file: &mut impl Write) -> io::Result<(u32, u64)> {
    let mut body = Body { file, checksum: crc32fast::Hasher::new(), length: 0, failed: None };
    // Numbers come one at a time: they are gathered before anything is done about them.
    let gathered = BufWriter::with_capacity(GATHERED, &mut body);
    let written = postcard::to_io(stored, gathered).map(drop);
    if let Some(error) = body.failed {
        return Err(error);
    }
    written.map_err(io::Error::other)?;
    Ok((body.checksum.finalize(), body.length))
}

/// The bytes of a snapshot's file.
pub(super) fn write(stored: &Stored) -> io::Result<Vec<u8>> {
    let mut file = io::Cursor::new(Vec::new());
    write_to(stored, &mut file)?;
    Ok(file.into_inner())
}

/// What follows the header, on its way.
struct Body<W: Write> {
    file: W,
    checksum: crc32fast::Hasher,
    length: u64,
    /// Why it could not be written; who serialises does not tell.
    failed: Option<io::Error>,
}

impl<W: Write> Write for Body<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.file.write_all(bytes) {
            let kind = error.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        self.checksum.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn header(checksum: u32, length: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
    header[16..].copy_from_slice(&length.to_le_bytes());
    header
}

/// The bytes of a snapshot's file with these contents.
pub(super) fn sealed(contents: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes.extend_from_slice(contents);
    seal(&mut bytes);
    bytes
}

fn seal(bytes: &mut [u8]) {
    let Some((head, body)) = bytes.split_at_mut_checked(HEADER) else { return };
    head.copy_from_slice(&header(crc32fast::hash(body), body.len() as u64));
}

pub(super) fn read(bytes: &[u8]) -> Result<Stored, FrameError> {
    let body = body(bytes, |version| version == VERSION)?;
    match postcard::take_from_bytes(body) {
        Ok((stored, [])) => Ok(stored),
        Ok(_) => Err(FrameError::Contents(postcard::Error::DeserializeBadEncoding)),
        Err(error) => Err(FrameError::Contents(error)),
    }
}

/// Random number of the state of a snapshot whose graph may have another layout.
pub(super) fn instance(bytes: &[u8]) -> Result<u64, FrameError> {
    let body = body(bytes, |version| version >> 16 == AROUND)?;
    // The first field of what is stored.
    postcard::take_from_bytes(body).map(|(instance, _)| instance).map_err(FrameError::Contents)
}

/// What follows the header of a file that is whole, and of a layout that is read.
fn body(bytes: &[u8], is_read: impl Fn(u32) -> bool) -> Result<&[u8], FrameError> {
    let (magic, rest) = bytes.split_first_chunk().ok_or(FrameError::Magic)?;
    if *magic != MAGIC {
        return Err(FrameError::Magic);
    }
    let short = FrameError::Length(bytes.len() as u64, HEADER as u64);
    let (Some((version, rest)), true) = (rest.split_first_chunk(), bytes.len() >= HEADER) else {
        return Err(short);
    };
    let version = u32::from_le_bytes(*version);
    if !is_read(version) {
        return Err(FrameError::Version(version));
    }
    let Some((checksum, rest)) = rest.split_first_chunk() else { return Err(short) };
    let Some((length, body)) = rest.split_first_chunk() else { return Err(short) };
    let length = u64::from_le_bytes(*length);
    if length != body.len() as u64 {
        return Err(FrameError::Length(body.len() as u64, length));
    }
    if u32::from_le_bytes(*checksum) != crc32fast::hash(body) {
        return Err(FrameError::Checksum);
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
