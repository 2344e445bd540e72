//! What the agent may do, and what it gives up as soon as it can.
//!
//! Capabilities belong to threads. The one that talks to the network gives up all of them; the one
//! that reads the kernel keeps a few once the programs are attached. No thread can gain any.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

/// What loading, attaching and looking take.
pub const USED: [(Capability, &str); 5] = [
    (Capability::CAP_BPF, "load programs"),
    (Capability::CAP_PERFMON, "attach to tracepoints"),
    (Capability::CAP_NET_ADMIN, "attach to cgroups, see through translated addresses"),
    (Capability::CAP_SYS_ADMIN, "enter network namespaces"),
    (Capability::CAP_SYS_PTRACE, "read the names of processes"),
];

/// What looking alone takes: maps and iterators on kernels before 5.19 (where `SYS_ADMIN` is
/// not held), connection tracking, the network namespaces of containers, and the processes of other users in `/proc`.
pub const KEPT: [Capability; 4] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
];

/// The calling thread, and those it starts, can no longer gain privileges by executing a program.
pub fn forbid_gaining() {
    if let Err(error) = nix::sys::prctl::set_no_new_privs() {
        tracing::warn!(%error, "cannot set no_new_privs");
    }
}

/// The calling thread, and those it starts, keep no other capabilities than these.
pub fn keep_only(kept: &[Capability]) {
    match reduce(kept) {
        Ok(left) => tracing::debug!(?left, "capabilities given up"),
        Err(error) => tracing::warn!(%error, "cannot give up capabilities"),
    }
}

fn reduce(kept: &[Capability]) -> Result<CapsHashSet, CapsError> {
    let held = caps::read(None, CapSet::Permitted)?;
    let left: CapsHashSet = held.intersection(&kept.iter().copied().collect()).copied().collect();
    // Nothing may be effective that is not permitted, so effective ones go first.
    caps::set(None, CapSet::Effective, &left)?;
    caps::set(None, CapSet::Permitted, &left)?;
    caps::clear(None, CapSet::Inheritable)?;
    // Not there before 4.3, and useless without inheritable ones.
    let _ = caps::clear(None, CapSet::Ambient);
    Ok(left)
}

/// Those of [`USED`] that the calling thread lacks, with their use; all when nobody tells.
#[must_use]
pub fn missing() -> Vec<(Capability, &'static str)> {
    let held = caps::read(None, CapSet::Effective).unwrap_or_default();
    USED.into_iter().filter(|(capability, _)| !held.contains(capability)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_what_it_is_told_and_its_children_no_more() {
        let held = caps::read(None, CapSet::Permitted).unwrap();
        let in_thread = std::thread::spawn(move || {
            keep_only(&KEPT);
            let child = std::thread::spawn(|| caps::read(None, CapSet::Effective).unwrap());
            let child = child.join().unwrap();
            let expected: CapsHashSet =
                KEPT.into_iter().filter(|capability| held.contains(capability)).collect();
            assert_eq!(child, expected);
            keep_only(&[]);
            assert!(caps::read(None, CapSet::Permitted).unwrap().is_empty());
            assert_eq!(missing().len(), USED.len());
            keep_only(&KEPT);
            assert!(caps::read(None, CapSet::Effective).unwrap().is_empty(), "nothing comes back");
        });
        in_thread.join().unwrap();
    }

    /// Does `work` in a thread that keeps only these.
    fn with<T: Send>(kept: &[Capability], work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                keep_only(kept);
                work()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn what_is_kept_is_needed() {
        if !missing().is_empty() {
            return crate::testing::skipped("not all capabilities are held: not root?");
        }
        let enter = || {
            let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).is_ok()
        };
        let mut other = std::process::Command::new("sleep");
        let mut other =
            std::os::unix::process::CommandExt::uid(other.arg("60"), 65_534).spawn().unwrap();
        let executable = format!("/proc/{}/exe", other.id());
        let name = || std::fs::read_link(&executable).is_ok();
        let without = |left_out: Capability| {
            KEPT.into_iter().filter(|kept| *kept != left_out).collect::<Vec<_>>()
        };
        let outcome = (
            with(&KEPT, || (enter(), name())),
            with(&without(Capability::CAP_SYS_ADMIN), || (enter(), name())),
            with(&without(Capability::CAP_SYS_PTRACE), || (enter(), name())),
        );
        let track = || crate::nat::probe().state == crate::source::ProgramState::Attached;
        if with(&KEPT, track) {
            assert!(!with(&without(Capability::CAP_NET_ADMIN), track));
        }
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(outcome, ((true, true), (false, true), (true, false)));
    }
}
