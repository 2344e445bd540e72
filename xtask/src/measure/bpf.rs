//! Run time of kernel programs and memory of kernel maps, by `bpftool`.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testbed::fleet::KernelObjects;

use crate::terminal::complain;

/// Whether the kernel takes the time of programs.
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// The kernel keeps so much of a name.
const NAME: usize = 15;

/// Programs that a connection sets off: its socket, its attempt, its packets, its states.
const TCP_PATH: [&str; 6] = [
    "weft_sock_create",
    "weft_connect4",
    "weft_connect6",
    "weft_connect_exit",
    "weft_sock_ops",
    "weft_set_state",
];
/// Programs that read the run queue.
const RUN_QUEUE: [&str; 3] = ["weft_wakeup", "weft_wakeup_new", "weft_switch"];

/// Lets the kernel take the time of programs until it is dropped.
#[derive(Debug)]
pub struct Statistics {
    before: String,
}

impl Statistics {
    /// Switches them on.
    pub fn enable() -> Result<Self> {
        let before = fs::read_to_string(STATS).with_context(|| format!("read {STATS}"))?;
        fs::write(STATS, "1").with_context(|| format!("write {STATS}"))?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(STATS, &self.before) {
            complain(format_args!("cannot set {STATS} back to {}: {error}", self.before.trim()));
        }
    }
}

/// What a program belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Set off by connections.
    TcpPath,
    /// Set off by the scheduler.
    RunQueue,
    /// Run by the agent itself; its CPU time has it already.
    Iterator,
}

impl Family {
    /// The family of the program that the kernel calls so.
    pub fn of(name: &str) -> Self {
        let is = |full: &str| short(full) == short(name);
        if TCP_PATH.iter().any(|full| is(full)) {
            Self::TcpPath
        } else if RUN_QUEUE.iter().any(|full| is(full)) {
            Self::RunQueue
        } else {
            Self::Iterator
        }
    }
}

fn short(name: &str) -> &str {
    name.get(..NAME).unwrap_or(name)
}

/// How often a program ran, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Times.
    pub count: u64,
    /// Nanoseconds altogether.
    pub ns: u64,
}

/// Runs so far of the programs that processes hold, added up by name.
pub fn runs(pids: &[u32]) -> Result<BTreeMap<String, Runs>> {
    let shown = show("prog")?;
    let mut runs = BTreeMap::<_, Runs>::new();
    for pid in pids {
        let held = KernelObjects::held_by(*pid)?.programs;
        for program in ours(&shown, |id| held.contains(&id)) {
            let name = program["name"].as_str().unwrap_or_default().to_owned();
            let number = |key: &str| program[key].as_u64().unwrap_or_default();
            let sum = runs.entry(name).or_default();
            sum.count += number("run_cnt");
            sum.ns += number("run_time_ns");
        }
    }
    Ok(runs)
}

/// Runs between two looks.
pub fn between(
    before: &BTreeMap<String, Runs>,
    after: &BTreeMap<String, Runs>,
) -> BTreeMap<String, Runs> {
    let gain = |(name, now): (&String, &Runs)| {
        let earlier = before.get(name).copied().unwrap_or_default();
        let count = now.count.saturating_sub(earlier.count);
        let ns = now.ns.saturating_sub(earlier.ns);
        (name.clone(), Runs { count, ns })
    };
    after.iter().map(gain).collect()
}

/// Bytes of memory that the kernel charges for the maps and for the programs of a process.
pub fn memory(pid: u32) -> Result<(u64, u64)> {
    let held = KernelObjects::held_by(pid)?;
    let sum = |objects: &[Value], ids: &std::collections::BTreeSet<u64>| {
        ours(objects, |id| ids.contains(&id)).filter_map(|it| it["bytes_memlock"].as_u64()).sum()
    };
    Ok((sum(&show("map")?, &held.maps), sum(&show("prog")?, &held.programs)))
}

fn ours(objects: &[Value], held: impl Fn(u64) -> bool) -> impl Iterator<Item = &Value> {
    objects.iter().filter(move |object| object["id"].as_u64().is_some_and(&held))
}

fn show(kind: &str) -> Result<Vec<Value>> {
    let output = Command::new("bpftool")
        .args(["-j", kind, "show"])
        .output()
        .context("cannot run bpftool (package bpftool)")?;
    if !output.status.success() {
        bail!("`bpftool {kind} show`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("bpftool {kind} show"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_known_by_short_names_too() {
        assert_eq!(Family::of("weft_sock_creat"), Family::TcpPath);
        assert_eq!(Family::of("weft_connect_exit"), Family::TcpPath);
        assert_eq!(Family::of("weft_wakeup_new"), Family::RunQueue);
        assert_eq!(Family::of("weft_walk_tcp"), Family::Iterator);
    }

    #[test]
    fn what_ran_before_does_not_count() {
        let look = |count, ns| BTreeMap::from([("a".to_owned(), Runs { count, ns })]);
        assert_eq!(between(&look(2, 100), &look(5, 700)), look(3, 600));
        assert_eq!(between(&BTreeMap::new(), &look(5, 700)), look(5, 700));
    }
}
