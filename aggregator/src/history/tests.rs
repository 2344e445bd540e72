//! What was written comes back, whatever the tier, and never more of it than there may be.

#![allow(clippy::unwrap_used)]

mod known;
mod workloads;

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use topology::{
    EdgeTotals, EndedStep, Given, GivenSteps, Grouping, Id, Lost, Measure, Older, PROTOCOL, Seen,
    StepEdge, StepEdges, Timestamp, ViewNode, Window, model::WorkloadKind,
};

use super::{
    Database, Keeper,
    database::{AllNumbers, Written as Wrote},
};

const PLENTY: u64 = 1_000_000_000;
const END: Timestamp = Timestamp::from_unix_ns(u64::MAX);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_ns(seconds * 1_000_000_000)
}

fn node(name: &str) -> Arc<ViewNode> {
    let kind = WorkloadKind::Process;
    Arc::new(ViewNode {
        id: Id::of_node(kind, "", name),
        kind,
        namespace: String::new(),
        name: name.to_owned(),
        hosts: vec!["a".to_owned()],
        zone: String::new(),
        labels: BTreeMap::new(),
    })
}

/// An edge from `web` to a server, with its bytes and open connections in a step.
fn edge(server: &str, bytes: u64, open: u64) -> StepEdge {
    let (source, target) = (node("web"), node(server));
    let mut totals = EdgeTotals::default();
    totals.add(Measure::BytesToServer, bytes);
    StepEdge {
        id: Id::of_edge(source.id, target.id, 80, PROTOCOL),
        source,
        target,
        server_port: 80,
        seen: Seen { client: true, server: false, by: topology::Basis::Address },
        connections_open: open,
        totals,
    }
}

fn step(from: u64, edges: Vec<StepEdge>) -> EndedStep {
    let finer = on_hosts(&edges);
    step_of(from, edges, finer)
}

fn step_of(from: u64, edges: Vec<StepEdge>, finer: Vec<StepEdge>) -> EndedStep {
    let window = Window { from: at(from), to: at(from + 10) };
    let (lost, edges) = (Lost { events: 1, ..Lost::default() }, StepEdges::written(edges, finer));
    EndedStep { window, lost, edges }
}

/// A workload on its host in a zone.
fn on_host(name: &str, host: &str, zone: &str) -> Arc<ViewNode> {
    let (hosts, zone) = (vec![host.to_owned()], zone.to_owned());
    let id = ViewNode::id_on_host(WorkloadKind::Process, "", name, Some(host));
    Arc::new(ViewNode { id, hosts, zone, ..ViewNode::clone(&node(name)) })
}

/// Every edge in two parts: what is of an odd number of bytes is one client's, the rest another's.
fn on_hosts(edges: &[StepEdge]) -> Vec<StepEdge> {
    let part = |edge: &StepEdge, host: &str, bytes: u64, open: u64| {
        let source = on_host(&edge.source.name, host, "east");
        let target = on_host(&edge.target.name, "a", "west");
        let mut totals = EdgeTotals::default();
        totals.add(Measure::BytesToServer, bytes);
        let id = Id::of_edge(source.id, target.id, edge.server_port, PROTOCOL);
        StepEdge { id, source, target, connections_open: open, totals, ..edge.clone() }
    };
    let parts = edges.iter().flat_map(|edge| {
        let bytes = edge.totals.get(Measure::BytesToServer);
        [part(edge, "c0", bytes % 2, 0), part(edge, "c1", bytes / 2 * 2, edge.connections_open)]
    });
    parts.collect()
}

/// Bytes and open connections, added up.
fn sums(older: &Older) -> (u64, u64) {
    let edges = older.edges.iter();
    let bytes = edges.clone().map(|edge| edge.totals.get(Measure::BytesToServer)).sum();
    (bytes, edges.map(|edge| edge.connections_open).sum())
}

fn bytes(older: &Older) -> BTreeMap<String, u64> {
    let name = |id: Id| older.nodes.iter().find(|node| node.id == id).unwrap().name.clone();
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for edge in &older.edges {
        *bytes.entry(name(edge.target)).or_default() += edge.totals.get(Measure::BytesToServer);
    }
    bytes
}

struct Written {
    folder: tempfile::TempDir,
    database: Database,
    numbers: AllNumbers,
    given: u64,
}

impl Written {
    fn new(max_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (database, aside) = Database::open(folder.path(), 7, max_bytes).unwrap();
        assert_eq!(aside, None);
        let numbers = database.numbers().unwrap();
        Self { folder, database, numbers, given: 0 }
    }

    /// What is stored between services of a window; what is stored between workloads adds up to it, however it is to
    /// be grouped.
    fn older(&self, asked: Window) -> Older {
        let older = |by| self.database.older(asked, END, by).unwrap();
        Self::same(older)
    }

