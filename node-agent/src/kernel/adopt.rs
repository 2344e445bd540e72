//! Processes that were there before the agent: their sockets get an owner, too.

use std::{collections::HashMap, fs, io, os::unix::fs::MetadataExt, path::Path};

use common::kernel::{OWNERS, Owner, owner_id};

use super::namespaces;

/// Ticks per second of /proc/PID/stat; the kernel's USER_HZ, fixed by its ABI.
const NS_PER_TICK: u64 = 10_000_000;

/// Every process below a cgroup directory, as an owner with its id. At most as many as the kernel map holds.
#[must_use]
pub fn processes_below(cgroup: &Path) -> Vec<(u64, Owner)> {
    let mut found = Vec::new();
    let mut cookies = HashMap::new();
    walk(cgroup, &mut cookies, &mut found);
    found
}

fn walk(directory: &Path, cookies: &mut HashMap<u64, u64>, found: &mut Vec<(u64, Owner)>) {
    let Ok(cgroup_id) = directory.metadata().map(|metadata| metadata.ino()) else {
        return;
    };
    // A threaded cgroup does not list its processes; its domain above does.
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for tgid in processes.lines().filter_map(|line| line.parse().ok()) {
        if found.len() >= OWNERS as usize / 2 {
            return;
        }
        if let Ok(owner) = owner(tgid, cgroup_id, cookies) {
            let id = owner_id(cgroup_id, owner.netns_cookie, tgid, owner.start_ns);
            found.push((id, owner));
        }
    }
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), cookies, found);
        }
    }
}

fn owner(tgid: u32, cgroup_id: u64, cookies: &mut HashMap<u64, u64>) -> io::Result<Owner> {
    let inode = namespaces::inode(tgid)?;
    let netns_cookie = match cookies.get(&inode) {
        Some(cookie) => *cookie,
        None => {
            let cookie = namespaces::cookie_of(tgid)?;
            cookies.insert(inode, cookie);
            cookie
        }
    };
    let stat = fs::read_to_string(format!("/proc/{tgid}/stat"))?;
    let (comm, start_ns) = parse_stat(&stat).ok_or(io::ErrorKind::InvalidData)?;
    let mut name = [0; 16];
    let len = comm.len().min(15);
    name[..len].copy_from_slice(&comm.as_bytes()[..len]);
    Ok(Owner { cgroup_id, netns_cookie, start_ns, tgid, reserved: 0, comm: name })
}

/// Command name and start in ns since boot of a line of /proc/PID/stat, whose command may hold anything.
fn parse_stat(stat: &str) -> Option<(&str, u64)> {
    let (_, rest) = stat.split_once('(')?;
    let (comm, rest) = rest.rsplit_once(')')?;
    // Field 22 of the line, the 20th after the command.
    let ticks: u64 = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some((comm, ticks.checked_mul(NS_PER_TICK)?))
}

#[cfg(test)]
mod tests {
    use super::parse_stat;

    #[test]
    fn a_command_with_parentheses_and_spaces_is_one_field() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 700 20 21";
        assert_eq!(parse_stat(stat), Some(("a) b (c", 7_000_000_000)));
        assert_eq!(parse_stat("12 (a"), None);
        assert_eq!(parse_stat(""), None);
    }
}
