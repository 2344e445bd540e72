//! From a cgroup's id to its path.

use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::cgroup_fs::CgroupFs;

/// Directories remembered; when there are more, all are forgotten and found anew.
const CACHED: usize = 16_384;

/// Directories visited in one walk.
const WALKED: usize = 65_536;

/// The tree is walked at most this often.
const WALK_EVERY: Duration = Duration::from_secs(1);

/// Knows the directories below the watched one by their ids, which are their inode numbers.
#[derive(Debug)]
pub struct Cgroups {
    fs: CgroupFs,
    known: HashMap<u64, PathBuf>,
    walked: Option<Instant>,
}

impl Cgroups {
    /// Those of the watched directory.
    #[must_use]
    pub fn new(fs: CgroupFs) -> Self {
        Self { fs, known: HashMap::new(), walked: None }
    }

    /// Directory of the cgroup with this id. `hint` is a path as `/proc/PID/cgroup` has it, taken
    /// only when it leads to this id: the process may have moved since it made its socket.
    pub fn directory(&mut self, id: u64, hint: Option<&str>, now: Instant) -> Option<PathBuf> {
        if let Some(known) = self.known.get(&id) {
            return Some(known.clone());
        }
        if let Some(path) = hint.map(|hint| self.fs.locate(hint))
            && inode(&path) == Some(id)
        {
            self.remember(id, path.clone());
            return Some(path);
        }
        if self.walked.is_none_or(|walked| now.duration_since(walked) >= WALK_EVERY) {
            self.walked = Some(now);
            self.walk();
        }
        self.known.get(&id).cloned()
    }

    fn remember(&mut self, id: u64, path: PathBuf) {
        if self.known.len() >= CACHED {
            self.known.clear();
        }
        self.known.insert(id, path);
    }

    fn walk(&mut self) {
        let mut pending = vec![self.fs.dir().to_owned()];
        let mut visited = 0;
        while let Some(dir) = pending.pop() {
            visited += 1;
            if visited > WALKED {
                tracing::warn!(limit = WALKED, "too many cgroups to walk; some owners go unnamed");
                return;
            }
            let Some(id) = inode(&dir) else { continue };
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            let is_dir =
                |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
            pending.extend(entries.flatten().filter(is_dir).map(|entry| entry.path()));
            self.remember(id, dir);
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|facts| facts.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_directories_by_hint_and_by_walking() {
        let Ok(fs) = CgroupFs::default_root() else {
            return crate::testing::skipped("no cgroup v2 here");
        };
        let root = fs.dir().to_owned();
        let id = inode(&root).unwrap();
        let now = Instant::now();
        let mut cgroups = Cgroups::new(fs.clone());
        assert_eq!(cgroups.directory(id, Some("/"), now), Some(root.clone()));
        assert_eq!(cgroups.walked, None, "the hint was enough");
        let mut cgroups = Cgroups::new(fs);
        assert_eq!(cgroups.directory(id, Some("/no/such"), now), Some(root));
        assert_eq!(cgroups.directory(u64::MAX, None, now), None);
    }
}
