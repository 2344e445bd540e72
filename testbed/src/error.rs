//! The one error type of the crate.

use std::{io, time::Duration};

/// What can go wrong while a lab is built or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or a file failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// How it failed.
        source: io::Error,
    },
    /// A tool such as `ip` or `nft` said no.
    #[error("`{command}` failed: {output}")]
    Tool {
        /// The command line.
        command: String,
        /// What it printed.
        output: String,
    },
    /// This machine or user cannot do it.
    #[error("{0}")]
    Unavailable(String),
    /// A process or a condition did not get there in time.
    #[error("{what} took longer than {limit:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// A peer or server answered something else than expected.
    #[error("{who}: {reason}")]
    Answer {
        /// Who answered.
        who: String,
        /// What was wrong with it.
        reason: String,
    },
}

/// Result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds what was being done to an error.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Io { what: what(), source: error.into() })
    }
}