    fn older_by(&self, asked: Window, tier: usize) -> Older {
        Self::same(|by| self.database.older_by(asked, END, tier, by).unwrap())
    }

    fn same(older: impl Fn(Grouping) -> Older) -> Older {
        let services = older(Grouping::Service);
        for by in [Grouping::Workload, Grouping::Zone] {
            let finer = older(by);
            assert_eq!(sums(&finer), sums(&services), "{by:?}");
            assert_eq!((finer.window, finer.lost), (services.window, services.lost));
            assert_eq!(bytes(&finer), bytes(&services), "{by:?}");
        }
        services
    }

    /// The same where the two go back to different times.
    fn older_of_services(&self, asked: Window) -> Older {
        self.database.older(asked, END, Grouping::Service).unwrap()
    }

    fn write(&mut self, step: &EndedStep) {
        self.give(GivenSteps::Ended(step.clone()));
    }

    fn give(&mut self, steps: GivenSteps) -> Wrote {
        self.given += 1;
        let given = Given { number: self.given, steps };
        self.database.write(&given, &mut self.numbers).unwrap()
    }

    fn reopened(self) -> Self {
        self.reopened_with(PLENTY)
    }

    fn reopened_with(self, max_bytes: u64) -> Self {
        let Self { folder, database, given, .. } = self;
        drop(database);
        let (database, aside) = Database::open(folder.path(), 7, max_bytes).unwrap();
        assert_eq!(aside, None);
        let numbers = database.numbers().unwrap();
        Self { folder, database, numbers, given }
    }
}

#[test]
fn another_state_or_a_broken_file_starts_afresh() {
    let mut written = Written::new(PLENTY);
    written.write(&step(0, vec![edge("db", 5, 0)]));
    let Written { folder, database, .. } = written;
    drop(database);
    let (database, aside) = Database::open(folder.path(), 8, PLENTY).unwrap();
    assert!(aside.unwrap().exists());
    assert_eq!(database.stored_from(false).unwrap(), None);
    drop(database);
    std::fs::write(folder.path().join("history.redb"), [7; 5_000]).unwrap();
    let (_, aside) = Database::open(folder.path(), 8, PLENTY).unwrap();
    assert!(aside.is_some());
}

#[test]
fn a_file_that_is_cut_off_anywhere_can_be_gone_on_without() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.redb");
    drop(Database::open(folder.path(), 7, PLENTY).unwrap());
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 1, 100, 4096, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (database, _) = Database::open(folder.path(), 7, PLENTY).unwrap();
        let mut numbers = database.numbers().unwrap();
        let steps = GivenSteps::Ended(step(0, vec![edge("db", 1, 0)]));
        database.write(&Given { number: 1, steps }, &mut numbers).unwrap();
    }
}

#[test]
fn open_connections_are_those_of_the_last_step() {
    let mut written = Written::new(PLENTY);
    written.write(&step(0, vec![edge("db", 5, 3), edge("cache", 1, 1)]));
    written.write(&step(10, vec![edge("db", 5, 2)]));
    let older = written.older(Window { from: at(0), to: at(20) });
    let open: Vec<_> = older.edges.iter().map(|edge| edge.connections_open).collect();
    assert_eq!((open.iter().sum::<u64>(), open.len()), (2, 2));
    assert_eq!((older.lost.events, older.window), (2, Window { from: at(0), to: at(20) }));
    // What is still in memory is not told twice.
    let older = written
        .database
        .older(Window { from: at(0), to: at(20) }, at(10), Grouping::Service)
        .unwrap();
    assert_eq!(bytes(&older)["db"], 5);
}

#[test]
fn the_oldest_go_first_and_the_finest_of_them() {
    let mut written = Written::new(20_000);
    let servers: Vec<_> = (0..40).map(|n| format!("server-{n}")).collect();
    for n in 0..400 {
        let edges = servers.iter().map(|name| edge(name, 1 << 40, 0)).collect();
        written.write(&step(10 * n, edges));
    }
    let all = Window { from: at(0), to: at(4_000) };
    let older = written.older_of_services(all);
    assert!(older.stored_from.unwrap() > at(0));
    // What is left has no gaps: each second has moved as much as every other.
    let seconds = older.window.to.since(older.window.from).as_secs();
    assert_eq!(older.window.to, at(4_000));
    assert_eq!(bytes(&older)["server-7"], (1 << 40) * seconds / 10);
    for (finer, share) in [(false, 70), (true, 30)] {
        let tiers = (0..3).map(|tier| written.database.bytes(finer, tier).unwrap());
        let stored: u64 = tiers.sum();
        assert!(stored < 20_000 / 100 * share, "{stored}");
    }
}

