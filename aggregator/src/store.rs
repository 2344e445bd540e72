//! The snapshot in the data directory: what a restart goes on from.
//!
//! `frame` is the file's form, `saver` writes it from time to time, `recovery` waits after a
//! crash until the agents have said again what the snapshot does not have.

mod frame;
pub(crate) mod recovery;
pub(crate) mod saver;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

pub(crate) use frame::Stored;

use crate::{clock, data_dir::DataDirError, state::Shared};

/// A snapshot of an aggregator that went on after it: agents know more than it has.
const RUNNING: &str = "graph.running";
/// The last word of one that stopped. Its name says so, and changes as soon as it is taken up.
const STOPPED: &str = "graph.stopped";
const UNFINISHED: &str = "graph.unfinished";

/// Where snapshots are.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    writing: Mutex<()>,
}

/// What was found at the start.
pub(crate) struct Found {
    pub(crate) stored: Option<Stored>,
    /// It has everything that was ever counted.
    pub(crate) complete: bool,
    /// There was something that could not be read, and is out of the way now.
    pub(crate) put_aside: bool,
}

impl Store {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), writing: Mutex::new(()) }
    }

    /// Reads the snapshot, if there is one.
    pub(crate) fn load(&self) -> Result<Found, DataDirError> {
        let (running, stopped) = (self.dir.join(RUNNING), self.dir.join(STOPPED));
        let unusable = |path: &Path, source| {
            let path = path.to_path_buf();
            DataDirError::Unusable { path, source }
        };
        let complete = match fs::rename(&stopped, &running) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(unusable(&stopped, error)),
        };
        if complete {
            self.sync().map_err(|error| unusable(&self.dir, error))?;
        }
        let bytes = match fs::read(&running) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Found { stored: None, complete: true, put_aside: false });
            }
            Err(error) => return Err(unusable(&running, error)),
        };
        Ok(match frame::read(&bytes) {
            Ok(stored) => Found { stored: Some(stored), complete, put_aside: false },
            Err(reason) => {
                let aside = self.dir.join(format!("graph.broken-{}", clock::now().unix_ns()));
                fs::rename(&running, &aside).map_err(|error| unusable(&running, error))?;
                tracing::error!(
                    kept_as = %aside.display(),
                    "the snapshot cannot be used, counting starts afresh: {reason}"
                );
                Found { stored: None, complete: true, put_aside: true }
            }
        })
    }

    /// Stores everything. `last` says that nothing will be counted after it.
    pub(crate) fn save(&self, shared: &Shared, last: bool) -> io::Result<()> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = frame::write(shared).map_err(io::Error::other)?;
        let unfinished = self.dir.join(UNFINISHED);
        let target = self.dir.join(if last { STOPPED } else { RUNNING });
        let written = put(&unfinished, &bytes).and_then(|()| fs::rename(&unfinished, &target));
        if let Err(error) = written {
            // What is there of it takes room on a disk that may be full.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        if last {
            // At the next start the new one goes in its place anyway.
            let _ = fs::remove_file(self.dir.join(RUNNING));
        }
        shared.metrics.snapshot_bytes.set(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        self.sync()
    }

    /// Makes renames last.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
