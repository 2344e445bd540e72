//! The journal: entries in memory, and the thread that writes them down.
//!
//! Entries are appended while the state is held, so that they stand in the order in which they happened; they
//! are written and synced in groups, by a thread of its own. Whoever has to know that something will not be
//! forgotten waits for its position.
//!
//! When nothing can be written, counting goes on. What happens then is not written later: only a snapshot has
//! it, and the journal goes on from there.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    segment::{self, LONGEST, Segment},
    sync_dir,
};
use crate::metrics::StoreMetrics;

/// How long an entry may wait for others to be written with. As long as there are some, a group is written once in
/// that time: what a group costs is paid by the second, not by those who report.
const GATHER: Duration = Duration::from_millis(100);

/// Bytes that do not wait for more.
const ENOUGH: usize = 1 << 20;

/// Bytes that may wait to be written. A disk that is slower than what comes in, for as long as that takes, is
/// treated like one that is full.
const MOST: usize = 64 << 20;

/// A disk that has not written a group for this long hangs: readers do not wait for it any more, and it is said.
const STALLED: Duration = Duration::from_secs(5);

/// A file is not made longer than this.
const FILE: u64 = 32 << 20;

/// The journal.
pub struct Journal {
    dir: PathBuf,
    instance: u64,
    pending: Mutex<Pending>,
    work: Condvar,
    durable: watch::Sender<u64>,
    metrics: StoreMetrics,
}

struct Pending {
    bytes: Vec<u8>,
    /// Position behind the last entry.
    end: u64,
    mode: Mode,
    /// What is written next begins a file.
    new_file: bool,
    /// Nothing has come for a while: the thread that writes has to be woken.
    asleep: bool,
    /// Somebody waits for what there is.
    hurry: bool,
    /// Since when a group is being written.
    writing: Option<Instant>,
    /// That takes too long, which was said.
    stalled: bool,
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Writing,
    /// Nothing can be written: entries are dropped.
    Failing,
    /// A snapshot is being written from which the journal will go on: entries wait for it.
    Held,
}

/// The thread that writes. Dropping it has the rest written.
pub(crate) struct Writer {
    journal: Arc<Journal>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.journal.pending().closed = true;
        self.journal.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say but that it panicked, which was logged.
            let _ = thread.join();
        }
    }
}

