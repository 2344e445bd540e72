//! What survives a restart, in the data directory.
//!
//! The journal has every change of the state, a snapshot has the state as of a position in the journal. A restart
//! reads the snapshot and does again what the journal says after it. `segment` and `frame` are the forms of
//! their files, `journal` writes the one, `checkpoint` the other from time to time, `recovery` reads both.
//!
//! What cannot be read is put aside under a name that says so, and counting goes on with what could.

mod checkpoint;
mod frame;
pub(crate) mod fuzzing;
mod journal;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) use checkpoint::{run as keep_checkpoints, write as checkpoint};
pub use journal::Journal;

use crate::{
    clock::{Clock, Source},
    core::{Core, Held},
    data_dir::DataDirError,
    history::Keeper,
    metrics::{HistoryMetrics, StoreMetrics},
};
use frame::Stored;
use journal::Writer;
use segment::Segment;

/// How long steps of the history may take to be written.
const HISTORY_FLUSH: Duration = Duration::from_secs(30);

/// Names of snapshots, before their position.
const SNAPSHOT: &str = "snapshot-";
const UNFINISHED: &str = "unfinished";

/// Where and how a state is kept.
pub(crate) struct Settings<'a> {
    /// The data directory.
    pub(crate) dir: &'a Path,
    /// How the graph settles, remembers and forgets.
    pub(crate) graph: topology::Config,
    /// Which hosts are in which zones: the history is told of it while the journal is read, too.
    pub(crate) zones: topology::Zones,
    /// How large the history may get.
    pub(crate) history_max_bytes: u64,
}

/// The journal, the snapshots and the history of one state.
pub(crate) struct Store {
    dir: PathBuf,
    instance: u64,
    journal: Arc<Journal>,
    history: Arc<Keeper>,
    /// Position of the last snapshot, and its size in bytes.
    last: AtomicU64,
    last_bytes: AtomicU64,
    one_at_a_time: Mutex<()>,
    metrics: StoreMetrics,
    _writer: Writer,
}

impl Store {
    /// Reads what there is in a data directory; the state goes on from it, and whatever happens next is kept. The
    /// clock begins then.
    pub(crate) fn open(
        settings: &Settings<'_>,
        source: impl Source + 'static,
        metrics: StoreMetrics,
        history: HistoryMetrics,
    ) -> Result<(Core, Self, Clock), DataDirError> {
        let dir = settings.dir;
        let unusable = |source| DataDirError::Unusable { path: dir.to_path_buf(), source };
        let found = recovery::read(settings, &metrics, history)?;
        let started = Journal::start(dir, found.instance, found.position, metrics.clone());
        let (journal, writer) = started.map_err(unusable)?;
        let mut core = found.core;
        core.keep(Arc::clone(&journal));
        let clock = Clock::new(source, core.graph().clock());
        core.started(clock.now());
        // Questions about the last minutes are answered from it.
        found.history.flush(HISTORY_FLUSH);
        found.history.resume_after(core.graph().steps_given());
        let store = Self {
            dir: dir.to_path_buf(),
            instance: found.instance,
            journal,
            history: found.history,
            last: AtomicU64::new(found.snapshot),
            last_bytes: AtomicU64::new(0),
            one_at_a_time: Mutex::new(()),
            metrics,
            _writer: writer,
        };
        Ok((core, store, clock))
    }

    /// Random number of the state.
    pub(crate) fn instance(&self) -> u64 {
        self.instance
    }

    /// The journal.
    pub(crate) fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The history.
    pub(crate) fn history(&self) -> &Arc<Keeper> {
        &self.history
    }

    /// Bytes of the journal that a restart would read.
    fn since_snapshot(&self) -> u64 {
        self.journal.position().saturating_sub(self.last.load(Ordering::Relaxed))
    }

    /// Writes a snapshot, and removes what it replaces. The state is held for as long as it takes to share it.
    pub(crate) fn checkpoint(&self, core: &Held<Core>) -> io::Result<()> {
        let _one_at_a_time = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        // As little as can be is written after the file that ends here.
        self.journal.wait_until_durable(self.journal.position());
        let (position, state) = {
            let core = core.lock();
            let timer = self.metrics.snapshot_hold_seconds.start_timer();
            let frozen = (self.journal.begin_snapshot(), core.freeze());
            timer.observe_duration();
            frozen
        };
        // The snapshot is not to have given out steps that are not with the history.
        let hand_over = || core.lock().hand_over();
        self.journal.wait_until_durable(position);
        hand_over();
        let written = self.write(position, Stored { instance: self.instance, position, state });
        self.journal.end_snapshot(position, written.is_ok());
        hand_over();
        let counter = match &written {
            Ok(()) => &self.metrics.snapshots,
            Err(_) => &self.metrics.snapshots_failed,
        };
        counter.inc();
        written
    }

    fn write(&self, position: u64, stored: Stored) -> io::Result<()> {
        let unfinished = self.dir.join(UNFINISHED);
        let target = self.dir.join(format!("{SNAPSHOT}{position:016x}"));
        let written = put(&unfinished, stored).and_then(|bytes| {
            // A restart makes again only the steps that end after the snapshot.
            self.history.flush(HISTORY_FLUSH);
            fs::rename(&unfinished, &target)?;
            sync_dir(&self.dir)?;
            Ok(bytes)
        });
        let bytes = match written {
            Ok(bytes) => bytes,
            Err(error) => {
                // What is there of it takes room on a disk that may be full.
                let _ = fs::remove_file(&unfinished);
                return Err(error);
            }
        };
        self.last.store(position, Ordering::Relaxed);
        self.last_bytes.store(bytes, Ordering::Relaxed);
        self.metrics.snapshot_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.snapshot_bytes_written.inc_by(bytes);
        self.remove_before(position)
    }

    /// Removes snapshots and files of the journal that a restart does not need.
    fn remove_before(&self, position: u64) -> io::Result<()> {
        for (at, path) in snapshots(&self.dir)? {
            if at < position {
                fs::remove_file(path)?;
            }
        }
        let segments = Segment::list(&self.dir)?;
        for pair in segments.windows(2) {
            if let [old, next] = pair
                && next.from <= position
            {
                fs::remove_file(&old.path)?;
            }
        }
        Ok(())
    }
}

/// Every snapshot with its position, ascending.
fn snapshots(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in dir.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let at = name.and_then(|name| name.strip_prefix(SNAPSHOT));
        if let Some(at) = at.and_then(|at| u64::from_str_radix(at, 16).ok()) {
            found.push((at, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Writes a snapshot, and lets go of what it shares with the state before the disk is waited for.
fn put(path: &Path, stored: Stored) -> io::Result<u64> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let bytes = frame::write_to(&stored, &mut file)?;
    drop(stored);
    file.sync_all()?;
    Ok(bytes)
}

/// Makes new names last.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
