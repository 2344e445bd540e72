//! A snapshot's file: magic, version, checksum and length, then what is stored.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use topology::SNAPSHOT_VERSION;

use crate::core::Frozen;

const MAGIC: [u8; 8] = *b"weftsnap";

/// Layout of what is around the graph, and of the graph.
const VERSION: u32 = 2 << 16 | SNAPSHOT_VERSION;

/// Magic, version, checksum, length.
const HEADER: usize = 8 + 4 + 4 + 8;

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

/// The bytes of a snapshot's file.
pub(super) fn write(stored: &Stored, size_hint: usize) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = Vec::with_capacity(size_hint + size_hint / 8 + 4096);
    bytes.resize(HEADER, 0);
    let mut bytes = postcard::to_extend(stored, bytes)?;
    seal(&mut bytes);
    Ok(bytes)
}
/// The bytes of a snapshot's file with these contents.
pub(super) fn sealed(contents: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes.extend_from_slice(contents);
    seal(&mut bytes);
    bytes
}

fn seal(bytes: &mut [u8]) {
    let Some((header, body)) = bytes.split_at_mut_checked(HEADER) else { return };
    let checksum = crc32fast::hash(body);
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
    header[16..].copy_from_slice(&(body.len() as u64).to_le_bytes());
}

pub(super) fn read(bytes: &[u8]) -> Result<Stored, FrameError> {
    let (magic, rest) = bytes.split_first_chunk().ok_or(FrameError::Magic)?;
    if *magic != MAGIC {
        return Err(FrameError::Magic);
    }
    let short = FrameError::Length(bytes.len() as u64, HEADER as u64);
    let (Some((version, rest)), true) = (rest.split_first_chunk(), bytes.len() >= HEADER) else {
        return Err(short);
    };
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
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
    match postcard::take_from_bytes(body) {
        Ok((stored, [])) => Ok(stored),
        Ok(_) => Err(FrameError::Contents(postcard::Error::DeserializeBadEncoding)),
        Err(error) => Err(FrameError::Contents(error)),
    }
}

#[cfg(test)]
mod tests;