#[test]
fn names_that_no_step_has_are_forgotten() {
    let mut written = Written::new(200_000);
    let most = 200_000 / 100 * 70 / 100 * 15;
    for n in 0..600 {
        // One that is always there, and one that nobody has seen before.
        written.write(&step(10 * n, vec![edge("db", 5, 0), edge(&format!("peer-{n}"), 7, 0)]));
        let (_, _, bytes) = written.numbers[0].size();
        assert!(bytes <= most, "{bytes} bytes after {n} steps");
    }
    let all = Window { from: at(0), to: at(6_000) };
    let older = written.older_of_services(all);
    let from = older.stored_from.unwrap();
    assert_eq!(older.window, Window { from, to: at(6_000) });
    // Of what is left, nothing lacks its name.
    let steps = older.window.to.since(from).as_secs() / 10;
    let first = 600 - steps;
    let left: BTreeMap<_, _> = (first..600).map(|n| (format!("peer-{n}"), 7)).collect();
    let left: BTreeMap<_, _> = left.into_iter().chain([("db".to_owned(), 5 * steps)]).collect();
    assert!(first > 0 && steps >= 60, "{steps} steps");
    assert_eq!(bytes(&older), left);
    // Nor is there anything else in the file.
    let before = written.numbers[0].size();
    assert_eq!(written.reopened_with(200_000).numbers[0].size(), before);
}

#[test]
fn names_in_use_stay_however_many_there_are() {
    let mut written = Written::new(20_000);
    let servers: Vec<_> = (0..200).map(|n| format!("server-{n}")).collect();
    for n in 0..90 {
        let edges = servers.iter().map(|name| edge(name, 1, 0)).collect();
        written.write(&step(10 * n, edges));
    }
    let older = written.older_of_services(Window { from: at(0), to: at(900) });
    assert_eq!(bytes(&older).len(), 200);
    assert_eq!(written.numbers[0].size().1, 200);
}

#[test]
fn a_state_that_has_lost_something_goes_on() {
    let mut written = Written::new(PLENTY);
    (0..9).for_each(|n| written.write(&step(10 * n, vec![edge("db", 5, 0)])));
    // It knows of 4 steps, and makes other ones of the rest.
    written.database.resume_after(4).unwrap();
    written.given = 4;
    (4..9).for_each(|n| written.write(&step(10 * n, vec![edge("db", 7, 0)])));
    let older = written.older(Window { from: at(0), to: at(90) });
    assert_eq!(bytes(&older)["db"], 4 * 5 + 5 * 7);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_window_has_what_was_in_its_steps(
        gains in proptest::collection::vec((0..3_usize, 1..1_000_u64), 1..180),
        (from, length) in (0..1_900_u64, 0..1_900_u64),
        again in any::<prop::sample::Index>(),
    ) {
        let mut written = Written::new(PLENTY);
        let servers = ["db", "cache", "mail"];
        let steps: Vec<_> = (0..)
            .zip(&gains)
            .map(|(n, (server, bytes))| step(10 * n, vec![edge(servers[*server], *bytes, 0)]))
            .collect();
        steps.iter().for_each(|step| written.write(step));
        // A crash, and some of them are made again.
        let mut written = written.reopened();
        let again = again.index(steps.len());
        written.given = again as u64;
        for step in &steps[again..] {
            written.write(step);
        }
        let asked = Window { from: at(from), to: at(from + length) };
        let older = written.older(asked);
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for (n, (server, bytes)) in (0..).zip(&gains) {
            let touches = 10 * n + 10 > from && 10 * n < from + length;
            if touches {
                *expected.entry(servers[*server].to_owned()).or_default() += bytes;
            }
        }
        prop_assert_eq!(bytes(&older), expected);
    }

    #[test]
    fn what_comes_late_is_in_every_tier(
        ends in proptest::collection::btree_set(0..200_u64, 1..60),
        late in proptest::collection::vec((0..200_u64, 0..3_usize, 1..100_u64), 0..40),
        (from, length) in (0..40_u64, 1..40_u64),
        again in any::<prop::sample::Index>(),
    ) {
        let servers = ["db", "cache", "mail"];
        // Steps in order; each is followed by what came late of those before it, whether there was one or not.
        let mut given = Vec::new();
        for n in &ends {
            given.push(GivenSteps::Ended(step(10 * n, vec![edge("db", 1, 0)])));
            let of_before = late.iter().filter(|(at, ..)| at < n);
            let late: Vec<_> = of_before
                .map(|(at, server, bytes)| step(10 * at, vec![edge(servers[*server], *bytes, 0)]))
                .map(|step| EndedStep { lost: Lost::default(), ..step })
                .collect();
            given.push(GivenSteps::Late(late));
        }
        let mut written = Written::new(PLENTY);
        for steps in &given {
            written.give(steps.clone());
        }
        let mut written = written.reopened();
        let again = again.index(given.len());
        written.given = again as u64;
        for steps in &given[again..] {
            written.give(steps.clone());
        }
        let mut sums: BTreeMap<u64, BTreeMap<String, u64>> = BTreeMap::new();
        for steps in given {
            let steps = match steps {
                GivenSteps::Ended(step) => vec![step],
                GivenSteps::Late(steps) => steps,
            };
            for step in steps {
                let period = step.window.from.unix_ns() / 60_000_000_000;
                let mut rows = step.rows(false);
                while let Some(row) = rows.next() {
                    let mut totals = EdgeTotals::default();
                    row.totals.add_to(&mut totals);
                    let name = rows.node(row.ends[1]).unwrap().name.clone();
                    let bytes = totals.get(Measure::BytesToServer);
                    *sums.entry(period).or_default().entry(name).or_default() += bytes;
                }
            }
        }
        // Whole minutes: every tier has the same of them.
        let period = Window { from: at(60 * from), to: at(60 * (from + length)) };
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for (name, bytes) in sums.range(from..from + length).flat_map(|(_, sums)| sums) {
            *expected.entry(name.clone()).or_default() += bytes;
        }
        for tier in 0..2 {
            let older = written.older_by(period, tier);
            prop_assert_eq!(bytes(&older), expected.clone());
        }
        let all = Window { from: at(0), to: at(100_000) };
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for (name, bytes) in sums.values().flatten() {
            *expected.entry(name.clone()).or_default() += bytes;
        }
        let older = written.older_by(all, 2);
        prop_assert_eq!(bytes(&older), expected);
    }

    #[test]
    fn no_bytes_panic(head: Vec<u8>, from: u64) {
        if let Ok(mut step) = super::table::StepBytes::read(from, &head) {
            let mut entry = topology::Entry::default();
            while step.next(&mut entry) {}
        }
    }
}

