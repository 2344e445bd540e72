//! What libFuzzer says of itself.

use std::{fmt, fs, path::Path};

use super::run::Outcome;

/// How far a target is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Progress {
    /// Inputs tried.
    pub(super) runs: u64,
    /// Since it began.
    per_second: u64,
    /// Places in the program that an input has come to.
    covered: u64,
    /// Inputs that each came to something new.
    inputs: u64,
    /// Resident memory in MB: as far as it went.
    memory_mb: u64,
    /// Why it failed, in its words.
    pub(super) reason: Option<String>,
    /// The input that it failed with.
    pub(super) artifact: Option<String>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, per_second, covered, inputs, memory_mb, .. } = self;
        write!(
            f,
            "{runs:>11} inputs {per_second:>7} /s  {covered:>6} places  {inputs:>5} kept  \
             {memory_mb:>4} MB"
        )
    }
}

/// Reads a log.
pub(super) fn read(log: &Path) -> Progress {
    let bytes = fs::read(log).unwrap_or_default();
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(log: &str) -> Progress {
    let mut progress = Progress::default();
    for line in log.lines() {
        if line.starts_with('#') && line.contains(" cov: ") {
            progress.pulse(line);
        } else if let Some(value) = line.strip_prefix("stat::") {
            progress.stat(value);
        } else if let Some(artifact) = line.split("Test unit written to ").nth(1) {
            progress.artifact = Some(artifact.trim().to_owned());
        } else if progress.reason.is_none() {
            // A panic says more than the signal that follows it.
            let text = line.trim();
            let says =
                ["panicked at", "ERROR: libFuzzer:", "ERROR: AddressSanitizer", "ERROR: Leak"];
            if says.iter().any(|word| text.contains(word)) {
                progress.reason = Some(text.to_owned());
            }
        }
    }
    progress
}

impl Progress {
    /// `#1024 pulse cov: 77 ft: 90 corp: 5/40b lim: 8 exec/s: 512 rss: 40Mb`
    fn pulse(&mut self, line: &str) {
        let mut words = line.trim_start_matches('#').split_whitespace();
        let number = |word: Option<&str>| {
            let word = word.unwrap_or_default();
            let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
            word[..end].parse().unwrap_or(0)
        };
        self.runs = number(words.next());
        while let Some(word) = words.next() {
            match word {
                "cov:" => self.covered = number(words.next()),
                "corp:" => self.inputs = number(words.next()),
                "exec/s:" => self.per_second = number(words.next()),
                "rss:" => self.memory_mb = self.memory_mb.max(number(words.next())),
                _ => {}
            }
        }
    }

    /// `peak_rss_mb: 40`
    fn stat(&mut self, line: &str) {
        let Some((name, value)) = line.split_once(':') else { return };
        let Ok(value) = value.trim().parse() else { return };
        match name {
            "number_of_executed_units" => self.runs = value,
            "average_exec_per_sec" => self.per_second = value,
            "peak_rss_mb" => self.memory_mb = value,
            _ => {}
        }
    }
}

/// A line for each target.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut out = format!(
        "{:<18}  {:>12}  {:>8}  {:>8}  {:>8}  {:>6}  ",
        "target", "inputs", "/s", "places", "corpus", "MB"
    );
    for outcome in outcomes {
        let Progress { runs, per_second, covered, inputs, memory_mb, .. } = &outcome.progress;
        let end = if outcome.passed() { "passed" } else { "FAILED" };
        out += &format!(
            "\n{:<18}  {runs:>12}  {per_second:>8}  {covered:>8}  {inputs:>8}  {memory_mb:>6}  {end}",
            outcome.name
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_last_line_counts_and_the_first_complaint() {
        let log = "INFO: Seed: 1\n#2\tINITED cov: 7 ft: 8 corp: 1/1b exec/s: 0 rss: 38Mb\n\
                   #1024\tpulse  cov: 77 ft: 90 corp: 5/40b lim: 8 exec/s: 512 rss: 40Mb\n\
                   thread 'main' panicked at src/a.rs:3:5:\n==1== ERROR: libFuzzer: deadly signal\n\
                   artifact_prefix='x/'; Test unit written to x/crash-1\n\
                   stat::number_of_executed_units: 2000\nstat::peak_rss_mb:  61\n";
        let progress = parse(log);
        assert_eq!((progress.runs, progress.per_second, progress.covered), (2000, 512, 77));
        assert_eq!((progress.inputs, progress.memory_mb), (5, 61));
        assert_eq!(progress.artifact.as_deref(), Some("x/crash-1"));
        assert!(progress.reason.unwrap().contains("panicked at src/a.rs"));
    }
}
