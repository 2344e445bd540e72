//! The directory of what must survive a restart. It belongs to one aggregator at a time.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use thiserror::Error;

/// Why the directory cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// Another aggregator uses it.
    #[error("data directory {} is in use by another aggregator", .0.display())]
    InUse(PathBuf),
    /// It cannot be made, read or written.
    #[error("data directory {} cannot be used: {source}", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The directory, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    _lock: Flock<File>,
}

impl DataDir {
    /// Makes the directory where needed and takes it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_path_buf(), source };
        std::fs::create_dir_all(path).map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(unusable)?;
        let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Err(DataDirError::InUse(path.to_path_buf())),
            Err((_, errno)) => return Err(unusable(errno.into())),
        };
        Ok(Self { _lock: lock })
    }
}

/// A number that no other state has.
pub(crate) fn random(dir: &Path) -> Result<u64, DataDirError> {
    let mut bytes = [0; 8];
    match File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => Ok(u64::from_le_bytes(bytes)),
        Err(source) => Err(DataDirError::Unusable { path: dir.to_path_buf(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_aggregators_do_not_share_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/data");
        let first = DataDir::open(&path).unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse(_))));
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_said_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        let message = DataDir::open(&path.join("data")).unwrap_err().to_string();
        assert!(message.contains("file/data") && !message.contains('\n'), "{message}");
    }
}
