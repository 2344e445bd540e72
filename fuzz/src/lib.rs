//! Everything that parses bytes from elsewhere, as targets: a function that takes any bytes and panics when what
//! becomes of them is not right.
//!
//! `cargo xtask fuzz` has libFuzzer think of bytes; what it kept is in `corpus/`, a folder for each target, and every
//! test run replays that with whatever compiler there is (`tests/replay.rs`). A new parser gets a file in `targets/`
//! and a line in [`TARGETS`].
#![forbid(unsafe_code)]

mod link;
mod targets;

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// One parser.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// What it parses.
    pub about: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Inputs to begin with, made by what makes them in earnest.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Longest input that is worth trying, in bytes.
    pub longest: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    targets::batches::TARGET,
    targets::btf::TARGET,
    targets::cluster::TARGET,
    targets::columns::TARGET,
    targets::config_agent::TARGET,
    targets::config_aggregator::TARGET,
    targets::conntrack::TARGET,
    targets::engine::TARGET,
    targets::exposition::TARGET,
    targets::hints::TARGET,
    targets::history::TARGET,
    targets::journal::TARGET,
    targets::kubernetes::TARGET,
    targets::ledger::TARGET,
    targets::messages::TARGET,
    targets::processes::TARGET,
    targets::query::TARGET,
    targets::recording::TARGET,
    targets::snapshot::TARGET,
    targets::spool::TARGET,
    targets::tls::TARGET,
];

static PLACE: OnceLock<PathBuf> = OnceLock::new();

/// Says where targets may write files. To be said before any of them runs.
pub fn set_place(dir: &Path) {
    let _ = PLACE.set(dir.to_path_buf());
}

/// Where targets may write files.
fn place() -> &'static Path {
    PLACE.get_or_init(std::env::temp_dir)
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The parts of an input, each behind its length in two bytes.
fn join<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        let part = part.as_ref();
        bytes.extend_from_slice(&(part.len() as u16).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}
