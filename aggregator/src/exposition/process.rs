//! The aggregator's own CPU and memory, by the names every exporter uses.

use super::text::{head, sample};

/// Ticks of `/proc` a second: the kernel shows them in this unit on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Appends what the system says about this process; nothing where it does not.
pub(super) fn write(out: &mut String) {
    if let Some(seconds) = cpu_seconds() {
        let name = "process_cpu_seconds_total";
        head(out, name, "counter", "CPU time used, user and system.");
        sample(out, name, "", seconds);
    }
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        head(out, name, "gauge", "Resident memory.");
        sample(out, name, "", bytes);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        let name = "process_open_fds";
        head(out, name, "gauge", "Open file descriptors.");
        // One of them is the directory that is read here.
        sample(out, name, "", files.count().saturating_sub(1));
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold spaces; the fields after it do not.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_a_size() {
        assert!(super::resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(super::cpu_seconds().is_some_and(|seconds| seconds < 100_000.0));
    }
}
