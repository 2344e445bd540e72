//! cgroup v2 directories that go with their guard, together with every process in them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Error, Result, error::Context};

/// How long killed processes may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A cgroup v2 directory. Dropping it kills what runs in and below it and removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the directory `name` below `parent`.
    ///
    /// # Errors
    /// When it exists already or may not be made.
    pub fn create(parent: &Path, name: &str) -> Result<Self> {
        let path = parent.join(name);
        fs::create_dir(&path).context(|| format!("make cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// Path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a directory below, by one or several names, which is made if need be and goes with this one.
    ///
    /// # Errors
    /// When it may not be made.
    pub fn leaf(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).context(|| format!("make cgroup {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A failure cannot be told from here; the next lab tries again.
        let _ = remove(&self.path);
    }
}

/// Where cgroup v2 is mounted.
///
/// # Errors
/// When it is not.
pub fn mount_point() -> Result<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").context(|| "read mounts".into())?;
    find_cgroup2(&table)
        .ok_or_else(|| Error::Unavailable("cgroup v2 is not mounted anywhere".into()))
}

fn find_cgroup2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let kind = right.split(' ').next()?;
        let point = left.split(' ').nth(4)?;
        (kind == "cgroup2").then(|| PathBuf::from(point.replace("\\040", " ")))
    })
}

/// Kills every process in and below `path` and removes the directories.
///
/// # Errors
/// When processes outlive the kill or a directory cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    let deadline = Instant::now() + KILL_LIMIT;
    while populated(path) {
        kill_all(path);
        if Instant::now() > deadline {
            return Err(Error::Timeout {
                what: format!("end of the processes in {}", path.display()),
                limit: KILL_LIMIT,
            });
        }
        thread::sleep(Duration::from_millis(2));
    }
    remove_tree(path, deadline).context(|| format!("remove cgroup {}", path.display()))
}

/// Ids of the processes in and below `path`, as far as they can be read.
#[must_use]
pub fn processes(path: &Path) -> Vec<i32> {
    let list = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut ids: Vec<i32> = list.lines().filter_map(|line| line.parse().ok()).collect();
    for child in children(path) {
        ids.extend(processes(&child));
    }
    ids
}

fn children(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn populated(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events"))
        .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

fn kill_all(path: &Path) {
    // One write ends them all, forks included; kernels before 5.14 lack the file.
    if fs::write(path.join("cgroup.kill"), "1").is_err() {
        for id in processes(path).into_iter().filter(|id| *id > 0) {
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

fn remove_tree(path: &Path, deadline: Instant) -> io::Result<()> {
    for child in children(path) {
        remove_tree(&child, deadline)?;
    }
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_in_unified_and_hybrid_mounts() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_cgroup2(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let unified = "26 22 0:22 / /my\\040mounts/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(find_cgroup2(unified), Some(PathBuf::from("/my mounts/cgroup")));
        assert_eq!(find_cgroup2("nonsense\n1 2 3 - \n"), None);
    }
}
