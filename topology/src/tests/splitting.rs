//! A port that goes from one server to the next, while several clients of one address talk to it: only some
//! of the connections are told apart.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::*;
use crate::{model::Role, *};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const CLIENTS: [&str; 2] = ["job", "web"];
const SERVERS: [&str; 3] = ["old", "new", "third"];

/// One connection, and whether it is told apart on the server's side.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    client: usize,
    server: usize,
    single: bool,
    to_server: u64,
    to_client: u64,
    bucket: u16,
}

/// Something that comes to the graph: a side's report of a connection, or a second that passes.
#[derive(Clone, Copy, Debug)]
enum Event {
    Of(usize, Role),
    Second,
}

/// Exchanges with one of these servers each, all of it in some order, in less than the time after which
/// one side alone is believed.
fn phase(servers: &'static [(usize, bool)]) -> impl Strategy<Value = (Vec<Exchange>, Vec<Event>)> {
    let bytes = || 1_u64..1_000_000_000;
    let exchange = (0..CLIENTS.len(), 0..servers.len(), bytes(), bytes(), 100_u16..104).prop_map(
        |(client, at, to_server, to_client, bucket)| {
            let (server, single) = servers[at];
            Exchange { client, server, single, to_server, to_client, bucket }
        },
    );
    proptest::collection::vec(exchange, 1..8).prop_flat_map(|exchanges| {
        let sides = |at| [Event::Of(at, Role::Client), Event::Of(at, Role::Server)];
        let mut events: Vec<_> = (0..exchanges.len()).flat_map(sides).collect();
        events.extend([Event::Second; 3]);
        (Just(exchanges), Just(events).prop_shuffle())
    })
}

/// A fleet of two hosts, and what really happened.
struct Play {
    world: World,
    a: NodeIx,
    b: NodeIx,
    /// Clients of connections that are told apart, by port.
    owners: Vec<usize>,
    singles: Vec<HalfIx>,
    truth: BTreeMap<(usize, usize), [u64; 3]>,
}

impl Play {
    fn new() -> Self {
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        Play { world, a, b, owners: Vec::new(), singles: Vec::new(), truth: BTreeMap::new() }
    }

