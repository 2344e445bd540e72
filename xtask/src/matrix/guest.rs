//! The programs under test, built so that they run without any library of the host, and the
//! smallest thing a guest can do.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{Guest, Image, boot};
use crate::process::cargo;

/// The programs under test.
pub const PROGRAMS: [&str; 3] = ["weft-agent", "weft-aggregator", "weft-traffic"];

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds [`PROGRAMS`] statically linked and gives their folder.
pub fn build(workspace: &Path, target_dir: &Path) -> Result<PathBuf> {
    super::say(format_args!("building {} without shared libraries", PROGRAMS.join(", ")));
    let mut cargo = cargo();
    cargo.current_dir(workspace).args(["build", "--locked", "--target", TARGET]);
    for program in PROGRAMS {
        cargo.args(["--bin", program]);
    }
    // Every byte of a program is copied by an emulated processor: no debugging information.
    let status = cargo
        .arg("--target-dir")
        .arg(target_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "none")
        .env("CARGO_PROFILE_DEV_STRIP", "debuginfo")
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the programs under test cannot be built");
    Ok(target_dir.join(TARGET).join("debug"))
}

/// Only boots and says what it found.
pub fn hello(image: &Image, folder: &Path, timeout: Duration) -> Result<String> {
    let script = "uname -r >&3\nls -l /sys/kernel/btf/vmlinux >&3\n";
    let outcome = boot(image, &Guest { files: &[], script, timeout }, folder)?;
    ensure!(outcome.exit == 0, "the script ended with {}: {}", outcome.exit, outcome.results);
    let release = outcome.results.lines().next().unwrap_or_default().to_owned();
    ensure!(
        release.starts_with(image.kernel.name),
        "booted {release} instead of {}",
        image.kernel.name
    );
    Ok(release)
}
