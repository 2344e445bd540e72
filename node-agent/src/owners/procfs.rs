//! What `/proc` tells about a process.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use common::kernel::Owner;

use super::interpreter;

/// How much of a command line is read: the script comes early.
const COMMAND_LINE_BYTES: u64 = 16 * 1024;

/// How much of any other file is read.
const FILE_BYTES: u64 = 64 * 1024;

/// Processes looked at to name the owner of a socket whose process is not known.
const MEMBERS_LOOKED_AT: usize = 64;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// A mounted proc file system.
#[derive(Debug)]
pub struct ProcFs {
    root: PathBuf,
    ns_per_tick: u64,
}

impl ProcFs {
    /// The one at `root`, normally `/proc`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
        let ticks = ticks.ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
        let ns_per_tick = NS_PER_SECOND / ticks.filter(|ticks| *ticks > 0).unwrap_or(100);
        Self { root: root.into(), ns_per_tick }
    }

    /// Where a file of a process is.
    #[must_use]
    pub fn path(&self, tgid: u32, file: &str) -> PathBuf {
        self.root.join(tgid.to_string()).join(file)
    }

    /// Whether the owner's process still lives, and is not another with its id.
    #[must_use]
    pub fn lives(&self, owner: &Owner) -> bool {
        let Some(stat) = read(&self.path(owner.tgid, "stat"), FILE_BYTES) else { return false };
        let Some(started) = start_ticks(&String::from_utf8_lossy(&stat)) else { return false };
        owner.start_ns == 0 || started.abs_diff(owner.start_ns / self.ns_per_tick) <= 1
    }

    /// Path of the process's cgroup v2 directory.
    #[must_use]
    pub fn cgroup(&self, tgid: u32) -> Option<String> {
        let text = read(&self.path(tgid, "cgroup"), FILE_BYTES)?;
        let text = String::from_utf8_lossy(&text);
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        Some(path.strip_suffix(" (deleted)").unwrap_or(path).to_owned())
    }

    /// Name of the process: that of its executable, or of the script it interprets.
    #[must_use]
    pub fn name(&self, tgid: u32) -> Option<String> {
        let executable = std::fs::read_link(self.path(tgid, "exe")).ok()?;
        let line = read(&self.path(tgid, "cmdline"), COMMAND_LINE_BYTES).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_suffix('\0').unwrap_or(&line);
        let arguments: Vec<_> = line.split('\0').collect();
        let name = interpreter::process_name(&executable.to_string_lossy(), &arguments);
        (!name.is_empty()).then_some(name)
    }

    /// The one name that all processes directly in a cgroup have, if they have only one.
    #[must_use]
    pub fn common_name(&self, cgroup: &Path) -> Option<String> {
        let members = read(&cgroup.join("cgroup.procs"), FILE_BYTES)?;
        let members = String::from_utf8_lossy(&members);
        let mut common = None;
        for (looked_at, tgid) in members.lines().enumerate() {
            if looked_at == MEMBERS_LOOKED_AT {
                return None;
            }
            let Some(name) = tgid.parse().ok().and_then(|tgid| self.name(tgid)) else { continue };
            match &common {
                None => common = Some(name),
                Some(known) if *known == name => {}
                Some(_) => return None,
            }
        }
        common
    }
}

/// Field 22 of `/proc/PID/stat`. The name in field 2 may hold spaces and brackets.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The first bytes of a file; `None` when it cannot be read.
fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner(tgid: u32, start_ns: u64) -> Owner {
        Owner { cgroup_id: 0, netns_cookie: 0, start_ns, tgid, reserved: 0, comm: [0; 16] }
    }

    #[test]
    fn start_of_a_process_with_an_odd_name() {
        let numbers: Vec<_> = (4..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) b( c) S {}", numbers.join(" "));
        assert_eq!(start_ticks(&stat), Some(22));
    }

    #[test]
    fn reads_this_very_process() {
        let procfs = ProcFs::new("/proc");
        let me = std::process::id();
        let executable = std::env::current_exe().unwrap();
        let name = executable.file_name().unwrap().to_str().unwrap();
        assert_eq!(procfs.name(me).as_deref(), Some(name));
        assert!(procfs.cgroup(me).unwrap().starts_with('/'));
        assert!(procfs.lives(&owner(me, 0)));
        assert!(!procfs.lives(&owner(me, u64::MAX / 2)), "started at another time");
        assert!(!procfs.lives(&owner(u32::MAX, 0)));
    }

    #[test]
    fn sees_through_a_real_script() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("job.sh");
        std::fs::write(&script, "read line\n").unwrap();
        let mut child = std::process::Command::new("sh")
            .arg(&script)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Between fork and exec the child still looks like this process.
        let procfs = ProcFs::new("/proc");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let named = loop {
            let name = procfs.name(child.id());
            if name.as_deref() == Some("job.sh") || std::time::Instant::now() > deadline {
                break name;
            }
            std::thread::yield_now();
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(named.as_deref(), Some("job.sh"));
    }

    proptest! {
        #[test]
        fn no_stat_makes_it_panic(stat in "[0-9() A-Z\n-]{0,80}") {
            let _ = start_ticks(&stat);
        }
    }
}
