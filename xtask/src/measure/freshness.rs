//! How long it takes from the kernel to the API: a new edge, a failure, one more of a known edge, and what an open
//! connection counts.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use testbed::{
    fleet::{Fleet, Graph},
    lab::Lab,
    traffic::{Dial, Ending, Exchange, Means, Open, Peer},
    truth::EdgeName,
};

use super::{
    Stop, machine,
    rush::{self, INTERVAL},
    spread::Figures,
};
use crate::{options::Freshness, terminal::say};

/// Where the server listens at first; each new edge has the next one.
const FIRST_PORT: u16 = 10_000;
/// Where nobody listens.
const FIRST_CLOSED: u16 = 30_000;
/// Where nobody listens, again and again.
const ALWAYS_CLOSED: u16 = 9_999;
/// It is tried in each of so many rounds.
const AGAIN: u16 = 4;
/// And at least this long after it was tried before: failures of one edge are told early once a second.
const APART: Duration = Duration::from_millis(1_200);
/// Between two looks.
const EVERY: Duration = Duration::from_millis(2);
/// What does not show until then never will.
const LIMIT: Duration = Duration::from_secs(10);
/// Name of the connection that stays.
const KEPT: &str = "kept";
/// Payload of a request.
const REQUEST: u64 = 100;
/// Odd against the interval, so that all its moments come.
const REST: Duration = Duration::from_millis(377);

/// Prints how long each took, with two agents as they are by default.
///
/// # Errors
/// When there can be no lab, a part fails, or something does not show at all.
pub fn measure(options: &Freshness) -> Result<()> {
    let _alone = rush::prepare()?;
    let stop = Stop::on_signals()?;
    say(format_args!("{}", machine::facts()));
    let lab = Lab::new()?;
    let mut fleet = Fleet::start(&lab, INTERVAL)?;
    let (one, two) = (lab.host("one")?, lab.host("two")?);
    fleet.add_agents(&[&one, &two])?;
    let (mut client, mut server) = (one.peer("client")?, two.peer("server")?);
    let kept = server.listen(two.ipv4(), FIRST_PORT)?;
    open(&mut client, KEPT, kept)?;
    let known = SocketAddr::new(kept.ip(), ALWAYS_CLOSED);
    fail(&fleet, &mut client, known, 1)?;
    let mut tried = Instant::now();
    let [mut edges, mut failures, mut again, mut counts] = [const { Vec::new() }; 4];
    for number in 1..=options.times {
        stop.check()?;
        let target = server.listen(two.ipv4(), FIRST_PORT + number)?;
        let begun = Instant::now();
        ensure!(open(&mut client, "new", target)? == (1, 0), "{target} does not answer");
        let edge = name(server.name(), target);
        edges.push(shown(&fleet, begun, |graph| graph.edges.contains_key(&edge))?);
        client.end("new", Ending::ClientCloses)?;

        let closed = SocketAddr::new(target.ip(), FIRST_CLOSED + number);
        failures.push(fail(&fleet, &mut client, closed, 1)?);

        if number % AGAIN == 0 {
            thread::sleep(APART.saturating_sub(tried.elapsed()));
            tried = Instant::now();
            again.push(fail(&fleet, &mut client, known, u64::from(1 + number / AGAIN))?);
        }

        let exchange = Exchange {
            requests: 1,
            request_bytes: REQUEST,
            response_bytes: REQUEST,
            means: Means::Write,
        };
        let begun = Instant::now();
        client.exchange(KEPT, exchange, Ending::Keep)?;
        let (edge, bytes) = (name(server.name(), kept), u64::from(number) * REQUEST);
        let has_counted = |graph: &Graph| {
            graph.edges.get(&edge).is_some_and(|count| {
                count.bytes_to_server >= bytes && count.bytes_to_client >= bytes
            })
        };
        counts.push(shown(&fleet, begun, has_counted)?);
        thread::sleep(REST);
    }
    drop((client, server));
    fleet.stop()?;
    let mut figures = Figures::default();
    let series = [
        ("new edge", edges),
        ("failure", failures),
        ("failure of a known edge", again),
        ("count", counts),
    ];
    for (what, took) in series {
        for (quantile, value) in quantiles(took) {
            figures.add(format!("{what} shows after, {quantile}, ms"), value);
        }
    }
    say(format_args!(
        "{} of each, of failures of a known edge {}\n{}",
        options.times,
        options.times / AGAIN,
        figures.table()
    ));
    figures.keep(options.json.as_deref())
}

/// Fails once more where nobody listens, the `times`-th time; how long it takes to show, in ms.
fn fail(fleet: &Fleet, client: &mut Peer, target: SocketAddr, times: u64) -> Result<f64> {
    let begun = Instant::now();
    ensure!(open(client, "none", target)? == (0, 1), "somebody listens at {target}");
    let edge = name("two", target);
    let has_failed = |graph: &Graph| {
        let count = graph.edges.get(&edge);
        count.is_some_and(|count| count.failed.values().sum::<u64>() >= times)
    };
    shown(fleet, begun, has_failed)
}

fn open(client: &mut Peer, group: &str, target: SocketAddr) -> Result<(u32, u32)> {
    let open = Open { group: group.to_owned(), target, connections: 1, dial: Dial::default() };
    Ok(client.open(open)?)
}

fn name(server: &str, target: SocketAddr) -> EdgeName {
    EdgeName { client: "client".to_owned(), server: server.to_owned(), port: target.port() }
}

/// Looks until the graph is so; how long that was after the beginning, in ms.
fn shown(fleet: &Fleet, begun: Instant, is_so: impl Fn(&Graph) -> bool) -> Result<f64> {
    loop {
        if is_so(&fleet.graph().context("no graph")?) {
            return Ok(begun.elapsed().as_secs_f64() * 1e3);
        }
        ensure!(begun.elapsed() < LIMIT, "it does not show within {} s", LIMIT.as_secs());
        thread::sleep(EVERY);
    }
}

/// Quantiles of some values, by nearest rank.
fn quantiles(mut values: Vec<f64>) -> Vec<(&'static str, f64)> {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * values.len() as f64).ceil() as usize;
        values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    };
    vec![("p50", at(0.5)), ("p99", at(0.99)), ("highest", at(1.0))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_there_were() {
        let of = |count: u32| quantiles((1..=count).rev().map(f64::from).collect());
        assert_eq!(of(200), [("p50", 100.0), ("p99", 198.0), ("highest", 200.0)]);
        assert_eq!(of(1), [("p50", 1.0), ("p99", 1.0), ("highest", 1.0)]);
        assert!(of(0)[0].1.is_nan());
    }
}
