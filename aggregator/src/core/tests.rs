//! What readers are told of.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use topology::{
    Counter, Grouping, HalfIx, Measure, Sums, Window,
    model::{Address, HalfKey, Role, Scope, Workload, WorkloadKind},
};

use super::{views::LARGE, *};
use crate::metrics::Metrics;

const BEGIN: Timestamp = Timestamp::from_unix_ns(1_800_000_000_000_000_000);

fn at(seconds: u64) -> Timestamp {
    BEGIN.plus(Duration::from_secs(seconds))
}

/// A state with so many edges, and one of their halves.
fn with_edges(dir: &std::path::Path, edges: u32) -> (Core, HalfIx) {
    let history = Keeper::start(dir, 0, 0, Metrics::new().unwrap().history).unwrap();
    let config = Config { max_external_peers: 2 * LARGE, ..Config::default() };
    let mut core = Core::new(config, history.into());
    let incarnation = Incarnation { boot_id: [7; 16], generation: 1, session: 1 };
    let connected = core.connect("a", incarnation, AgentFacts::default(), FRESH, BEGIN);
    let node = connected.map_err(|error| error.to_string()).unwrap().0.node;
    let graph = &mut core.graph;
    let workload = Workload {
        kind: WorkloadKind::Systemd,
        name: "web".to_owned(),
        namespace: String::new(),
        labels: Default::default(),
    };
    let workload = graph.intern_workload(node, workload).unwrap();
    let address = |ip: u32| Address { ip: Ipv4Addr::from(ip).into(), scope: Scope::Global };
    let mut halves = (0..edges).map(|edge| {
        let (local, peer) = (address(0x0a00_0001), address(0x0b00_0000 | edge));
        let (server_port, client_port, role) = (443, 0, Role::Client);
        let key = HalfKey { workload, local, peer, server_port, client_port, role };
        let half = graph.open_half(node, key, 0, BEGIN).unwrap();
        graph.add(half, Counter::BytesSent, 1);
        graph.add(half, Counter::Connections, 1);
        half
    });
    let half = halves.next().unwrap();
    halves.for_each(drop);
    // They settle, and count from then on.
    (1..15).for_each(|second| core.tick(at(second)));
    (core, half)
}

/// What is told at some moment: when the window ends, and the bytes in it.
fn told(core: &mut Core, now: Timestamp) -> (Timestamp, u64) {
    let window = Window { from: now.minus(Duration::from_secs(300)), to: now };
    let view = core.slice(window, Grouping::Service, now).view(&Sums::default());
    let bytes = view.edges.iter().map(|edge| edge.totals.get(Measure::BytesToServer)).sum();
    (view.window.to, bytes)
}

#[test]
fn nobody_waits_for_a_tick_of_a_large_graph_and_the_window_says_so() {
    let edges = LARGE as u32;
    let folder = tempfile::tempdir().unwrap();
    let (mut core, half) = with_edges(folder.path(), edges);
    assert_eq!(core.graph.stats().edges, LARGE);
    core.graph.add(half, Counter::BytesSent, 7);
    assert_eq!(told(&mut core, at(18)), (at(14), u64::from(edges)), "as of the last tick");
    core.tick(at(19));
    assert_eq!(told(&mut core, at(20)), (at(19), u64::from(edges) + 7));
    core.graph.add(half, Counter::BytesSent, 7);
    assert_eq!(told(&mut core, at(36)), (at(36), u64::from(edges) + 14), "not older than that");
    let begins_later = Window { from: at(38), to: at(39) };
    let view = core.slice(begins_later, Grouping::Service, at(39)).view(&Sums::default());
    assert_eq!(view.window.to, at(39));
    let short = Window { from: at(31), to: at(41) };
    let view = core.slice(short, Grouping::Service, at(41)).view(&Sums::default());
    assert_eq!(view.window.to, at(41), "not older than a tenth of it");
}

#[test]
fn what_is_looked_at_between_ticks_is_in_the_window() {
    let edges = LARGE as u32;
    let folder = tempfile::tempdir().unwrap();
    let (mut core, half) = with_edges(folder.path(), edges);
    core.graph.add(half, Counter::BytesSent, 7);
    // Something of a step that is over: what there was before it is published first.
    let late = core.graph.begin_late(at(5), at(17)).unwrap();
    core.graph.end_late(late, at(17));
    assert_eq!(told(&mut core, at(18)), (at(17), u64::from(edges) + 7));
}

#[test]
fn what_is_told_of_a_small_graph_is_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let (mut core, half) = with_edges(folder.path(), 9);
    core.graph.add(half, Counter::BytesSent, 7);
    assert_eq!(told(&mut core, at(18)), (at(18), 16));
}
