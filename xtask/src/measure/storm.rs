//! What agents cost while short connections rush between their hosts: CPU and memory of the
//! agents, and time of the kernel programs.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use testbed::{fleet::Fleet, lab::Lab};

use super::{
    Stop,
    bpf::{self, Family, Runs, Statistics},
    machine,
    process::{cpu_seconds, memory},
    rush::{self, INTERVAL, blow, must_show, peers},
    spread::Figures,
};
use crate::{options::Storm, terminal::say};

/// How long nothing happens before the storm.
const CALM: Duration = Duration::from_secs(5);
/// How long the last packets may take.
const LAST_PACKETS: Duration = Duration::from_millis(500);
/// Prints the figures of some storms.
///
/// # Errors
/// When there can be no lab, a part fails, or the graph is not exact.
pub fn measure(options: &Storm) -> Result<()> {
    let _alone = rush::prepare()?;
    let stop = Stop::on_signals()?;
    let _statistics = Statistics::enable()?;
    let agents = if options.one_agent { "one agent" } else { "two agents" };
    say(format_args!("{}", machine::facts()));
    say(format_args!("storm    {} connections, {agents}\n", options.connections));
    let mut figures = Figures::default();
    for run in 1..=options.runs {
        stop.check()?;
        let line = play(options, &mut figures).with_context(|| format!("run {run}"))?;
        say(format_args!("run {run}: {line}"));
    }
    say(format_args!("\n{}", figures.table()));
    figures.keep(options.json.as_deref())
}

/// One storm in a lab of its own.
fn play(options: &Storm, figures: &mut Figures) -> Result<String> {
    let lab = Lab::new()?;
    let mut fleet = Fleet::start(&lab, INTERVAL)?;
    let hosts = if options.one_agent { vec!["one"] } else { vec!["one", "two"] };
    let hosts = hosts.into_iter().map(|name| lab.host(name)).collect::<Result<Vec<_>, _>>()?;
    for host in &hosts {
        fleet.add_agent(host)?;
    }
    let agents: Vec<(String, u32)> =
        fleet.agents().iter().map(|it| (it.node.clone(), it.process.id())).collect();
    let pids: Vec<u32> = agents.iter().map(|(_, pid)| *pid).collect();
    for (node, pid) in &agents {
        figures.add(format!("agent {node}: CPU of its start, s"), cpu_seconds(*pid)?);
    }
    let (mut client, server, targets) = peers(&hosts)?;

    let before_calm = cpu(&pids)?;
    let others = machine::busy(CALM);
    let calm = sum(&cpu(&pids)?) - sum(&before_calm);
    figures.add("processors busy before the storm", others);
    figures.add("agents: CPU per second while calm, ms", calm / CALM.as_secs_f64() * 1e3);

    let (cpu_before, runs_before, began) = (cpu(&pids)?, bpf::runs(&pids)?, Instant::now());
    let truth = blow(options.connections, &mut client, &targets, server.name())?;
    let blew = began.elapsed().as_secs_f64();
    thread::sleep(LAST_PACKETS);
    let runs = bpf::between(&runs_before, &bpf::runs(&pids)?);
    let ran = began.elapsed().as_secs_f64();
    must_show(&fleet, &truth)?;
    let (shown, cpu_after) = (began.elapsed().as_secs_f64(), cpu(&pids)?);

    figures.add("storm, s", blew);
    figures.add("connections per second", f64::from(options.connections) / blew);
    figures.add("until the graph is exact, s", shown);
    for (index, (node, pid)) in agents.iter().enumerate() {
        let used = cpu_after[index] - cpu_before[index];
        figures.add(format!("agent {node}: CPU of the storm, s"), used);
        add_memory(figures, node, *pid)?;
    }
    let connections = f64::from(options.connections);
    let used = sum(&cpu_after) - sum(&cpu_before);
    figures.add("agents: CPU per connection, µs", used / connections * 1e6);
    let per_connection = add_runs(figures, &runs, connections, agents.len() as f64 * ran);
    drop((client, server));
    fleet.stop()?;
    Ok(format!(
        "graph exact; {blew:.1} s, agents {used:.2} s CPU, programs {per_connection:.0} ns per \
         connection, {others:.2} processors busy before"
    ))
}

fn cpu(pids: &[u32]) -> Result<Vec<f64>> {
    pids.iter().map(|pid| cpu_seconds(*pid)).collect()
}

fn sum(seconds: &[f64]) -> f64 {
    seconds.iter().sum()
}

fn add_memory(figures: &mut Figures, node: &str, pid: u32) -> Result<()> {
    let memory = memory(pid)?;
    let (maps, programs) = bpf::memory(pid)?;
    for (what, kib) in [
        ("resident, MiB", memory.resident),
        ("highest resident, MiB", memory.highest),
        ("resident, of it anonymous, MiB", memory.anonymous),
        ("resident, of it files, MiB", memory.file),
        ("kernel maps, MiB", maps as f64 / 1024.0),
        ("kernel programs, MiB", programs as f64 / 1024.0),
    ] {
        figures.add(format!("agent {node}: {what}"), kib / 1024.0);
    }
    Ok(())
}

/// Adds the time of the programs; returns that of the TCP path in ns per connection. `seconds`
/// are those of all agents together.
fn add_runs(
    figures: &mut Figures,
    runs: &BTreeMap<String, Runs>,
    connections: f64,
    seconds: f64,
) -> f64 {
    let [mut tcp_path, mut run_queue] = [0.0; 2];
    for (name, runs) in runs {
        let (count, ns) = (runs.count as f64, runs.ns as f64);
        match Family::of(name) {
            Family::TcpPath => {
                figures.add(format!("{name}: runs per connection"), count / connections);
                figures.add(format!("{name}: ns per connection"), ns / connections);
                tcp_path += ns / connections;
            }
            Family::RunQueue => {
                run_queue += ns;
                figures.add(format!("{name}: runs per second and agent"), count / seconds);
                figures.add(format!("{name}: ns per run"), ns / count);
            }
            Family::Iterator => figures.add(format!("{name}: ms in the storm"), ns / 1e6),
        }
    }
    figures.add("programs of the TCP path: ns per connection, both ends", tcp_path);
    figures.add("programs of the run queue: ms per second and agent", run_queue / 1e6 / seconds);
    tcp_path
}
