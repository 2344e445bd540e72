//! What a process has used, by `/proc`, and what the machine is.

use std::{fs, process::Command};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Ticks of `/proc/PID/stat` in a second.
const TICKS: f64 = 100.0;

/// What a process has used so far, and what it has now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_mb: f64,
    /// The most that was resident.
    pub highest_mb: f64,
    pub threads: f64,
    pub files: f64,
    /// What it had the system write to disks.
    pub written_mb: f64,
}

impl Usage {
    pub fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let cpu_seconds = cpu_ticks(&read("stat")?).context("no CPU time")? as f64 / TICKS;
        let status = read("status")?;
        let field = |key: &str| field(&status, key).with_context(|| format!("no {key}"));
        Ok(Self {
            cpu_seconds,
            resident_mb: field("VmRSS")? / 1024.0,
            highest_mb: field("VmHWM")? / 1024.0,
            threads: field("Threads")?,
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64,
            // Not told of processes of others.
            written_mb: read("io").map_or(0.0, |io| self::field(&io, "write_bytes").unwrap_or(0.0))
                / 1e6,
        })
    }
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name may hold anything, a bracket too; utime is the 12th field after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn field(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What belongs to every figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    pub date: String,
    pub kernel: String,
    pub cpu: String,
    pub cores: usize,
    pub memory_mb: u64,
    /// Of the source tree, with `-dirty` when it had changes; empty outside of one.
    pub git: String,
    /// Load average over 1, 5 and 15 minutes at the start.
    pub load_average: String,
    pub optimised: bool,
}

impl Environment {
    pub fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let loads = read("/proc/loadavg");
        Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mb: field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default() as u64 / 1024,
            git: revision(),
            load_average: loads.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
            optimised: !cfg!(debug_assertions),
        }
    }
}

fn revision() -> String {
    let describe = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    let output = describe.ok().filter(|output| output.status.success());
    output.map_or_else(String::new, |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 42 17 5 5 20 0 9 0";
        assert_eq!(cpu_ticks(stat), Some(59));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident_mb > 1.0 && usage.highest_mb >= usage.resident_mb);
        assert!(usage.files >= 3.0 && usage.threads >= 1.0);
    }
}
