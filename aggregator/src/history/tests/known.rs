//! An edge that is known by its place in the graph is the one that has it now.

use std::{net::Ipv4Addr, time::Duration};

use topology::{
    AgentFacts, Config, Counter, Gained, Graph, Incarnation,
    model::{Address, HalfKey, Role, Scope, Workload},
};

use super::*;

/// The first step of a graph of its own, in which a client on `host` has sent bytes to each of the servers: its edges have
/// the same places as those of any other.
fn first_step(from: u64, host: &str, servers: &[&str], sent: u64) -> EndedStep {
    let mut graph = Graph::new(Config { hand_over_steps: true, ..Config::default() });
    let incarnation = Incarnation { boot_id: [1; 16], generation: 1, session: 1 };
    let facts = AgentFacts::default();
    let node = graph.node_connected(host, incarnation, facts, at(from)).unwrap().node;
    for (server, name) in (0..).zip(servers) {
        let address = |last: u8| Address {
            ip: Ipv4Addr::new(10, 0, server, last).into(),
            scope: Scope::Global,
        };
        for (role, own, peer, name) in [(Role::Client, 1, 2, "web"), (Role::Server, 2, 1, *name)] {
            let workload = Workload {
                kind: WorkloadKind::Process,
                name: name.to_owned(),
                namespace: String::new(),
                labels: BTreeMap::new(),
            };
            let workload = graph.intern_workload(node, workload).unwrap();
            let (local, peer) = (address(own), address(peer));
            let key = HalfKey { workload, local, peer, server_port: 80, client_port: 0, role };
            let half = graph.open_half(node, key, 0, at(from)).unwrap();
            let counter =
                if role == Role::Client { Counter::BytesSent } else { Counter::BytesReceived };
            let (which, values) = (1 << counter.index(), [sent]);
            graph.add_gained(&[Gained { half, which, values: &values, samples: &[] }]);
        }
    }
    let mut given = Vec::new();
    for second in 1..=11 {
        graph.tick(at(from).plus(Duration::from_secs(second)));
        given.append(&mut graph.take_steps());
    }
    let Some(Given { steps: GivenSteps::Ended(step), .. }) = given.into_iter().next() else {
        panic!("no step is over");
    };
    step
}

/// What each server was sent in a step, which is the same between workloads.
fn sent(written: &Written, from: u64) -> BTreeMap<String, u64> {
    let step = Window { from: at(from), to: at(from + 10) };
    let of = |by| bytes(&written.database.older_by(step, END, 0, by).unwrap());
    assert_eq!(of(Grouping::Service), of(Grouping::Workload));
    of(Grouping::Service)
}

fn expected(servers: &[(&str, u64)]) -> BTreeMap<String, u64> {
    servers.iter().map(|(server, bytes)| ((*server).to_owned(), *bytes)).collect()
}

#[test]
fn a_place_that_another_edge_has_now_is_that_ones() {
    let mut written = Written::new(PLENTY);
    let steps: [&[&str]; 5] =
        [&["db", "cache"], &["cache", "db"], &["mail"], &["cache", "mail", "db"], &["db"]];
    for (n, servers) in (0..).zip(steps) {
        written.write(&first_step(10 * n, "a", servers, 100 + n));
    }
    assert_eq!(written.numbers.each_ref().map(|numbers| numbers.size().1), [3, 3]);
    for (n, servers) in (0..).zip(steps) {
        let servers: Vec<_> = servers.iter().map(|server| (*server, 100 + n)).collect();
        assert_eq!(sent(&written, 10 * n), expected(&servers), "step {n}");
    }
}

#[test]
fn a_place_whose_client_is_on_another_host_now_is_another_edge_between_workloads() {
    let mut written = Written::new(PLENTY);
    for (n, host) in (0..).zip(["a", "a", "b", "a"]) {
        written.write(&first_step(10 * n, host, &["db"], 100 + n));
    }
    assert_eq!(written.numbers.each_ref().map(|numbers| numbers.size().1), [1, 2]);
    let all = Window { from: at(0), to: at(40) };
    let by_host = written.database.older_by(all, END, 0, Grouping::Workload).unwrap();
    let mut by_host: Vec<_> =
        by_host.edges.iter().map(|edge| edge.totals.get(Measure::BytesToServer)).collect();
    by_host.sort_unstable();
    assert_eq!(by_host, [102, 100 + 101 + 103]);
}

#[test]
fn an_edge_that_was_forgotten_is_named_anew_at_its_old_place() {
    let mut written = Written::new(200_000);
    let services = |written: &Written| written.numbers[0].size().1;
    for n in 0..2_000 {
        let before = services(&written);
        if (200..202).contains(&n) {
            written.write(&first_step(10 * n, "a", &["db"], 100));
            continue;
        }
        // Its ends stay known.
        let other = StepEdge { server_port: 81, ..edge("db", 1, 0) };
        written.write(&step(10 * n, vec![other, edge(&format!("peer-{n}"), 7, 0)]));
        let begin = written.database.stored_from(false).unwrap();
        if services(&written) < before && begin > Some(at(2_010)) {
            let from = 10 * (n + 1);
            written.write(&first_step(from, "a", &["db"], 100));
            let step = Window { from: at(from), to: at(from + 10) };
            assert_eq!(bytes(&written.older_of_services(step)), expected(&[("db", 100)]));
            return;
        }
    }
    panic!("nothing was forgotten");
}

#[test]
fn merged_steps_are_what_they_were_one_by_one() {
    let mut written = Written::new(PLENTY);
    // Open connections of all but the last step are of no account, also of what only one has.
    for n in 0..7 {
        let some = edge(&format!("only-{n}"), 3, n);
        written.write(&step(10 * n, vec![edge("db", 5, n), some]));
    }
    let minute = Window { from: at(0), to: at(60) };
    let older = written.older_by(minute, 1);
    let only = (0..6).map(|n| (format!("only-{n}"), 3));
    let expected: BTreeMap<_, _> = only.chain([("db".to_owned(), 30)]).collect();
    assert_eq!((bytes(&older), sums(&older).1), (expected, 10));
}
