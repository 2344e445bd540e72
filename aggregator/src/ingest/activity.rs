//! Whether a connection is used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The streams of a connection.
#[derive(Debug)]
pub(super) struct Activity(Mutex<Streams>);

#[derive(Debug)]
struct Streams {
    open: usize,
    /// When the last of them ended, or the connection was made.
    since: Instant,
}

/// A stream.
pub(super) struct InUse(Arc<Activity>);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new(Streams { open: 0, since: Instant::now() }))
    }
}

impl Activity {
    /// A stream begins; it ends when what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InUse {
        self.streams().open += 1;
        InUse(Arc::clone(self))
    }

    /// Since when it has no stream; `None` while it has one.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let streams = self.streams();
        (streams.open == 0).then_some(streams.since)
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut streams = self.0.streams();
        streams.open -= 1;
        streams.since = Instant::now();
    }
}
