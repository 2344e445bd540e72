//! Files for batches that memory has no room for.
//!
//! The files of a session follow one another: each begins with the preface of its first batch, so
//! that the oldest can be removed at any time, and a process that comes after a crash can deliver
//! them. Nothing is synced: a crash of the agent loses no byte of it, a crash of the host ends
//! what the kernel counted, too.
//!
//! When the disk is full, cannot be written or holds garbage, the agent says so once and does
//! without.

pub(super) mod frame;
pub(super) mod segment;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proto::v1;

use super::{Entry, Folded, Preface};
use crate::clock::Moment;
use frame::FrameError;
use segment::{Reader, Writer};

/// A session's part of the room is cut into this many files: so much goes at once when there is
/// no more.
const SEGMENTS: u64 = 8;

/// A disk that takes longer than this for one batch is too slow. Looking at the kernel waits for it: what is counted there
/// meanwhile is told later.
const SLOW: Duration = Duration::from_secs(1);

/// After a failure nothing is written for this long.
const PAUSE: Duration = Duration::from_secs(10);

/// A file: batches `start + 1` to `last`.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    start: u64,
    last: u64,
    bytes: u64,
    /// When the interval ended of the batch before, and of the last.
    began: Moment,
    ended: Moment,
}

/// The files of this session.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    max_bytes: u64,
    hello: v1::Hello,
    segments: VecDeque<Segment>,
    /// Of the last segment, while there is more room in it.
    writer: Option<Writer>,
    /// Bytes of its preface, which batches are to outweigh.
    preface_bytes: u64,
    /// Of one segment, and the batch it comes to next.
    reader: Option<(Reader, u64)>,
    leftover: Arc<Leftovers>,
    paused: Option<Moment>,
    failures: u64,
    broken: bool,
    /// Batches for which the disk was too slow; and whether that was said.
    slow: u64,
    slow_said: bool,
}

/// What is known of the files that earlier sessions left.
#[derive(Debug, Default)]
pub struct Leftovers {
    pub(super) bytes: AtomicU64,
    pub(super) unreadable: AtomicU64,
}

impl Spool {
    /// Files in `dir`, of at most `max_bytes` together with what earlier sessions left.
    #[must_use]
    pub fn new(dir: PathBuf, max_bytes: u64, hello: v1::Hello, leftover: Arc<Leftovers>) -> Self {
        Self {
            dir,
            max_bytes,
            hello,
            segments: VecDeque::new(),
            writer: None,
            preface_bytes: 0,
            reader: None,
            leftover,
            paused: None,
            failures: 0,
            broken: false,
            slow: 0,
            slow_said: false,
        }
    }

    /// Appends a batch, after a preface when it begins a file. `left` is when the interval of the
    /// batch before it ended. Returns whether it is written.
    pub(super) fn append(
        &mut self,
        entry: &Entry,
        left: Moment,
        preface: impl FnOnce() -> Vec<v1::Batch>,
    ) -> bool {
        self.write(|spool| spool.try_append(entry, left, preface))
    }

    /// Keeps the end of another session: a preface that tells all of it. Returns whether it is written.
    pub fn keep(&mut self, preface: &[v1::Batch]) -> bool {
        let Some(last) = preface.last() else { return true };
        self.write(|spool| spool.begin(last.seq, Moment::now(), preface))
    }

    /// Writes, unless there is no room or it has just failed. Returns whether it is written.
    fn write(&mut self, write: impl FnOnce(&mut Self) -> std::io::Result<()>) -> bool {
        let now = Moment::now();
        let pause = PAUSE.as_nanos() as u64;
        let paused = self.paused.is_some_and(|since| now.since(&since) < pause);
        if paused || self.leftover.bytes.load(Ordering::Relaxed) >= self.max_bytes {
            return false;
        }
        let written = write(self);
        self.note_time(Duration::from_nanos(Moment::now().since(&now)));
        match written {
            Ok(()) => {
                self.paused = None;
                if std::mem::take(&mut self.broken) {
                    tracing::info!(dir = %self.dir.display(), "the spool can be written again");
                }
                true
            }
            Err(error) => {
                self.failures += 1;
                self.paused = Some(now);
                if let Some(writer) = self.writer.take() {
                    writer.abandon();
                }
                if !std::mem::replace(&mut self.broken, true) {
                    let dir = self.dir.display();
                    tracing::warn!(%dir, "cannot write to the spool, going on in memory: {error}");
                }
                false
            }
        }
    }

    fn note_time(&mut self, took: Duration) {
        let slow = took >= SLOW;
        self.slow += u64::from(slow);
        if slow && !self.slow_said {
            let (dir, took_s) = (self.dir.display(), took.as_secs());
            tracing::warn!(%dir, took_s, "the disk of the spool is slow, reports wait for it");
        }
        self.slow_said = slow;
    }

    fn try_append(
        &mut self,
        entry: &Entry,
        left: Moment,
        preface: impl FnOnce() -> Vec<v1::Batch>,
    ) -> std::io::Result<()> {
        let follows = self.segments.back().is_some_and(|last| last.last + 1 == entry.seq);
        let full = (self.max_bytes / SEGMENTS).max(2 * self.preface_bytes);
        let open = self.writer.as_ref().is_some_and(|writer| follows && writer.bytes() < full);
        if !open {
            self.begin(entry.seq - 1, left, &preface())?;
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let written = writer.append(entry);
        let bytes = writer.bytes();
        if let Some(segment) = self.segments.back_mut() {
            segment.bytes = bytes;
            if written.is_ok() {
                (segment.last, segment.ended) = (entry.seq, entry.ended);
            }
        }
        written
    }

    /// Begins a file with the batch after `start`, the interval of which ended at `left`.
    fn begin(&mut self, start: u64, left: Moment, preface: &[v1::Batch]) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let path = self.dir.join(segment::file_name(self.hello.session, start));
        let made = Writer::create(path.clone(), &self.hello, (start, left), preface);
        let writer = made.inspect_err(|_| {
            // Nobody is to find half a preface.
            let _ = std::fs::remove_file(&path);
        })?;
        let bytes = writer.bytes();
        self.preface_bytes = bytes;
        self.writer = Some(writer);
        let (last, began, ended) = (start, left, left);
        self.segments.push_back(Segment { path, start, last, bytes, began, ended });
        Ok(())
    }

