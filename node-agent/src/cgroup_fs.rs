//! Where cgroup v2 is mounted. Hybrid hosts have it beside the v1 controllers, so no path is
//! taken for granted.

use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

/// Why a cgroup directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The mount table cannot be read.
    #[error("cannot read /proc/self/mountinfo: {0}")]
    MountTable(std::io::Error),
    /// There is no cgroup v2.
    #[error("cgroup v2 is not mounted; try `mount -t cgroup2 none /sys/fs/cgroup/unified`")]
    NotMounted,
    /// The directory cannot be looked at.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Something else is there.
    #[error("{} is not on a cgroup v2 file system", .0.display())]
    NotCgroup2(PathBuf),
    /// It is no directory.
    #[error("{} is not a directory", .0.display())]
    NotDirectory(PathBuf),
}

/// A directory of cgroup v2 and the mount it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupFs {
    mount: Mount,
    dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Where it is mounted.
    point: PathBuf,
    /// Which cgroup is mounted there, `/` for the top one.
    root: PathBuf,
}

impl CgroupFs {
    /// The top directory of the first cgroup v2 mount.
    ///
    /// # Errors
    /// When there is none.
    pub fn default_root() -> Result<Self, CgroupError> {
        let mount = mounts()?
            .into_iter()
            .min_by_key(|mount| mount.root != Path::new("/"))
            .ok_or(CgroupError::NotMounted)?;
        Ok(Self { dir: mount.point.clone(), mount })
    }

    /// A directory that the user named.
    ///
    /// # Errors
    /// When it is missing or not on cgroup v2.
    pub fn at(path: impl AsRef<Path>) -> Result<Self, CgroupError> {
        let path = path.as_ref();
        let unreadable = |error| CgroupError::Unreadable { path: path.to_owned(), error };
        let dir = path.canonicalize().map_err(unreadable)?;
        if !dir.is_dir() {
            return Err(CgroupError::NotDirectory(dir));
        }
        let facts = statfs(&dir).map_err(|errno| unreadable(errno.into()))?;
        if facts.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Err(CgroupError::NotCgroup2(dir));
        }
        let mount = mounts()?
            .into_iter()
            .filter(|mount| dir.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.as_os_str().len())
            .ok_or(CgroupError::NotMounted)?;
        Ok(Self { mount, dir })
    }

    /// The directory that programs are attached to.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a cgroup's directory is, given its path as `/proc/PID/cgroup` has it.
    #[must_use]
    pub fn locate(&self, cgroup: &str) -> PathBuf {
        let cgroup = Path::new(cgroup);
        let below = cgroup.strip_prefix(&self.mount.root).unwrap_or(cgroup);
        self.mount.point.join(below.strip_prefix("/").unwrap_or(below))
    }
}

fn mounts() -> Result<Vec<Mount>, CgroupError> {
    let table = std::fs::read("/proc/self/mountinfo").map_err(CgroupError::MountTable)?;
    Ok(parse_mounts(&String::from_utf8_lossy(&table)))
}

/// The cgroup v2 mounts of a mount table.
fn parse_mounts(table: &str) -> Vec<Mount> {
    let mut found = Vec::new();
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        if right.split(' ').next() != Some("cgroup2") {
            continue;
        }
        let mut fields = left.split(' ').skip(3);
        if let (Some(root), Some(point)) = (fields.next(), fields.next()) {
            found.push(Mount { point: unescape(point).into(), root: unescape(root).into() });
        }
    }
    found
}

/// Undoes the kernel's `\040` for a space and the like.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Looks for a cgroup below each mount of a table, for the fuzz targets.
pub(crate) fn fuzzing(table: &str, cgroup: &str) {
    for mount in parse_mounts(table) {
        let below = mount.point.clone();
        let found = CgroupFs { mount, dir: below.clone() }.locate(cgroup);
        assert!(found.starts_with(&below), "{} is not below {}", found.display(), below.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_the_v2_mounts_of_a_hybrid_host() {
        let table = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                     32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n\
                     50 1 0:38 /a\\040b /mnt/c\\134d rw - cgroup2 none rw\n";
        let mounts = parse_mounts(table);
        assert_eq!(mounts[0].point, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(mounts[1].point, Path::new("/mnt/c\\d"));
        assert_eq!(mounts[1].root, Path::new("/a b"));
    }

    #[test]
    fn locates_below_the_mount_whatever_its_root() {
        let at = |root: &str, cgroup: &str| {
            let mount = Mount { point: "/mnt".into(), root: root.into() };
            CgroupFs { mount, dir: "/mnt".into() }.locate(cgroup)
        };
        assert_eq!(at("/", "/a/b"), Path::new("/mnt/a/b"));
        assert_eq!(at("/a", "/a/b"), Path::new("/mnt/b"));
        assert_eq!(at("/a", "/c"), Path::new("/mnt/c"));
        assert_eq!(at("/", "/"), Path::new("/mnt/"));
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(table in "([0-9]{1,3}|/|\\\\|[a-z]|-|:| | - cgroup2 |\n){0,60}") {
            let _ = parse_mounts(&table);
        }
    }
}
