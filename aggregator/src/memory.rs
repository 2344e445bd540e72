//! How much memory the system lets the aggregator have.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where cgroups are found: of version 2, beside those of version 1, and of version 1.
const ROOTS: [(&str, &str); 3] = [
    ("/sys/fs/cgroup", "memory.max"),
    ("/sys/fs/cgroup/unified", "memory.max"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
];

/// Version 1 writes about this where there is no limit.
const NO_LIMIT: u64 = 1 << 60;

/// The smallest limit of the cgroups that this process is in, in bytes. Beyond it the kernel ends the process, and the next
/// one goes on from the journal.
pub(crate) fn limit() -> Option<u64> {
    limit_in(&fs::read_to_string("/proc/self/cgroup").ok()?, Path::new("/"))
}

fn limit_in(cgroups: &str, root: &Path) -> Option<u64> {
    let limits = cgroups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let is_memory = controllers.split(',').any(|name| name == "memory");
        ROOTS.iter().filter_map(move |(mount, file)| {
            let fits = if file.ends_with(".max") { controllers.is_empty() } else { is_memory };
            let top = root.join(mount.trim_start_matches('/'));
            fits.then(|| smallest(&top, path, file)).flatten()
        })
    });
    limits.min()
}

/// The smallest limit on the way up from a cgroup.
fn smallest(top: &Path, path: &str, file: &str) -> Option<u64> {
    let mut at: PathBuf = top.join(path.trim_start_matches('/'));
    let mut limits = Vec::new();
    while at.starts_with(top) {
        let text = fs::read_to_string(at.join(file)).unwrap_or_default();
        limits.extend(text.trim().parse::<u64>().ok().filter(|limit| *limit < NO_LIMIT));
        if !at.pop() {
            break;
        }
    }
    limits.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_on_the_way_up_holds() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join("sys/fs/cgroup").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let of = |cgroups: &str| limit_in(cgroups, root.path());
        assert_eq!(of("0::/a/b\n"), None);
        write("a/b/memory.max", "max\n");
        assert_eq!(of("0::/a/b\n"), None);
        write("a/memory.max", "5000\n");
        assert_eq!(of("0::/a/b\n"), Some(5000));
        write("a/b/memory.max", "7000\n");
        assert_eq!(of("0::/a/b\n"), Some(5000));
        assert_eq!(of("0::/\n"), None);
        // Version 1, with and without.
        let one = "3:cpu,memory:/x\n0::/\n";
        write("memory/x/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(of(one), None);
        write("memory/x/memory.limit_in_bytes", "3000\n");
        assert_eq!(of(one), Some(3000));
    }
}
