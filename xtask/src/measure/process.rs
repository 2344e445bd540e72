//! What a process has used so far, by `/proc`.

use std::fs;

use anyhow::{Context, Result};

/// Ticks of `/proc/PID/stat` in a second: the same on every architecture that Linux still has
/// agents for.
pub const TICKS: f64 = 100.0;

/// CPU seconds in user space and in the kernel. Time in kernel programs that another process
/// set off is not among them.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    cpu_ticks(&stat).map(|ticks| ticks as f64 / TICKS).with_context(|| format!("{path}: {stat}"))
}

/// utime and stime.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name may hold anything, a bracket too; utime is the 12th field after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Memory in KiB, as in `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Resident now.
    pub resident: f64,
    /// The most that was resident.
    pub highest: f64,
    /// Of it: heap and stacks.
    pub anonymous: f64,
    /// Of it: the program's own file.
    pub file: f64,
}

/// Memory of a process.
pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    parse_memory(&status).with_context(|| format!("{path} tells no memory"))
}

fn parse_memory(status: &str) -> Option<Memory> {
    let field = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some(Memory {
        resident: field("VmRSS")?,
        highest: field("VmHWM")?,
        anonymous: field("RssAnon")?,
        file: field("RssFile")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 42 17 5 5 20 0 9 0";
        assert_eq!(cpu_ticks(stat), Some(59));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn memory_has_four_parts() {
        let status = "VmHWM:\t  30 kB\nVmRSS:\t  20 kB\nRssAnon:\t 12 kB\nRssFile:\t 8 kB\n";
        let expected = Memory { resident: 20.0, highest: 30.0, anonymous: 12.0, file: 8.0 };
        assert_eq!(parse_memory(status), Some(expected));
        assert_eq!(parse_memory("VmRSS:\t 1 kB\n"), None);
    }
}
