//! `cargo xtask truth`: random worlds with real agents and real traffic, one after the other; each graph must be the
//! truth.

use std::{
    env,
    fs::File,
    os::unix::process::CommandExt,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use testbed::{
    binaries, environment,
    lab::mount_point,
    worlds::{Feature, Features, Options, run},
};

use crate::{
    options::Truth,
    process::{cargo, run as run_command, target_folder},
    terminal::{complain, say},
};

/// Worlds, when nobody says how many.
const SEEDS: u64 = 20;

/// Plays one world after the other.
///
/// # Errors
/// When the graph of one is not the truth, or one cannot be played; after all of them.
pub fn run_all(options: &Truth) -> Result<()> {
    environment::check().context("real agents cannot run here")?;
    build()?;
    let features = features(options);
    let names: Vec<_> = features.iter().map(Feature::to_string).collect();
    let first = options.seed.unwrap_or(1);
    let seeds = options.seeds.unwrap_or(if options.seed.is_some() { 1 } else { SEEDS });
    say(format_args!("{seeds} worlds with {}", names.join(", ")));
    let begin = Instant::now();
    let (mut wrong, mut edges, mut connections) = (Vec::new(), 0, 0);
    let how = Options { features, keep: options.keep.clone() };
    for seed in (0..seeds).map(|number| first.wrapping_add(number)) {
        let alone = alone()?;
        let result = run(seed, &how);
        drop(alone);
        match result {
            Ok(outcome) => {
                say(format_args!("{outcome}"));
                edges += outcome.verdict.true_edges;
                connections += outcome.connections;
                if !outcome.verdict.is_exact() {
                    complain(format_args!("{}", outcome.verdict.wrong.trim_end()));
                    wrong.push(seed);
                }
            }
            Err(error) => {
                complain(format_args!("seed {seed}: cannot be played: {error}"));
                wrong.push(seed);
            }
        }
    }
    let took = Duration::from_secs(begin.elapsed().as_secs());
    if !wrong.is_empty() {
        let wrong: Vec<_> = wrong.iter().map(u64::to_string).collect();
        bail!("{} of {seeds} worlds came out wrong: seeds {}", wrong.len(), wrong.join(", "));
    }
    say(format_args!(
        "{seeds} worlds, {edges} edges, {connections} connections in {took:?}: exact"
    ));
    Ok(())
}

/// Alone among those that make labs, world by world: the end-to-end tests take the same lock.
fn alone() -> Result<Flock<File>> {
    let mount = File::open(mount_point()?).context("open the cgroup file system")?;
    let locked = Flock::lock(mount, FlockArg::LockExclusive).map_err(|(_, error)| error);
    locked.context("lock the cgroup file system")
}

fn features(options: &Truth) -> Features {
    Feature::ALL.into_iter().filter(|feature| !options.without.contains(feature)).collect()
}

/// Builds what the worlds are played with, unless it is said where that is.
fn build() -> Result<()> {
    if env::var_os(binaries::BIN_DIR).is_some() {
        return Ok(());
    }
    // Asked now: while cargo builds, this program's file may be replaced.
    let own = env::current_exe().context("find this program")?;
    let packages = ["-p", "aggregator", "-p", "node-agent", "-p", "testbed"];
    run_command(cargo().args(["build", "--bins"]).args(packages))?;
    let bins = target_folder().join("debug");
    ensure!(bins.join("weft-agent").exists(), "cargo built no weft-agent in {}", bins.display());
    // Once more, knowing where the programs are.
    let error = Command::new(own).args(env::args_os().skip(1)).env(binaries::BIN_DIR, bins).exec();
    Err(error).context("start again")
}
