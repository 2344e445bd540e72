//! Reading what the last run left.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Settings, UNFINISHED,
    frame::{self, FrameError, Stored},
    segment::{Contents, Segment},
    snapshots,
};
use crate::{
    clock,
    core::Core,
    data_dir::{self, DataDirError},
    history::Keeper,
    metrics::{HistoryMetrics, StoreMetrics},
};

/// A state that goes on.
pub(super) struct Found {
    pub(super) core: Core,
    pub(super) history: Arc<Keeper>,
    pub(super) instance: u64,
    /// Where the journal goes on.
    pub(super) position: u64,
    /// Position of the snapshot.
    pub(super) snapshot: u64,
}

/// What there is of snapshots.
#[derive(Default)]
struct Last {
    /// The newest one that can be read.
    stored: Option<Stored>,
    /// Random number of the state, where another version has written one that is newer.
    instance: Option<u64>,
}

/// Reads the last snapshot and does again what the journal says after it.
pub(super) fn read(
    settings: &Settings<'_>,
    metrics: &StoreMetrics,
    history: HistoryMetrics,
) -> Result<Found, DataDirError> {
    Reading { dir: settings.dir, metrics }.run(settings, history)
}

struct Reading<'a> {
    dir: &'a Path,
    metrics: &'a StoreMetrics,
}

impl Reading<'_> {
    fn run(&self, settings: &Settings<'_>, history: HistoryMetrics) -> Result<Found, DataDirError> {
        let _ = fs::remove_file(self.dir.join(UNFINISHED));
        let segments = Segment::list(self.dir).map_err(|error| self.unusable(error))?;
        let last = self.snapshot()?;
        let (instance, position, state) = match last.stored {
            Some(Stored { instance, position, state }) => (instance, position, Some(state)),
            None => (self.first_instance(&segments, last.instance)?, 0, None),
        };
        let history = Keeper::start(self.dir, instance, settings.history_max_bytes, history)
            .map_err(|error| self.unusable(io::Error::other(error)))?;
        let history = Arc::new(history);
        let config = settings.graph.clone();
        let mut core = match state {
            Some(state) => Core::resume(config, state, Arc::clone(&history)),
            None => Core::new(config, Arc::clone(&history)),
        };
        core.set_zones(settings.zones.clone());
        let mut found = Found { core, history, instance, position, snapshot: position };
        for (at, segment) in segments.iter().enumerate() {
            let next = segments.get(at + 1);
            if next.is_some_and(|next| next.from <= found.position) {
                continue;
            }
            if let Some(reason) = self.replay(segment, next.is_none(), &mut found)? {
                for segment in &segments[at..] {
                    self.put_aside(&segment.path, &reason)?;
                }
                break;
            }
        }
        Ok(found)
    }

    /// What there is of snapshots; those that cannot be read are put aside.
    fn snapshot(&self) -> Result<Last, DataDirError> {
        let mut last = Last::default();
        let found = snapshots(self.dir).map_err(|error| self.unusable(error))?;
        for (_, path) in found.iter().rev() {
            let bytes = fs::read(path).map_err(|error| self.unusable(error))?;
            match frame::read(&bytes) {
                Ok(stored) => {
                    last.stored = Some(stored);
                    break;
                }
                Err(reason) => {
                    if let FrameError::Version(_) = reason {
                        last.instance = last.instance.or(frame::instance(&bytes).ok());
                    }
                    self.put_aside(path, &reason.to_string())?;
                }
            }
        }
        Ok(last)
    }

    /// The instance of a journal from its beginning, or that of a snapshot of another version: the state begins anew,
    /// the history goes on. Else a new one.
    fn first_instance(
        &self,
        segments: &[Segment],
        of_another_version: Option<u64>,
    ) -> Result<u64, DataDirError> {
        if let Some(first) = segments.first().filter(|first| first.from == 0)
            && let Ok(contents) = first.read().map_err(|error| self.unusable(error))?
        {
            return Ok(contents.instance);
        }
        of_another_version.map_or_else(|| data_dir::random(self.dir), Ok)
    }

    /// Does again what a file says from the position on. Returns why it, and what comes after it, is of no use.
    fn replay(
        &self,
        segment: &Segment,
        last: bool,
        found: &mut Found,
    ) -> Result<Option<String>, DataDirError> {
        if segment.from > found.position {
            return Ok(Some(format!("what comes before {} is missing", segment.from)));
        }
        let mut contents = match segment.read().map_err(|error| self.unusable(error))? {
            Ok(contents) => contents,
            // The machine stopped while the file was made.
            Err(_) if last => return Ok(None),
            Err(reason) => return Ok(Some(reason)),
        };
        if contents.instance != found.instance {
            return Ok(Some("it belongs to another state".to_owned()));
        }
        let broken = self.replay_frames(segment, &mut contents, found);
        if broken.is_none() && contents.left() == 0 {
            return Ok(None);
        }
        if !last || broken.is_some() || !contents.ends_torn() {
            // What was read is needed again; what follows is kept for whoever wants to look.
            let copy = self.aside(&segment.path);
            fs::copy(&segment.path, &copy).map_err(|error| self.unusable(error))?;
            self.said(&copy, broken.as_deref().unwrap_or("it is damaged"));
        } else {
            tracing::info!(bytes = contents.left(), "the journal ends in the middle of an entry");
        }
        segment.cut(contents.length()).map_err(|error| self.unusable(error))?;
        Ok(None)
    }

    fn replay_frames(
        &self,
        segment: &Segment,
        contents: &mut Contents,
        found: &mut Found,
    ) -> Option<String> {
        loop {
            let before = contents.place();
            let known = segment.from + contents.frames() < found.position;
            let entry = contents.next()?;
            if !known && let Err(error) = found.core.replay(entry) {
                contents.back_to(before);
                return Some(error.to_string());
            }
            self.metrics.journal_replayed.inc_by(u64::from(!known));
            found.position = found.position.max(segment.from + contents.frames());
        }
    }

    fn put_aside(&self, path: &Path, reason: &str) -> Result<(), DataDirError> {
        let aside = self.aside(path);
        fs::rename(path, &aside).map_err(|error| self.unusable(error))?;
        self.said(&aside, reason);
        Ok(())
    }

    fn said(&self, kept_as: &Path, reason: &str) {
        self.metrics.files_put_aside.inc();
        tracing::error!(kept_as = %kept_as.display(), "a file cannot be used, counting goes on without: {reason}");
    }

    fn aside(&self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.dir.join(format!("broken-{}-{name}", clock::wall().unix_ns()))
    }

    fn unusable(&self, source: io::Error) -> DataDirError {
        DataDirError::Unusable { path: self.dir.to_path_buf(), source }
    }
}