impl Journal {
    /// A journal that goes on at a position, in a new file.
    pub(super) fn start(
        dir: &Path,
        instance: u64,
        position: u64,
        metrics: StoreMetrics,
    ) -> io::Result<(Arc<Self>, Writer)> {
        let file = Segment::create(dir, instance, position)?;
        sync_dir(dir)?;
        let pending = Pending {
            bytes: Vec::new(),
            end: position,
            mode: Mode::Writing,
            new_file: false,
            asleep: false,
            hurry: false,
            writing: None,
            stalled: false,
            closed: false,
        };
        let journal = Arc::new(Self {
            dir: dir.to_path_buf(),
            instance,
            pending: Mutex::new(pending),
            work: Condvar::new(),
            durable: watch::Sender::new(position),
            metrics,
        });
        let writing = Arc::clone(&journal);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writing.write_all(file))?;
        Ok((Arc::clone(&journal), Writer { journal, thread: Some(thread) }))
    }

    /// Appends an entry, given in two parts; returns the position behind it.
    pub(crate) fn append(&self, entry: &[u8], rest: &[u8]) -> u64 {
        let mut pending = self.pending();
        let before = pending.bytes.len();
        segment::put_frame(entry, rest, &mut pending.bytes);
        let after = pending.bytes.len();
        pending.end += (after - before) as u64;
        // Something is appended every second, or ten at most when ticks are not worth it: the clock is.
        self.look_whether_stalled(&mut pending);
        if pending.mode == Mode::Failing {
            pending.bytes.clear();
        } else if after > MOST {
            self.fail(&mut pending, &io::Error::other("it takes in less than has to be written"));
        } else if after - before > segment::FRAME + LONGEST {
            // Nothing behind it could be read: a snapshot has it.
            self.fail(&mut pending, &io::Error::other("an entry is longer than any is to be"));
        } else if std::mem::take(&mut pending.asleep) || (before < ENOUGH && after >= ENOUGH) {
            self.work.notify_one();
        }
        pending.end
    }

    /// The position behind the last entry.
    pub(crate) fn position(&self) -> u64 {
        self.pending().end
    }

    /// The position up to which nothing will be forgotten.
    pub(crate) fn durable(&self) -> watch::Receiver<u64> {
        self.durable.subscribe()
    }

    /// Waits until nothing up to a position will be forgotten, as long as anything can be written.
    pub(super) fn wait_until_durable(&self, position: u64) {
        while *self.durable.borrow() < position && !self.is_failing() {
            self.hurry();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether entries are dropped.
    pub(crate) fn is_failing(&self) -> bool {
        self.pending().mode != Mode::Writing
    }

    /// Whether entries are dropped, or the disk hangs.
    pub(crate) fn is_behind(&self) -> bool {
        let pending = self.pending();
        pending.mode != Mode::Writing || pending.stalled
    }

    fn look_whether_stalled(&self, pending: &mut Pending) {
        let since = pending.writing.filter(|since| since.elapsed() >= STALLED);
        if let Some(since) = since
            && !std::mem::replace(&mut pending.stalled, true)
        {
            self.metrics.journal_stalled.set(1);
            let seconds = since.elapsed().as_secs();
            tracing::error!(
                "the disk has not written the journal for {seconds} s, agents keep what they report"
            );
        }
    }

    fn written(&self) {
        let mut pending = self.pending();
        pending.writing = None;
        if std::mem::replace(&mut pending.stalled, false) {
            self.metrics.journal_stalled.set(0);
            tracing::info!("the disk writes again");
        }
    }

    /// Has what there is written at once.
    pub(crate) fn hurry(&self) {
        self.pending().hurry = true;
        self.work.notify_one();
    }

    /// A snapshot is about to be made of the state, which is held. Returns its position.
    pub(super) fn begin_snapshot(&self) -> u64 {
        let mut pending = self.pending();
        pending.new_file = true;
        if pending.mode == Mode::Failing {
            pending.mode = Mode::Held;
        }
        pending.end
    }

    /// The snapshot of this position was written, or was not.
    pub(super) fn end_snapshot(&self, position: u64, written: bool) {
        let mut pending = self.pending();
        if pending.mode == Mode::Held {
            if written {
                pending.mode = Mode::Writing;
                self.metrics.journal_failing.set(0);
                tracing::info!("the journal can be written again");
                self.work.notify_one();
            } else {
                pending.mode = Mode::Failing;
                pending.bytes.clear();
            }
        }
        if written {
            self.raise(position);
        }
    }

    fn raise(&self, position: u64) {
        self.durable.send_if_modified(|durable| {
            let higher = position > *durable;
            *durable = position.max(*durable);
            higher
        });
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, pending: &mut Pending, error: &io::Error) {
        pending.mode = Mode::Failing;
        pending.bytes = Vec::new();
        self.metrics.journal_failing.set(1);
        self.metrics.journal_failures.inc();
        tracing::error!(
            "the journal cannot be written, agents keep what they report from now on: {error}"
        );
    }

    fn write_all(&self, mut file: File) {
        let mut length = 0;
        let mut spare = Vec::new();
        while let Some(Group { mut bytes, from, new_file }) = self.next_group(spare) {
            let timer = self.metrics.journal_write_seconds.start_timer();
            let written = (|| {
                if new_file || length > FILE {
                    file = Segment::create(&self.dir, self.instance, from)?;
                    sync_dir(&self.dir)?;
                    length = 0;
                }
                file.write_all(&bytes)?;
                file.sync_data()
            })();
            timer.observe_duration();
            self.written();
            length += bytes.len() as u64;
            match written {
                Ok(()) => {
                    self.metrics.journal_bytes.inc_by(bytes.len() as u64);
                    self.raise(from + bytes.len() as u64);
                }
                Err(error) => {
                    let mut pending = self.pending();
                    if pending.mode == Mode::Writing {
                        self.fail(&mut pending, &error);
                    }
                }
            }
            bytes.clear();
            // Room for one that was large once is not kept for good, but for what comes while this thread is woken.
            bytes.shrink_to(2 * ENOUGH);
            spare = bytes;
        }
    }

    /// Waits for something to write, and puts `spare` in its place; `None` when there will be nothing more.
    fn next_group(&self, spare: Vec<u8>) -> Option<Group> {
        let mut pending = self.pending();
        // Nobody has to wake this thread for what comes until then.
        let mut due = Some(Instant::now() + GATHER);
        loop {
            let some = pending.mode == Mode::Writing && !pending.bytes.is_empty();
            if some && (pending.hurry || pending.closed || pending.bytes.len() >= ENOUGH) {
                break;
            }
            if pending.closed {
                return None;
            }
            pending.hurry &= some;
            match due.map(|due| due.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) if some => break,
                Some(Duration::ZERO) => due = None,
                Some(left) => {
                    let wait = self.work.wait_timeout(pending, left);
                    pending = wait.unwrap_or_else(PoisonError::into_inner).0;
                }
                None if some => due = Some(Instant::now() + GATHER),
                None => {
                    pending.asleep = true;
                    let wait = self.work.wait(pending);
                    pending = wait.unwrap_or_else(PoisonError::into_inner);
                    pending.asleep = false;
                }
            }
        }
        pending.hurry = false;
        pending.writing = Some(Instant::now());
        let bytes = std::mem::replace(&mut pending.bytes, spare);
        let from = pending.end - bytes.len() as u64;
        Some(Group { bytes, from, new_file: std::mem::take(&mut pending.new_file) })
    }
}

/// Entries that are written together.
struct Group {
    bytes: Vec<u8>,
    /// Position of the first.
    from: u64,
    new_file: bool,
}
