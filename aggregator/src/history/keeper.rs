//! The thread that writes the history.

use std::{
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use topology::{Given, Grouping, Older, Timestamp, Window};

use super::{
    Database, HistoryError,
    database::{AllNumbers, Written},
    table::LAYERS,
};
use crate::metrics::HistoryMetrics;

/// Steps that wait to be written; at ten seconds each, a disk that is slower than that is treated like one that is
/// full.
const WAITING: usize = 6;

/// Writes steps that are over, and reads them.
pub(crate) struct Keeper {
    /// `None` where no history is wanted.
    database: Option<Arc<Database>>,
    steps: Option<SyncSender<Given>>,
    progress: Arc<Progress>,
    reach: Arc<Reach>,
    thread: Option<JoinHandle<()>>,
    metrics: HistoryMetrics,
}

/// How many steps were given and written, or lost.
#[derive(Default)]
struct Progress {
    done: Mutex<(u64, u64)>,
    changed: Condvar,
}

impl Progress {
    fn note(&self, given: u64, written: u64) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        *done = (done.0 + given, done.1 + written);
        self.changed.notify_all();
    }
}

/// From when on each layer has anything, in ns since the epoch; as good as for ever when it has nothing.
struct Reach([AtomicU64; LAYERS.len()]);

impl Reach {
    fn set(&self, reach: [Option<Timestamp>; LAYERS.len()]) {
        for (stored, from) in reach.into_iter().zip(&self.0) {
            from.store(stored.map_or(u64::MAX, Timestamp::unix_ns), Ordering::Relaxed);
        }
    }
}

impl Keeper {
    /// Opens the history of a state; none where it may have no bytes, what there was stays as it is.
    pub(crate) fn start(
        dir: &Path,
        instance: u64,
        max_bytes: u64,
        metrics: HistoryMetrics,
    ) -> Result<Self, HistoryError> {
        let progress = Arc::new(Progress::default());
        let reach = Arc::new(Reach([u64::MAX; LAYERS.len()].map(AtomicU64::new)));
        if max_bytes == 0 {
            let (database, steps, thread) = (None, None, None);
            return Ok(Self { database, steps, progress, reach, thread, metrics });
        }
        let (database, aside) = Database::open(dir, instance, max_bytes)?;
        metrics.files_put_aside.inc_by(u64::from(aside.is_some()));
        let database = Arc::new(database);
        let (steps, waiting) = sync_channel(WAITING);
        reach.set([database.stored_from(false)?, database.stored_from(true)?]);
        let writer = Writer {
            database: Arc::clone(&database),
            progress: Arc::clone(&progress),
            reach: Arc::clone(&reach),
            metrics: metrics.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || writer.run(&waiting))?;
        let (database, steps, thread) = (Some(database), Some(steps), Some(thread));
        Ok(Self { database, steps, progress, reach, thread, metrics })
    }

    /// Has a step written, if there is room.
    pub(crate) fn put(&self, step: Given) {
        let Some(steps) = &self.steps else { return };
        self.progress.note(1, 0);
        let sent = steps.try_send(step);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sent {
            self.progress.note(0, 1);
            self.metrics.steps_lost.inc();
        }
    }

    /// So many steps will never be written.
    pub(crate) fn lost(&self, steps: u64) {
        self.metrics.steps_lost.inc_by(steps);
    }

    /// Has a step written, and waits for room.
    pub(crate) fn put_patiently(&self, step: Given) {
        let Some(steps) = &self.steps else { return };
        self.progress.note(1, 0);
        if steps.send(step).is_err() {
            self.progress.note(0, 1);
        }
    }

    /// Waits until everything that was given is written, or lost.
    pub(crate) fn flush(&self, at_most: Duration) {
        let done = self.progress.done.lock().unwrap_or_else(PoisonError::into_inner);
        let given = done.0;
        // Whether in time or not, there is no more to do about it.
        let _ = self.progress.changed.wait_timeout_while(done, at_most, |done| done.1 < given);
    }

    /// The state has been made again, and has given out steps up to this number. When more are stored, it has lost
    /// what they follow from: what it gives out next is not what they are.
    pub(crate) fn resume_after(&self, number: u64) {
        let Some(database) = &self.database else { return };
        if let Err(error) = database.resume_after(number) {
            tracing::error!("the history cannot be written, windows may lack some of it: {error}");
        }
    }

    /// How far back it goes, for what is grouped so.
    pub(crate) fn stored_from(&self, by: Grouping) -> Timestamp {
        Timestamp::from_unix_ns(self.reach.0[usize::from(by.is_finer())].load(Ordering::Relaxed))
    }

    /// What is stored of a window, in steps that end by `limit`, to be grouped as said; nothing when it cannot be read,
    /// which is said.
    pub(crate) fn older(&self, window: Window, limit: Timestamp, by: Grouping) -> Older {
        let Some(database) = &self.database else { return Older::default() };
        database.older(window, limit, by).unwrap_or_else(|error| {
            self.metrics.read_failures.inc();
            tracing::error!("the history cannot be read: {error}");
            Older::default()
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.steps = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say but that it panicked, which was logged.
            let _ = thread.join();
        }
    }
}

struct Writer {
    database: Arc<Database>,
    progress: Arc<Progress>,
    reach: Arc<Reach>,
    metrics: HistoryMetrics,
}

impl Writer {
    fn run(&self, steps: &Receiver<Given>) {
        let mut numbers = None;
        let mut failing = false;
        for step in steps {
            let timer = self.metrics.write_seconds.start_timer();
            let written = self.write(&step, &mut numbers);
            timer.observe_duration();
            match &written {
                Ok(_) if failing => tracing::info!("the history can be written again"),
                Err(error) if !failing => {
                    tracing::error!("the history cannot be written, windows will lack it: {error}");
                }
                _ => {}
            }
            failing = written.is_err();
            let Written { bytes, folded, dropped } = written.unwrap_or_default();
            self.metrics.bytes.inc_by(bytes);
            self.metrics.rows_folded.inc_by(folded);
            self.metrics.rows_dropped.inc_by(dropped);
            self.metrics.steps_lost.inc_by(u64::from(failing));
            self.metrics.failing.set(i64::from(failing));
            self.progress.note(0, 1);
        }
    }

    fn write(
        &self,
        step: &Given,
        numbers: &mut Option<AllNumbers>,
    ) -> Result<Written, HistoryError> {
        let mut known = match numbers.take() {
            Some(known) => known,
            None => self.database.numbers()?,
        };
        let written = self.database.write(step, &mut known)?;
        match self.database.reach(&known) {
            Ok(reach) => self.reach.set(reach),
            Err(error) => {
                self.metrics.read_failures.inc();
                tracing::error!("the history cannot be read: {error}");
            }
        }
        *numbers = Some(known);
        Ok(written)
    }
}
