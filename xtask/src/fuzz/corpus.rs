//! Inputs: those that are kept in the repository, and those that were found since.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{folder, package};
use crate::terminal::say;

/// Bytes of inputs that are kept for a target, and how many there may be.
const KEPT_BYTES: u64 = 24_000;
const KEPT_INPUTS: usize = 128;

/// The folder of kept inputs.
pub(super) fn kept(target: &str) -> PathBuf {
    package().join("corpus").join(target)
}

/// The folder of what was found.
pub(super) fn found(target: &str) -> PathBuf {
    folder().join("corpus").join(target)
}

/// Has the fewest inputs chosen that come to everything that all of them came to, and keeps those, small ones first,
/// up to a bound.
pub(super) fn keep(runner: &Path, target: &str) -> Result<()> {
    let chosen = tempfile::tempdir()?;
    let place = tempfile::tempdir()?;
    let status = Command::new(runner)
        .args(["-set_cover_merge=1", "-timeout=10"])
        .args([chosen.path(), kept(target).as_path(), found(target).as_path()])
        .env("WEFT_FUZZ_TARGET", target)
        .env("WEFT_FUZZ_DIR", place.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", runner.display()))?;
    ensure!(status.success(), "the inputs of {target} cannot be merged: {status}");
    let mut inputs = Vec::new();
    for entry in fs::read_dir(chosen.path())? {
        let entry = entry?;
        inputs.push((entry.metadata()?.len(), entry.path()));
    }
    inputs.sort_unstable();
    let folder = kept(target);
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        // Those with names of their own are what once went wrong.
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            fs::remove_file(path)?;
        }
    }
    let (mut bytes, mut count) = (0, 0);
    for (length, path) in inputs {
        bytes += length;
        if bytes > KEPT_BYTES || count == KEPT_INPUTS {
            break;
        }
        count += 1;
        fs::copy(&path, folder.join(path.file_name().unwrap_or_default()))?;
    }
    say(format_args!("kept   {target:<18} {count} inputs"));
    Ok(())
}
