//! `cargo xtask demo`: real agents on three hosts, a small shop that talks across them, and
//! its graph in the terminal.

mod shop;
mod table;

use std::{
    io::{IsTerminal, stdout},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};
use testbed::{
    binaries, environment,
    fleet::{Fleet, HTTP},
    lab::{Forward, Lab},
};

use crate::{
    options::Demo,
    process::{cargo, run},
    terminal::say,
};
use table::Screen;

/// How often the table is drawn anew in a terminal, and printed elsewhere.
const DRAW: Duration = Duration::from_secs(1);
const PRINT: Duration = Duration::from_secs(10);

/// Runs the demo until its time is over or Ctrl-C.
///
/// # Errors
/// When something is missing, said in one line before anything is built; or when a part
/// does not start or stop as it should.
pub fn run_all(options: &Demo) -> Result<()> {
    environment::check().context("the demo cannot run here")?;
    // Taken before the long build, so that a port in use is known at once.
    let door = TcpListener::bind(options.http)
        .with_context(|| format!("cannot listen on {}, choose another --http", options.http))?;
    build(options.release)?;

    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("handle signals")?;
    }
    let started = Instant::now();
    let stopped = || {
        stop.load(Ordering::Relaxed)
            || options.duration.is_some_and(|limit| started.elapsed() >= limit)
    };
    let lab = Lab::new()?;
    let (cgroup, folder) = (lab.cgroup().to_owned(), lab.folder().to_owned());
    let result = play(lab, door, options, &stopped);
    let left: Vec<_> = [&cgroup, &folder].into_iter().filter(|path| path.exists()).collect();
    result?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    say(format_args!("stopped; nothing is left behind"));
    Ok(())
}

fn play(lab: Lab, door: TcpListener, options: &Demo, stopped: &dyn Fn() -> bool) -> Result<()> {
    say(format_args!("starting an aggregator and {} hosts with an agent each", shop::HOSTS.len()));
    let mut fleet = Fleet::start(&lab, Duration::from_secs(1))?;
    let mut hosts = Vec::new();
    for name in shop::HOSTS {
        let host = lab.host(name)?;
        fleet.add_agent(&host)?;
        say(format_args!("  {name}: {}", host.ipv4()));
        hosts.push(host);
        if stopped() {
            return Ok(fleet.stop()?);
        }
    }
    // A host without an agent: what it does is only seen from the other side.
    hosts.push(lab.host(shop::UNCOVERED)?);
    let shop = shop::open(&hosts)?;
    let target = HTTP.parse().context("the aggregator's address")?;
    let forward = Forward::start(door, fleet.host().namespace(), target)?;
    watch(&fleet, options, stopped)?;
    drop((forward, shop));
    say(format_args!("stopping"));
    fleet.stop()?;
    Ok(())
}

/// Shows the graph until it is time to stop.
fn watch(fleet: &Fleet, options: &Demo, stopped: &dyn Fn() -> bool) -> Result<()> {
    let mut screen = Screen::new(stdout().is_terminal());
    let pause = if screen.is_live() { DRAW } else { PRINT };
    let url = format!("http://{}", options.http);
    let head = format!(
        "\n  topology  {url}/api/v1/topology\n  nodes     {url}/api/v1/nodes\n  \
         metrics   {url}/metrics\n  grafana   {url}/api/graph/data (node graph API)\n{}\n",
        match options.duration {
            Some(limit) => format!("  stops after {limit:?} or at Ctrl-C"),
            None => "  Ctrl-C stops it".into(),
        }
    );
    say(format_args!("{head}"));
    loop {
        let next = Instant::now() + pause;
        while Instant::now() < next && !stopped() {
            thread::sleep(Duration::from_millis(50));
        }
        screen.show(&table::draw(&fleet.json("/api/v1/topology")?));
        if stopped() {
            return Ok(());
        }
    }
}

/// Builds what the demo runs, with cargo's own progress.
fn build(release: bool) -> Result<()> {
    let mut command = cargo();
    command.args(["build", "-p", "aggregator", "-p", "node-agent", "-p", "testbed", "--bins"]);
    if release {
        command.arg("--release");
    }
    run(&mut command)?;
    let bins = crate::process::target_folder().join(if release { "release" } else { "debug" });
    for program in ["weft-agent", "weft-aggregator", "weft-traffic"] {
        if !bins.join(program).exists() {
            bail!("cargo built no {program} in {}", bins.display());
        }
    }
    binaries::prefer(bins);
    Ok(())
}
