//! What agents take from a service under load: storms with and without them, in turn, so that what else the machine
//! does meets both alike.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testbed::{fleet::Fleet, lab::Lab};

use super::{
    Stop, machine,
    process::cpu_seconds,
    rush::{self, INTERVAL, blow, must_show, peers},
    spread::{Figures, spread},
};
use crate::{options::Slowdown, terminal::say};

/// Figures that the pairs are about.
const MORE_US: &str = "more CPU per connection with agents, µs";
const MORE_PERCENT: &str = "more CPU per connection with agents, %";
/// How long the machine is watched before the first storm.
const WATCH: Duration = Duration::from_secs(3);

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
    let agents = if options.one_agent { "one agent" } else { "two agents" };
    say(format_args!("{}", machine::facts()));
    say(format_args!("storms   {connections} connections, with {agents} and without, in pairs\n"));
    let mut figures = Figures::default();
    figures.add("processors busy before the first storm", machine::busy(WATCH));
    for pair in 1..=options.pairs {
        let first = with_agents_first(pair);
        let mut storm = |agents| -> Result<Storm> {
            stop.check()?;
            let with = if agents { "with" } else { "without" };
            let storm =
                play(options, agents).with_context(|| format!("pair {pair}, {with} agents"))?;
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
        figures.add(MORE_US, cpu);
        figures.add(MORE_PERCENT, 100.0 * cpu / without.cpu_us);
        figures.add("fewer connections per second with agents, %", slower);
    }
    say(format_args!("\n{}", figures.table()));
    say(format_args!("\n{}", verdict(figures.values(MORE_US), figures.values(MORE_PERCENT))));
    figures.keep(options.json.as_deref())
}

/// What the pairs come to, in one line.
fn verdict(more_us: &[f64], more_percent: &[f64]) -> String {
    let [least_us, us, most_us] = spread(more_us);
    let [least, percent, most] = spread(more_percent);
    let less = more_us.iter().filter(|more| **more < 0.0).count();
    let pairs = more_us.len();
    let spread =
        format!("from {least_us:+.2} µs ({least:+.1} %) to {most_us:+.2} µs ({most:+.1} %)");
    let median = format!("{us:+.2} µs ({percent:+.1} %) of CPU per connection with agents");
    format!("{median}: the median of {pairs} pairs, {spread}; less with agents in {less} of them")
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
fn play(options: &Slowdown, agents: bool) -> Result<Storm> {
    let lab = Lab::new()?;
    let mut fleet = Fleet::start(&lab, INTERVAL)?;
    let names: &[&str] = if options.one_agent { &["one"] } else { &["one", "two"] };
    let hosts = names.iter().map(|name| lab.host(name)).collect::<Result<Vec<_>, _>>()?;
    if agents {
        fleet.add_agents(&hosts.iter().collect::<Vec<_>>())?;
    }
    let (mut client, server, targets) = peers(&hosts)?;
    let pids = [client.process().id(), server.process().id()];
    let cpu = || pids.iter().map(|pid| cpu_seconds(*pid)).sum::<Result<f64>>();
    let (before, began) = (cpu()?, Instant::now());
    let truth = blow(options.connections, &mut client, &targets, server.name())?;
    let (seconds, used) = (began.elapsed().as_secs_f64(), cpu()? - before);
    if agents {
        must_show(&fleet, &truth)?;
    }
    drop((client, server));
    fleet.stop()?;
    let count = f64::from(options.connections);
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
    fn pairs_come_to_their_median_with_how_far_they_lie_apart() {
        let said = verdict(&[3.0, -1.0, 2.0], &[1.8, -0.6, 1.2]);
        assert_eq!(
            said,
            "+2.00 µs (+1.2 %) of CPU per connection with agents: the median of 3 pairs, from -1.00 µs (-0.6 %) to \
             +3.00 µs (+1.8 %); less with agents in 1 of them"
        );
    }

    #[test]
    fn neither_side_comes_first_more_often() {
        let first: Vec<bool> = (1..=4).map(with_agents_first).collect();
        assert_eq!(first, [false, true, false, true]);
    }
}
