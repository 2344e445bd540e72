//! Facts of the machine, and how busy it is with other things.

use std::{fs, thread, time::Duration};

use crate::process::output_of;

/// A few lines that belong to every figure.
pub fn facts() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = value_of(&cpus, "model name").unwrap_or("unknown processor");
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let memory: u64 = value_of(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse().ok())
        .unwrap_or_default();
    let guest = if cpus.contains(" hypervisor") { ", a virtual machine" } else { "" };
    let date = output_of(std::process::Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]));
    format!(
        "date     {}\nmachine  {cores} x {model}{guest}, {} MiB of memory\nkernel   Linux {}\n\
         load     {} (1, 5 and 15 minutes)",
        date.unwrap_or_default(),
        memory / 1024,
        read("/proc/sys/kernel/osrelease").trim(),
        loads().join(" "),
    )
}

/// How many processors were busy on average over `time`, whoever used them, and stolen ones:
/// 0 on a machine that does nothing.
pub fn busy(time: Duration) -> f64 {
    let before = busy_ticks();
    thread::sleep(time);
    busy_ticks().saturating_sub(before) as f64 / super::process::TICKS / time.as_secs_f64()
}

fn busy_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; guest time is part of user time.
    let counts = first.split_whitespace().skip(1).take(8).enumerate();
    let busy = counts.filter(|(place, _)| ![3, 4].contains(place));
    busy.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum()
}

fn loads() -> Vec<String> {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).map(str::to_owned).collect()
}

fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_behind_a_colon() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2:1\n";
        assert_eq!(value_of(text, "model name"), Some("Some CPU @ 2:1"));
        assert_eq!(value_of(text, "model"), None);
    }
}
