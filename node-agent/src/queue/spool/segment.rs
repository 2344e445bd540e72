//! One file of the spool. It can be delivered by itself: it begins with who wrote it and with
//! the preface of its first batch.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use prost::Message as _;
use proto::v1;

use super::frame::{Frame, FrameError, Kind, MAGIC};
use crate::{clock::Moment, queue::Entry};

/// Name of a segment's file: the session, and the batch before its first.
pub(super) fn file_name(session: u64, start: u64) -> String {
    format!("{session:016x}-{start:016x}.{EXTENSION}")
}

/// Of files that can be delivered.
pub(super) const EXTENSION: &str = "spool";

/// Session and start that a file's name tells.
pub(crate) fn parse_name(path: &Path) -> Option<(u64, u64)> {
    if path.extension()? != EXTENSION {
        return None;
    }
    let (session, start) = path.file_stem()?.to_str()?.split_once('-')?;
    Some((u64::from_str_radix(session, 16).ok()?, u64::from_str_radix(start, 16).ok()?))
}

/// Puts a file aside that cannot be read.
pub(crate) fn put_aside(path: &Path) {
    // When not even that works, it is found again at the next start.
    let _ = std::fs::rename(path, path.with_extension("bad"));
}

/// Writes a segment.
#[derive(Debug)]
pub(crate) struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    bytes: u64,
}

impl Writer {
    /// Begins a file with the batch after `start`, whose interval ended at `ended`.
    pub(crate) fn create(
        path: PathBuf,
        hello: &v1::Hello,
        (start, ended): (u64, Moment),
        preface: &[v1::Batch],
    ) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        // What is in there tells who talks to whom.
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let mut writer = Self { file: BufWriter::new(file), path, bytes: 0 };
        writer.file.write_all(&MAGIC)?;
        writer.bytes += MAGIC.len() as u64;
        let payload = hello.encode_to_vec().into();
        writer.frame(&Frame { kind: Kind::Hello, seq: start, ended, payload })?;
        for batch in preface {
            let payload = batch.encode_to_vec().into();
            writer.frame(&Frame { kind: Kind::Preface, seq: batch.seq, ended, payload })?;
        }
        Ok(writer)
    }

    /// Appends a batch.
    pub(crate) fn append(&mut self, entry: &Entry) -> std::io::Result<()> {
        let (seq, ended, payload) = (entry.seq, entry.ended, entry.bytes.clone());
        self.frame(&Frame { kind: Kind::Batch, seq, ended, payload })
    }

    fn frame(&mut self, frame: &Frame) -> std::io::Result<()> {
        let written = frame.write(&mut self.file)?;
        // A reader may follow, and a crash must not find it in a buffer of ours.
        self.file.flush()?;
        self.bytes += written;
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends a file whose last frame could not be written.
    pub(super) fn abandon(self) {
        let Self { file, path, bytes } = self;
        // Not to be written when it is dropped.
        drop(file.into_parts());
        // Cut or not: a reader stops at the torn frame.
        let _ = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(bytes));
    }
}

/// Reads a segment from its beginning.
#[derive(Debug)]
pub(crate) struct Reader {
    file: BufReader<File>,
    next: Option<Frame>,
    /// Who wrote it.
    pub(crate) hello: v1::Hello,
    /// The batch before its first, and when the interval of that ended.
    pub(crate) start: u64,
    pub(crate) start_ended: Moment,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self, FrameError> {
        let mut file = BufReader::new(File::open(path)?);
        let mut magic = [0; MAGIC.len()];
        let whole = file.read_exact(&mut magic);
        if whole.is_err() || magic != MAGIC {
            return Err(FrameError::Magic);
        }
        let first = Frame::read(&mut file)?.ok_or(FrameError::Torn)?;
        if first.kind != Kind::Hello {
            return Err(FrameError::Order);
        }
        let hello = v1::Hello::decode(first.payload)?;
        Ok(Self { file, next: None, hello, start: first.seq, start_ended: first.ended })
    }

    /// The batches of the preface. To be asked first.
    pub(crate) fn preface(&mut self) -> Result<Vec<v1::Batch>, FrameError> {
        let mut batches = Vec::new();
        while let Some(frame) = Frame::read(&mut self.file)? {
            if frame.kind != Kind::Preface {
                self.next = Some(frame);
                break;
            }
            batches.push(v1::Batch::decode(frame.payload)?);
        }
        Ok(batches)
    }

    /// The next batch; `None` at the end of what is written so far.
    pub(crate) fn batch(&mut self) -> Result<Option<Entry>, FrameError> {
        loop {
            let frame = match self.next.take() {
                Some(frame) => frame,
                None => match Frame::read(&mut self.file)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let Frame { kind, seq, ended, payload } = frame;
            match kind {
                Kind::Batch => return Ok(Some(Entry { seq, ended, bytes: payload })),
                Kind::Preface => {}
                Kind::Hello => return Err(FrameError::Order),
            }
        }
    }
}
