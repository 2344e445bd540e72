//! What agents take from a service under load: storms with and without them, in turn, so that what else the machine
//! does meets both alike.

use std::time::Instant;

use anyhow::{Context, Result};
use testbed::{fleet::Fleet, lab::Lab};

use super::{
    Stop, machine,
    process::cpu_seconds,
    rush::{self, INTERVAL, blow, must_show, peers},
    spread::Figures,
};
use crate::{options::Slowdown, terminal::say};

/// What a storm was like for those in it.
#[derive(Clone, Copy, Debug)]
struct Storm {
    /// CPU time of client and server together for each connection, in microseconds, what the kernel does in their names
    /// included, and so what it does for an agent.
    cpu_us: f64,
    connections_per_second: f64,
}

/// Prints how storms with agents differ from those without.
///
/// # Errors
/// When there can be no lab, a part fails, or the graph is not exact.
pub fn measure(options: &Slowdown) -> Result<()> {
    let _alone = rush::prepare()?;
    let stop = Stop::on_signals()?;
    let connections = options.connections;
    say(format_args!("{}", machine::facts()));
    say(format_args!("storms   {connections} connections, in pairs\n"));
    let mut figures = Figures::default();
    for pair in 1..=options.pairs {
        let first = with_agents_first(pair);
        let mut storm = |agents| -> Result<Storm> {
            stop.check()?;
            let with = if agents { "with" } else { "without" };
            let storm =
                play(connections, agents).with_context(|| format!("pair {pair}, {with} agents"))?;
            figures.add(format!("{with} agents: CPU per connection, µs"), storm.cpu_us);
            let speed = storm.connections_per_second;
            figures.add(format!("{with} agents: connections per second"), speed);
            Ok(storm)
        };
        let (one, other) = (storm(first)?, storm(!first)?);
        let (with, without) = if first { (one, other) } else { (other, one) };
        let (cpu, slower) = difference(with, without);
        say(format_args!(
            "pair {pair}: with agents {:+.2} µs of {:.1} per connection ({:+.1} %), {slower:+.1} % slower",
            cpu,
            without.cpu_us,
            100.0 * cpu / without.cpu_us,
        ));
        figures.add("more CPU per connection with agents, µs", cpu);
        figures.add("more CPU per connection with agents, %", 100.0 * cpu / without.cpu_us);
        figures.add("fewer connections per second with agents, %", slower);
    }
    say(format_args!("\n{}", figures.table()));
    Ok(())
}

/// Without, with; with, without; and so on: what grows or shrinks with time is on both sides.
fn with_agents_first(pair: u32) -> bool {
    pair.is_multiple_of(2)
}

/// How much more CPU a connection takes with agents, in microseconds, and how many percent fewer there are in a second.
fn difference(with: Storm, without: Storm) -> (f64, f64) {
    let slower = 1.0 - with.connections_per_second / without.connections_per_second;
    (with.cpu_us - without.cpu_us, 100.0 * slower)
}

/// One storm between two hosts of a lab of its own.
fn play(connections: u32, agents: bool) -> Result<Storm> {
    let lab = Lab::new()?;
    let mut fleet = Fleet::start(&lab, INTERVAL)?;
    let hosts = [lab.host("one")?, lab.host("two")?];
    if agents {
        fleet.add_agents(&hosts.each_ref())?;
    }
    let (mut client, server, targets) = peers(&hosts)?;
    let pids = [client.process().id(), server.process().id()];
    let cpu = || pids.iter().map(|pid| cpu_seconds(*pid)).sum::<Result<f64>>();
    let (before, began) = (cpu()?, Instant::now());
    let truth = blow(connections, &mut client, &targets, server.name())?;
    let (seconds, used) = (began.elapsed().as_secs_f64(), cpu()? - before);
    if agents {
        must_show(&fleet, &truth)?;
    }
    drop((client, server));
    fleet.stop()?;
    let count = f64::from(connections);
    Ok(Storm { cpu_us: used / count * 1e6, connections_per_second: count / seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_take_is_more_cpu_and_fewer_connections() {
        let storm = |cpu_us, connections_per_second| Storm { cpu_us, connections_per_second };
        let (cpu, slower) = difference(storm(110.0, 9_000.0), storm(100.0, 10_000.0));
        assert!((cpu - 10.0).abs() < 1e-9 && (slower - 10.0).abs() < 1e-9, "{cpu} {slower}");
    }

    #[test]
    fn neither_side_comes_first_more_often() {
        let first: Vec<bool> = (1..=4).map(with_agents_first).collect();
        assert_eq!(first, [false, true, false, true]);
    }
}
