//! `cargo xtask kill`: SIGKILL at random moments, under load; in the end every number is what was sent.
//!
//! Thousands of simulated connections are the load tester's ([`load::kill`]); `real` has a few real agents and the
//! kernel's own numbers.

mod counters;
mod real;

use anyhow::Result;
use testbed::environment;

use crate::{
    load,
    options::{Agents, Kill},
    terminal::loud,
};

/// Kills as often as asked, with every kind of agents that was asked for.
///
/// # Errors
/// When a total is not what was sent in the end, or a counter fell on the way.
pub fn run_all(options: &Kill) -> Result<()> {
    if options.only != Some(Agents::Simulated) {
        match environment::check() {
            Err(reason) if options.only.is_none() => {
                loud(&format!("SKIPPED: real agents ({reason})"))
            }
            _ => real::run(options)?,
        }
    }
    if options.only != Some(Agents::Real) {
        load::kill(options)?;
    }
    Ok(())
}
