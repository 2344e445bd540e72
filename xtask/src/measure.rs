//! What Weft costs, measured with optimised builds: the figures of `docs/PERFORMANCE.md`.

mod bpf;
mod freshness;
pub mod goals;
mod ingest;
mod joining;
mod machine;
mod process;

mod rush;
mod scenario;
mod slowdown;
mod spread;
mod storm;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{
    options::{Measure, Measurement},
    process::{cargo, run, target_folder},
};

/// Takes a measurement and prints its figures.
///
/// # Errors
/// When something is missing, a part does not run as it should, or a run was stopped.
pub fn run_all(options: &Measure) -> Result<()> {
    match &options.what {
        Measurement::Storm(storm) => storm::measure(storm),
        Measurement::Slowdown(slowdown) => slowdown::measure(slowdown),
        Measurement::Freshness(freshness) => freshness::measure(freshness),
        Measurement::Ingest(ingest) => ingest::measure(ingest),
        Measurement::Joining(joining) => joining::measure(joining),
    }
}

/// Builds programs with optimisations and returns their folder.
fn build(arguments: &[&str]) -> Result<std::path::PathBuf> {
    run(cargo().args(["build", "--release"]).args(arguments))?;
    Ok(target_folder().join("release"))
}

/// Whether somebody wants us to end. Asked between runs, so that each cleans up after itself.
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn on_signals() -> Result<Self> {
        let stop = Self(Arc::default());
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0)).context("handle signals")?;
        }
        Ok(stop)
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.0.load(Ordering::Relaxed), "stopped by a signal");
        Ok(())
    }
}
