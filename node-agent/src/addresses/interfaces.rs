//! Addresses of the interfaces of a network namespace.

use std::{fs::File, net::IpAddr, os::unix::fs::MetadataExt as _, path::PathBuf, time::Instant};

use nix::{ifaddrs::getifaddrs, sched::CloneFlags};

use crate::netns;

/// A namespace to look into, by a process that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Cookie that the namespace must have.
    pub(super) cookie: u64,
    /// `/proc/PID/ns/net` of processes that were seen in it.
    pub(super) entrances: Vec<PathBuf>,
}

/// What was found in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Cookie of the namespace.
    pub(super) cookie: u64,
    /// Its addresses, without loopback and link-local ones.
    pub(super) addresses: Vec<IpAddr>,
    /// Entrances that no longer lead there.
    pub(super) dead: Vec<PathBuf>,
    /// It is the agent's own.
    pub(super) own: bool,
}

/// Addresses of the calling thread's network namespace.
pub(super) fn here() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let mut addresses: Vec<_> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .map(|address| address.to_canonical())
        .filter(is_announced)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Link-local addresses are the same on many links, so they name no host.
fn is_announced(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || link_local)
}

/// Looks into namespaces, in a thread of its own that can enter them.
pub(super) fn look_into(targets: Vec<Target>) -> Vec<Found> {
    if targets.is_empty() {
        return Vec::new();
    }
    let look = move || {
        let own = File::open("/proc/thread-self/ns/net").and_then(|file| file.metadata());
        let own = own.ok().map(|facts| facts.ino());
        targets.into_iter().map(|target| enter(target, own)).collect()
    };
    let thread = std::thread::Builder::new().name("weft-netns".to_owned()).spawn(look);
    thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_default()
}

/// Does some work in each of these namespaces that can be entered, in a thread of its own, one after the other until the
/// deadline. Returns what it came to in those that there was time for.
pub(super) fn work_in<T: Send>(
    targets: Vec<Target>,
    deadline: Instant,
    mut work: impl FnMut(u64) -> T + Send,
) -> Vec<(u64, Option<T>)> {
    if targets.is_empty() {
        return Vec::new();
    }
    let all = move || {
        let mut results = Vec::new();
        for target in targets {
            if Instant::now() >= deadline {
                break;
            }
            let cookie = target.cookie;
            let entered = find(target, &mut Vec::new());
            results.push((cookie, entered.map(|_| work(cookie))));
        }
        results
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("weft-netns".to_owned());
        match thread.spawn_scoped(scope, all) {
            Ok(thread) => thread.join().unwrap_or_default(),
            Err(error) => {
                tracing::debug!(%error, "no thread to enter namespaces in");
                Vec::new()
            }
        }
    })
}

fn enter(target: Target, own_inode: Option<u64>) -> Found {
    let mut found =
        Found { cookie: target.cookie, addresses: Vec::new(), dead: Vec::new(), own: false };
    if let Some(namespace) = find(target, &mut found.dead) {
        let inode = namespace.metadata().ok().map(|facts| facts.ino());
        found.own = inode.is_some() && inode == own_inode;
        found.addresses = here();
    }
    found
}

/// Enters a namespace by the first of its entrances that leads there.
fn find(target: Target, dead: &mut Vec<PathBuf>) -> Option<File> {
    for entrance in target.entrances {
        let Ok(namespace) = File::open(&entrance) else {
            dead.push(entrance);
            continue;
        };
        if let Err(error) = nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNET) {
            tracing::debug!(%error, "cannot enter {}", entrance.display());
            continue;
        }
        // A process may have moved to another namespace since it made its socket.
        if netns::cookie().is_ok_and(|cookie| cookie != target.cookie) {
            dead.push(entrance);
            continue;
        }
        return Some(namespace);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command, Stdio},
        time::Duration,
    };

    use super::*;

    struct Guard(Child);

    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn looks_into_another_namespace_and_checks_that_it_is_the_right_one() {
        let script =
            "ip address add 10.99.3.4/32 dev lo && ip link set lo up && echo ready && read x";
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(child) = child else { return crate::testing::skipped("no unshare here") };
        let mut child = Guard(child);
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.0.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        if line != "ready\n" {
            return crate::testing::skipped("namespaces cannot be made here");
        }
        let entrance = PathBuf::from(format!("/proc/{}/ns/net", child.0.id()));
        let dead = PathBuf::from("/proc/0/ns/net");
        let file = File::open(&entrance).unwrap();
        let cookie = std::thread::spawn(move || {
            nix::sched::setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            netns::cookie().ok()
        });
        let Some(cookie) = cookie.join().unwrap() else {
            return crate::testing::skipped("the kernel is too old to tell its cookies");
        };
        let entrances = vec![dead.clone(), entrance.clone()];
        let began = Instant::now();
        let found = look_into(vec![
            Target { cookie, entrances: entrances.clone() },
            Target { cookie: cookie + 1_000_000, entrances },
        ]);
        assert!(began.elapsed() < Duration::from_secs(5));
        let expected = Found {
            cookie,
            addresses: vec!["10.99.3.4".parse().unwrap()],
            dead: vec![dead.clone()],
            own: false,
        };
        assert_eq!(found[0], expected);
        assert!(found[1].addresses.is_empty(), "another namespace than the one meant");
        assert_eq!(found[1].dead, [dead, entrance]);
    }
    #[test]
    fn what_there_is_no_time_or_no_way_for_is_told_apart() {
        let targets: Vec<_> = [1, 2].map(|cookie| Target { cookie, entrances: Vec::new() }).into();
        let now = Instant::now();
        assert!(work_in(targets.clone(), now, |_| ()).is_empty(), "no time");
        let worked = work_in(targets, now + Duration::from_secs(60), |_| ());
        assert_eq!(worked, [(1, None), (2, None)]);
    }
}
