//! No edge is there between two who never talked, however late who tells of what.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::world::*;
use crate::{
    model::{Address, Ends, Role, Scope},
    *,
};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const D: &str = "10.0.0.3";
const POD: &str = "10.244.0.5";
const PORT: u16 = 6379;

/// An address behind a bridge of a host.
fn local(text: &str) -> Address {
    Address { ip: ip(text), scope: Scope::Network(7) }
}

fn ends(client: &str, server: &str) -> Ends {
    Ends { client: global(client), server: global(server), server_port: PORT }
}

fn hand_over(world: &mut World, node: NodeIx) {
    let old = world.listener(node, "one", B, PORT);
    world.graph.listener_closed(node, old);
    world.listen(node, "two", B, PORT);
}

#[test]
fn what_a_client_counts_more_is_not_of_whoever_listens_there_next() {
    for server_first in [false, true] {
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        world.listen(b, "one", B, PORT);
        for is_server in [server_first, !server_first] {
            if is_server {
                let one = world.server(b, "one", global(B), global(POD), PORT);
                world.exchange(one, 10, 100);
            } else {
                let web = world.client(a, "web", local(POD), global(B), PORT);
                world.exchange(web, 100, 10);
                world.add(web, &[(Counter::SegmentsSent, 9), (Counter::BytesReceived, 7)]);
            }
        }
        world.pass(3);
        hand_over(&mut world, b);
        world.pass(20);
        let truth = [row("web", "one", PORT, 1, 100, 17)];
        assert_eq!((published(&world), world.edges()), (truth.to_vec(), truth.to_vec()));
        assert_eq!(world.edge().resolved_by, Basis::BothHalves);
    }
}

#[test]
fn segments_alone_do_not_tell_that_somebody_else_was_there() {
    let mut world = World::new();
    let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
    world.listen(d, "two", D, PORT);
    let web = world.client(a, "web", global(A), global("10.96.0.10"), 80);
    // An attempt at the second one failed.
    world.graph.add_translations(web, [ends(A, B), ends(A, D)], world.now);
    let one = world.server(b, "one", global(B), global(A), PORT);
    world.exchange(web, 100, 10);
    world.exchange(one, 10, 100);
    world.add(web, &[(Counter::SegmentsSent, 9)]);
    world.pass(20);
    assert_eq!(published(&world), [row("web", "one", PORT, 1, 100, 10)]);
    world.exchange(web, 30, 3);
    world.pass(20);
    let truth = [row("web", "one", PORT, 1, 100, 10), row("web", "two", PORT, 1, 30, 3)];
    assert_eq!(published(&world), truth);
}

#[test]
fn a_connection_that_was_open_and_counted_nothing_leaves_nothing() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global(B), PORT);
    let one = world.server(b, "one", global(B), global(A), PORT);
    let both = |world: &mut World, counter| {
        [web, one].into_iter().for_each(|half| world.add(half, &[(counter, 1)]));
        world.pass(3);
    };
    both(&mut world, Counter::Adopted);
    let truth = [row("web", "one", PORT, 0, 0, 0)];
    assert_eq!((published(&world), world.edges()), (truth.to_vec(), truth.to_vec()));
    both(&mut world, Counter::Closed);
    assert_eq!((published(&world), world.edges()), (vec![], vec![]));
}

/// Clients on one host by their names, their own addresses, and those that a server sees.
const CLIENTS: [(&str, &str, &str); 4] = [
    ("web", POD, POD),
    ("job", "10.0.0.9", "10.0.0.9"),
    ("mail", "172.17.0.2", A),
    ("cron", "172.17.0.3", A),
];

/// A connection to whoever listens.
#[derive(Clone, Copy, Debug)]
struct Talk {
    /// In which second.
    now: u64,
    client: usize,
    /// Seconds until the client's side is told, and the server's.
    late: [u64; 2],
    /// Segments that the client alone has counted.
    more: u64,
}

#[derive(Clone, Copy, Debug)]
enum Told {
    Client(usize),
    Server(usize),
    HandOver,
}

/// Two times when there is so much at once that neither side is ahead for as long as five seconds.
fn talks() -> impl Strategy<Value = Vec<Talk>> {
    let now = (0..2_u64, 0..3_u64).prop_map(|(time, second)| 30 * time + second);
    let talk = (now, 0..CLIENTS.len(), [0..3_u64, 0..3_u64], 0..3_u64)
        .prop_map(|(now, client, late, more)| Talk { now, client, late, more });
    proptest::collection::vec(talk, 1..16).prop_map(|mut talks| {
        talks.sort_by_key(|talk| talk.now);
        talks
    })
}

/// A port that is handed over from `one` to `two`; from then on each connection is a half of its own.
struct Port {
    world: World,
    nodes: [NodeIx; 2],
    talks: Vec<Talk>,
    handed_over: usize,
}

impl Port {
    fn new(talks: Vec<Talk>, handed_over: usize) -> Self {
        let mut world = World::new();
        let nodes = [world.node("a", A), world.node("b", B)];
        world.listen(nodes[1], "one", B, PORT);
        Port { world, nodes, talks, handed_over }
    }

