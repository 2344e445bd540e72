//! Running targets.

use std::{
    collections::VecDeque,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    corpus, folder,
    progress::{Progress, read},
};
use crate::{options::Fuzz, terminal::say};

/// An input may take so long: the slowest here take milliseconds.
const TIMEOUT_S: u32 = 10;

/// Memory that a target may come to, the sanitizer's included, and that it may ask for at once.
const MEMORY_MB: u32 = 768;
const AT_ONCE_MB: u32 = 128;

/// Longest input; targets have their own bounds below it.
const LONGEST: u32 = 8192;

/// What is freed is kept for so long that its use is noticed, but not for so long that it looks like growth.
const SANITIZER: &str = "quarantine_size_mb=8:allocator_may_return_null=0";

const EVERY: Duration = Duration::from_millis(200);

/// How often it is said how far the targets are.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// What came of a target.
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) progress: Progress,
    status: ExitStatus,
    log: PathBuf,
}

impl Outcome {
    pub(super) fn passed(&self) -> bool {
        self.status.success()
    }

    /// What is wrong, and where the input is.
    pub(super) fn complaint(&self) -> String {
        let Self { name, status, log, .. } = self;
        let artifacts = self.progress.artifact.as_deref().unwrap_or("no input was written");
        let reason = self.progress.reason.as_deref().unwrap_or("it ended");
        format!(
            "FAILED {name}: {reason} ({status})\n  input: {artifacts}\n  log:   {}",
            log.display()
        )
    }
}

struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Runs all of them, as many at a time as may be.
pub(super) fn all(runner: &Path, targets: &[String], options: &Fuzz) -> Result<Vec<Outcome>> {
    let place = place()?;
    let mut waiting: VecDeque<_> = targets.iter().collect();
    let mut running: Vec<Running> = Vec::new();
    let mut outcomes = Vec::new();
    let mut said = Instant::now();
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < options.jobs as usize
            && let Some(name) = waiting.pop_front()
        {
            running.push(start(runner, name, options.seconds, place.path())?);
        }
        std::thread::sleep(EVERY);
        let mut at = 0;
        while at < running.len() {
            let Some(status) = running[at].child.try_wait()? else {
                at += 1;
                continue;
            };
            let Running { name, log, .. } = running.swap_remove(at);
            let outcome = Outcome { progress: read(&log), name, status, log };
            let end = if outcome.passed() { "done  " } else { "FAILED" };
            say(format_args!("{end} {:<18} {}", outcome.name, outcome.progress));
            outcomes.push(outcome);
        }
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            for Running { name, log, .. } in &running {
                say(format_args!("       {name:<18} {}", read(log)));
            }
        }
    }
    outcomes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(outcomes)
}

/// In memory, where there is such a place: targets write and sync files.
fn place() -> Result<tempfile::TempDir> {
    let shared = Path::new("/dev/shm");
    let made = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
    made.context("no temporary folder")
}

fn start(runner: &Path, name: &str, seconds: u32, place: &Path) -> Result<Running> {
    let found = corpus::found(name);
    let own = place.join(name);
    let artifacts = folder().join("artifacts");
    for folder in [&found, &own, &artifacts] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let log = folder().join(format!("{name}.log"));
    let file = File::create(&log).with_context(|| log.display().to_string())?;
    let child = Command::new(runner)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT_S}"))
        .arg(format!("-rss_limit_mb={MEMORY_MB}"))
        .arg(format!("-malloc_limit_mb={AT_ONCE_MB}"))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-artifact_prefix={}/{name}-", artifacts.display()))
        .args(["-print_final_stats=1", "-reload=0"])
        .args([&found, &corpus::kept(name)])
        .env("WEFT_FUZZ_TARGET", name)
        .env("WEFT_FUZZ_DIR", own)
        .env("WEFT_FUZZ_SEEDS", &found)
        .env("ASAN_OPTIONS", SANITIZER)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(file))
        .spawn()
        .with_context(|| format!("cannot run {}", runner.display()))?;
    Ok(Running { name: name.to_owned(), child, log })
}