    /// Removes the oldest files until the rest is within bounds.
    pub(super) fn trim(&mut self, acked: u64, folded: &mut Folded) {
        while self.bytes() > self.max_bytes {
            let Some(oldest) = self.remove_first() else { break };
            fold(&oldest, acked, folded);
        }
    }

    /// Every batch up to this one is taken over.
    pub(super) fn acked(&mut self, seq: u64) {
        while self.segments.front().is_some_and(|first| first.last <= seq) {
            self.remove_first();
        }
    }

    fn remove_first(&mut self) -> Option<Segment> {
        let first = self.segments.pop_front()?;
        if self.segments.is_empty() {
            self.writer = None;
        }
        if let Err(error) = std::fs::remove_file(&first.path) {
            self.failures += 1;
            tracing::warn!(file = %first.path.display(), "cannot remove a spool file: {error}");
        }
        Some(first)
    }

    /// Reads a batch; `None` when it is not here, or not to be read.
    pub(super) fn read(&mut self, seq: u64, folded: &mut Folded) -> Option<Entry> {
        let at = self.segments.iter().position(|s| (s.start + 1..=s.last).contains(&seq))?;
        match self.try_read(at, seq) {
            Ok(entry) => Some(entry),
            Err(error) => {
                self.quarantine(at, seq - 1, &error, folded);
                None
            }
        }
    }

    fn try_read(&mut self, at: usize, seq: u64) -> Result<Entry, FrameError> {
        let start = self.segments.get(at).map(|segment| segment.start);
        let mut reader = match self.reader.take() {
            Some((reader, next)) if next == seq && Some(reader.start) == start => reader,
            _ => {
                let mut reader = self.open(at)?;
                reader.preface()?;
                reader
            }
        };
        loop {
            let entry = reader.batch()?.ok_or(FrameError::Torn)?;
            if entry.seq < seq {
                continue;
            }
            if entry.seq > seq {
                return Err(FrameError::Order);
            }
            let more = self.segments.get(at).is_some_and(|segment| segment.last > seq);
            // The next may be appended only after this one has been read.
            let appending = at + 1 == self.segments.len() && self.writer.is_some();
            self.reader = (more || appending).then_some((reader, seq + 1));
            return Ok(entry);
        }
    }

    fn open(&self, at: usize) -> Result<Reader, FrameError> {
        let segment = self.segments.get(at).ok_or(FrameError::Torn)?;
        Reader::open(&segment.path)
    }

    /// The preface of the first file that begins at `from` or later or has a batch from there on;
    /// and the number of the batch after it.
    pub(super) fn preface(&mut self, from: u64, folded: &mut Folded) -> Option<(Preface, u64)> {
        self.reader = None;
        loop {
            let at = self.segments.iter().position(|segment| segment.last >= from)?;
            let preface = self.open(at).and_then(|mut reader| Ok((reader.preface()?, reader)));
            match preface {
                Ok((batches, reader)) => {
                    let next = self.segments.get(at)?.start + 1;
                    let ended = reader.start_ended;
                    self.reader = Some((reader, next));
                    return Some((Preface { batches: batches.into(), ended }, next));
                }
                Err(error) => self.quarantine(at, from.saturating_sub(1), &error, folded),
            }
        }
    }

    /// Puts a file aside; what it held after a batch is gone.
    fn quarantine(&mut self, at: usize, read: u64, error: &FrameError, folded: &mut Folded) {
        let Some(segment) = self.segments.remove(at) else { return };
        if at == self.segments.len() {
            self.writer = None;
        }
        self.reader = None;
        self.leftover.unreadable.fetch_add(1, Ordering::Relaxed);
        fold(&segment, read, folded);
        tracing::warn!(file = %segment.path.display(), "a spool file is put aside: {error}");
        segment::put_aside(&segment.path);
    }

    /// The batch before the oldest one here.
    pub(super) fn start(&self) -> Option<u64> {
        self.segments.front().map(|first| first.start)
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        let own: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        own + self.leftover.bytes.load(Ordering::Relaxed)
    }

    /// Failures to write or remove a file.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// Batches for which the disk was too slow.
    pub(super) fn slow(&self) -> u64 {
        self.slow
    }

    /// Files put aside, those of earlier sessions included.
    pub(super) fn unreadable(&self) -> u64 {
        self.leftover.unreadable.load(Ordering::Relaxed)
    }
}

/// Counts what a file held beyond a batch; its time in proportion.
fn fold(segment: &Segment, beyond: u64, folded: &mut Folded) {
    let all = segment.last - segment.start;
    let gone = segment.last.saturating_sub(beyond.max(segment.start));
    let span = u128::from(segment.ended.since(&segment.began));
    let part = span * u128::from(gone) / u128::from(all.max(1));
    folded.add(gone, u64::try_from(part).unwrap_or(u64::MAX));
}