    fn server_of(&self, at: usize) -> &'static str {
        if at < self.handed_over { "one" } else { "two" }
    }

    /// What is told, and when: each host tells of one thing after the other.
    fn told(&self, late: u64) -> BTreeMap<u64, Vec<Told>> {
        let mut told: BTreeMap<u64, Vec<Told>> = BTreeMap::new();
        let mut until = [0, 0];
        for (at, talk) in self.talks.iter().enumerate() {
            let mut tell = |host: usize, late: u64, what| {
                until[host] = (talk.now + late).max(until[host]);
                told.entry(until[host]).or_default().push(what);
            };
            if at == self.handed_over {
                tell(1, late, Told::HandOver);
            }
            tell(0, talk.late[0], Told::Client(at));
            tell(1, talk.late[1], Told::Server(at));
        }
        told
    }

    fn tell(&mut self, told: Told) {
        let ([a, b], world) = (self.nodes, &mut self.world);
        let (half, at) = match told {
            Told::HandOver => return hand_over(world, b),
            Told::Client(at) => {
                let (name, own, seen) = CLIENTS[self.talks[at].client];
                let half = match own == seen {
                    true if own == POD => world.client(a, name, local(own), global(B), PORT),
                    true => world.client(a, name, global(own), global(B), PORT),
                    false => {
                        let half = world.client(a, name, local(own), global(B), PORT);
                        world.graph.add_translations(half, [ends(seen, B)], world.now);
                        half
                    }
                };
                world.add(half, &[(Counter::SegmentsSent, self.talks[at].more)]);
                (half, at)
            }
            Told::Server(at) => {
                let peer = global(CLIENTS[self.talks[at].client].2);
                let port = if at < self.handed_over { 0 } else { 40_000 + at as u16 };
                let name = if at < self.handed_over { "one" } else { "two" };
                (world.half(b, name, Role::Server, global(B), peer, PORT, port), at)
            }
        };
        let bytes = 100 + at as u64;
        world.exchange(half, bytes, bytes);
        world.graph.add_bucket(half, HistogramKind::Rtt, 30, 3);
        world.graph.add_bucket(half, HistogramKind::Lifetime, 30, 1);
        world.add(half, &[(Counter::Closed, u64::from(at % 3 > 0))]);
    }

    fn pass(&mut self) {
        self.world.pass(1);
        let a = self.nodes[0];
        for question in self.world.graph.take_questions(a) {
            let talk = self.talks[usize::from(question.client_port - 40_000)];
            let owner = self.world.process(a, CLIENTS[talk.client].0);
            self.world.graph.tuple_owner(a, question, Some(owner));
        }
    }
}

/// Asked about what came last, the graph has given away nothing yet of what the first server counted for all: what the
/// second one is known to have seems paid for meanwhile.
#[test]
fn an_edge_begins_with_what_is_known_of_it() {
    let talk = |now, client, server_late| Talk { now, client, late: [0, server_late], more: 0 };
    let talks = [talk(0, 0, 0), talk(0, 2, 0), talk(0, 3, 0), talk(30, 2, 0), talk(31, 2, 1)];
    let mut port = Port::new(talks.to_vec(), 3);
    let two = ("mail".to_owned(), "two".to_owned(), PORT);
    let told = port.told(0);
    for second in 0..40 {
        told.get(&second).into_iter().flatten().for_each(|one| port.tell(*one));
        port.pass();
        let shown = port.world.series().get(&two).map(|totals| totals.get(Measure::Connections));
        assert_eq!(shown, (second >= 33).then_some(2), "after {second} s");
    }
}

proptest! {
    #[test]
    fn no_edge_is_without_a_connection(
        talks in talks(),
        handed_over in 0..16_usize,
        late in 0..3_u64,
    ) {
        let mut port = Port::new(talks, handed_over);
        let told = port.told(late);
        let mut talked = BTreeSet::new();
        for second in 0..=told.keys().max().unwrap_or(&0) + 30 {
            for one in told.get(&second).into_iter().flatten() {
                port.tell(*one);
                if let Told::Client(at) | Told::Server(at) = *one {
                    let client = CLIENTS[port.talks[at].client].0;
                    talked.insert((client.to_owned(), port.server_of(at).to_owned(), PORT));
                }
            }
            port.pass();
            for (key, totals) in port.world.series() {
                prop_assert!(talked.contains(&key), "{:?} after {} s", key, second);
                prop_assert!(totals.tells(), "{:?} after {} s", key, second);
            }
        }
        let mut truth = BTreeMap::new();
        for (at, talk) in port.talks.iter().enumerate() {
            let ends = (CLIENTS[talk.client].0, port.server_of(at));
            let sum: &mut (u64, u64) = truth.entry(ends).or_default();
            *sum = (sum.0 + 1, sum.1 + 100 + at as u64);
        }
        let truth: Vec<_> = truth
            .into_iter()
            .map(|((client, server), (count, bytes))| row(client, server, PORT, count, bytes, bytes))
            .collect();
        prop_assert_eq!(&published(&port.world), &truth);
        prop_assert_eq!(port.world.edges(), truth);
    }
}