proptest! {
    // Each step is written to a disk.
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn what_is_left_is_what_was_written_whatever_was_forgotten(
        steps in proptest::collection::vec(proptest::collection::btree_set(0..400_u32, 0..6), 90..180),
        max_bytes in 20_000..200_000_u64,
        again in any::<prop::sample::Index>(),
    ) {
        let mut written = Written::new(max_bytes);
        let restart = again.index(steps.len());
        for (n, servers) in (0..).zip(&steps) {
            if n == restart as u64 {
                written = written.reopened_with(max_bytes);
            }
            let edges = servers.iter().map(|server| edge(&format!("s{server}"), 1, 0)).collect();
            written.write(&step(10 * n, edges));
        }
        let end = at(10 * steps.len() as u64);
        for by in [Grouping::Service, Grouping::Workload] {
            let all = Window { from: at(0), to: end };
            let older = written.database.older(all, END, by).unwrap();
            let first = older.window.from.unix_ns() / 10_000_000_000;
            let mut left: BTreeMap<String, u64> = BTreeMap::new();
            for server in steps[first as usize..].iter().flatten() {
                *left.entry(format!("s{server}")).or_default() += 1;
            }
            prop_assert_eq!(older.window.to, end);
            prop_assert_eq!(bytes(&older), left);
        }
    }
}

#[test]
fn where_none_is_wanted_nothing_is_written_and_what_there_was_stays() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = crate::metrics::Metrics::new().unwrap().history;
    let start = |max_bytes| Keeper::start(folder.path(), 7, max_bytes, metrics.clone()).unwrap();
    let give = |keeper: &Keeper, number, from| {
        let steps = GivenSteps::Ended(step(from, vec![edge("db", 5, 0)]));
        keeper.put_patiently(Given { number, steps });
        keeper.flush(std::time::Duration::from_secs(10));
    };
    let stored = |keeper: &Keeper| {
        let older = keeper.older(Window { from: at(0), to: at(1_000) }, END, Grouping::Service);
        sums(&older).0
    };
    let with = start(PLENTY);
    give(&with, 1, 100);
    assert_eq!(stored(&with), 5);
    drop(with);
    let without = start(0);
    without.resume_after(1);
    give(&without, 2, 110);
    without.put(Given { number: 3, steps: GivenSteps::Ended(step(120, vec![edge("db", 5, 0)])) });
    assert_eq!((stored(&without), without.stored_from(Grouping::Service)), (0, END));
    drop(without);
    let again = start(PLENTY);
    again.resume_after(3);
    give(&again, 4, 130);
    assert_eq!((stored(&again), again.stored_from(Grouping::Service)), (10, at(100)));
}
