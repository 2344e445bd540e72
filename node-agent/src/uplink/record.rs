//! A copy of everything that is sent, for `weft-loadtest replay`.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use proto::{recording::Writer, v1::AgentMessage};

/// Writes down what is sent. Copies write into the same file.
#[derive(Clone, Debug)]
pub struct Recorder {
    begin: Instant,
    /// `None` once it could not be written.
    to: Arc<Mutex<Option<Writer<File>>>>,
}

impl Recorder {
    /// Begins a recording; what the file held is gone.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn new(path: &Path) -> io::Result<Self> {
        let writer = Writer::new(File::create(path)?)?;
        Ok(Self { begin: Instant::now(), to: Arc::new(Mutex::new(Some(writer))) })
    }

    /// Takes down a message. When that fails, the recording ends and the agent goes on.
    pub(super) fn note(&self, message: &AgentMessage) {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writer) = to.as_mut() else { return };
        if let Err(error) = writer.write(self.begin.elapsed(), message) {
            tracing::warn!(%error, "the recording ends here");
            *to = None;
        }
    }
}