    fn act(&mut self, exchanges: &[Exchange], events: &[Event]) {
        let mut halves = Vec::new();
        for exchange in exchanges {
            let mut port = 0;
            if exchange.single {
                self.owners.push(exchange.client);
                port = self.owners.len() as u16;
            }
            let (client, server) = (CLIENTS[exchange.client], SERVERS[exchange.server]);
            let client = self.world.client(self.a, client, global(A), global(B), 80);
            let (local, peer) = (global(B), global(A));
            let server = self.world.half(self.b, server, Role::Server, local, peer, 80, port);
            if exchange.single {
                self.singles.push(server);
            }
            halves.push((client, server));
            let truth = self.truth.entry((exchange.client, exchange.server)).or_default();
            let more = [1, exchange.to_server, exchange.to_client];
            truth.iter_mut().zip(more).for_each(|(truth, more)| *truth += more);
        }
        for event in events {
            match *event {
                Event::Of(at, role) => {
                    let Exchange { to_server, to_client, bucket, .. } = exchanges[at];
                    let (half, sent, received) = match role {
                        Role::Client => (halves[at].0, to_server, to_client),
                        Role::Server => (halves[at].1, to_client, to_server),
                    };
                    self.world.exchange(half, sent, received);
                    self.world.add(half, &[(Counter::Closed, 1)]);
                    self.world.graph.add_bucket(half, HistogramKind::Lifetime, bucket, 1);
                }
                Event::Second => self.pass(1),
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.world.pass(1);
            for question in self.world.graph.take_questions(self.a) {
                let owner = CLIENTS[self.owners[usize::from(question.client_port) - 1]];
                let owner = self.world.process(self.a, owner);
                self.world.graph.tuple_owner(self.a, question, Some(owner));
            }
        }
    }

    fn truth(&self) -> Vec<(String, String, u16, u64, u64, u64)> {
        rows(&self.truth, (&CLIENTS, &SERVERS), 80)
    }
}

proptest! {
    #[test]
    fn every_connection_is_its_clients(
        old in phase(&[(0, false)]),
        handover in phase(&[(0, false), (1, true)]),
        new in phase(&[(1, false)]),
        again in phase(&[(1, false), (2, true)]),
        third in phase(&[(2, false)]),
        forgotten: bool,
    ) {
        let mut play = Play::new();
        for (exchanges, events) in [old, handover, new, again, third] {
            play.act(&exchanges, &events);
            play.pass(5);
            prop_assert_eq!(published(&play.world), play.truth());
            prop_assert_eq!(play.world.edges(), play.truth());
            let connections: u64 = play.truth.values().map(|numbers| numbers[0]).sum();
            let series = play.world.series();
            let samples = series.values().map(|s| s.histogram(HistogramKind::Lifetime).count());
            prop_assert_eq!(samples.sum::<u64>(), connections);
            let open = play.world.view().edges.iter().map(|edge| edge.connections_open).sum::<u64>();
            prop_assert_eq!(open, 0);
            if forgotten {
                for half in std::mem::take(&mut play.singles) {
                    play.world.graph.retire_half(half, play.world.now);
                }
                play.pass(80);
            }
        }
    }

    #[test]
    fn with_several_to_split_the_order_of_reports_changes_nothing(
        (exchanges, events) in phase(&[(0, false), (1, false), (2, true)]),
        seed in proptest::collection::vec(any::<u32>(), 16),
    ) {
        let settled = |events: &[Event]| {
            let mut play = Play::new();
            play.act(&exchanges, events);
            play.pass(30);
            (play.world.series(), play.world.view().edges)
        };
        let mut events: Vec<_> =
            events.into_iter().filter(|event| !matches!(event, Event::Second)).collect();
        let first = settled(&events);
        let mut keys = seed.into_iter().cycle();
        events.sort_by_cached_key(|_| keys.next());
        prop_assert_eq!(first, settled(&events));
    }
}

/// An exchange whose server's half is not of one connection alone.
const fn whole(client: usize, server: usize) -> Exchange {
    Exchange { client, server, single: false, to_server: 1_000, to_client: 2_000, bucket: 100 }
}

#[test]
fn a_link_that_never_rests_is_published_all_the_same() {
    let mut play = Play::new();
    let (old, mut newcomers) = ([whole(0, 0), whole(1, 0)], 0);
    let both = |count: usize| -> Vec<Event> {
        (0..count)
            .flat_map(|at| [Event::Of(at, Role::Client), Event::Of(at, Role::Server)])
            .collect()
    };
    for second in 0..60 {
        play.act(&old, &both(2));
        // Each second begins a connection to the newcomer, of which nobody has been told yet whose it is.
        newcomers += 1;
        let new = Exchange { single: true, ..whole(newcomers % 2, 1) };
        play.act(&[new], &both(1));
        play.pass(1);
        if second == 29 {
            assert!(connections(&play) >= 40, "{}", connections(&play));
        }
    }
    // All but the last ten seconds, which may still wait to be split.
    assert!(connections(&play) >= 3 * 48, "{}", connections(&play));
    play.pass(30);
    assert_eq!(connections(&play), 3 * 60);
}

#[test]
fn what_comes_late_is_of_those_who_were_there() {
    let mut play = Play::new();
    let both = [Event::Of(0, Role::Client), Event::Of(0, Role::Server)];
    play.act(&[whole(0, 0)], &both);
    play.pass(20);
    // The last segments of the old one come when somebody else talks to the new one.
    let old = play.world.server(play.b, SERVERS[0], global(B), global(A), 80);
    play.world.add(old, &[(Counter::SegmentsSent, 2)]);
    play.world.graph.add_bucket(old, HistogramKind::Rtt, 100, 1);
    play.act(&[whole(1, 1)], &both);
    let web = play.world.client(play.a, CLIENTS[1], global(A), global(B), 80);
    play.world.add(web, &[(Counter::SegmentsReceived, 9)]);
    play.pass(20);
    assert_eq!(play.world.edges(), play.truth());
}

/// Connections in all series.
fn connections(play: &Play) -> u64 {
    let series = play.world.graph.published();
    series.map(|series| series.totals().get(Measure::Connections)).sum()
}
