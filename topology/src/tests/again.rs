//! Ports that clients of one address use one after the other, where several servers share a port: whose the last connection
//! was, the client's host knows, and of the others what the server had counted by then.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::*;
use crate::{
    model::{HalfKey, Role, Tuple},
    *,
};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const CLIENTS: [&str; 3] = ["catalog", "search", "mail"];
const SERVERS: [&str; 2] = ["one", "two"];

/// A connection that is over: of which client, at which server, from which port, and its bytes.
#[derive(Clone, Copy, Debug)]
struct Talk {
    client: usize,
    server: usize,
    port: u16,
    bytes: [u64; 2],
}

/// As of [`row`].
type Row = (String, String, u16, u64, u64, u64);

/// A fleet of two hosts, and what really happened.
struct Play {
    world: World,
    a: NodeIx,
    b: NodeIx,
    /// Who had a port last.
    owners: BTreeMap<u16, usize>,
    truth: BTreeMap<(usize, usize), [u64; 3]>,
}

impl Play {
    fn new() -> Self {
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        let mut play = Play { world, a, b, owners: BTreeMap::new(), truth: BTreeMap::new() };
        // It matters whose connections are.
        let others = [talk(2, 0, [1, 2]), talk(1, 1, [2, 1])];
        play.talk(&others.map(|talk| Talk { port: talk.port + 10_000, ..talk }));
        play.pass(2);
        play
    }

    /// Both hosts tell of connections that are over.
    fn talk(&mut self, talks: &[Talk]) {
        let halves = self.begin(talks);
        self.end(&halves);
    }

    fn begin(&mut self, talks: &[Talk]) -> Vec<HalfIx> {
        let mut halves = Vec::new();
        for Talk { client, server, port, bytes: [to_server, to_client] } in talks.iter().copied() {
            let half = self.world.client(self.a, CLIENTS[client], global(A), global(B), 80);
            self.world.exchange(half, to_server, to_client);
            halves.push(half);
            let half = self.server(server, port);
            self.world.exchange(half, to_client, to_server);
            halves.push(half);
            self.owners.insert(port, client);
            let truth = self.truth.entry((client, server)).or_default();
            let more = [1, to_server, to_client];
            truth.iter_mut().zip(more).for_each(|(truth, more)| *truth += more);
        }
        halves
    }

    fn end(&mut self, halves: &[HalfIx]) {
        halves.iter().for_each(|half| self.world.add(*half, &[(Counter::Closed, 1)]));
    }

    fn server(&mut self, server: usize, port: u16) -> HalfIx {
        let (local, peer) = (global(B), global(A));
        self.world.half(self.b, SERVERS[server], Role::Server, local, peer, 80, port)
    }

    fn asked(&mut self) -> Vec<Tuple> {
        self.world.graph.take_questions(self.a)
    }

    /// The client's host says whose they are by now.
    fn answer(&mut self, questions: Vec<Tuple>) {
        for question in questions {
            let owner = CLIENTS[self.owners[&question.client_port]];
            self.say(question, owner);
        }
    }

    fn say(&mut self, question: Tuple, owner: &str) {
        let owner = self.world.process(self.a, owner);
        self.world.graph.tuple_owner(self.a, question, Some(owner));
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.world.pass(1);
            let questions = self.asked();
            self.answer(questions);
        }
    }

    fn truth(&self) -> Vec<Row> {
        rows(&self.truth, (&CLIENTS, &SERVERS), 80)
    }

    fn must_be_true(&mut self) {
        let (truth, edges) = (self.truth(), self.world.edges());
        assert_eq!((published(&self.world), edges), (truth.clone(), truth));
    }
}

const fn talk(client: usize, server: usize, bytes: [u64; 2]) -> Talk {
    Talk { client, server, port: 40_001 + server as u16, bytes }
}

/// One client has a port at each server; then two others have these.
const FIRST: [Talk; 2] = [talk(0, 0, [5_592, 126]), talk(0, 1, [5_592, 126])];
const NEXT: [Talk; 2] = [talk(1, 0, [5_402, 15_367]), talk(2, 1, [7_962, 51_890])];

#[test]
fn a_port_that_another_client_has_next_parts_what_was_counted() {
    let mut play = Play::new();
    play.talk(&FIRST);
    play.pass(2);
    play.talk(&NEXT);
    play.pass(20);
    play.must_be_true();
}

#[test]
fn one_that_had_it_before_anybody_was_asked_has_what_is_left() {
    let mut play = Play::new();
    play.talk(&FIRST);
    play.talk(&NEXT);
    play.pass(20);
    play.must_be_true();
}

#[test]
fn what_came_in_one_report_is_split_with_exact_sums() {
    let mut play = Play::new();
    let halves = [play.begin(&FIRST), play.begin(&NEXT)];
    halves.iter().for_each(|halves| play.end(halves));
    play.pass(30);
    let (shown, truth) = (published(&play.world), play.truth());
    let sums = |rows: &[Row], of: fn(&Row) -> String| {
        let mut sums: BTreeMap<String, [u64; 3]> = BTreeMap::new();
        for row in rows {
            let sum = sums.entry(of(row)).or_default();
            sum.iter_mut().zip([row.3, row.4, row.5]).for_each(|(sum, more)| *sum += more);
        }
        sums
    };
    for of in [|row: &Row| row.0.clone(), |row: &Row| row.1.clone()] {
        assert_eq!(sums(&shown, of), sums(&truth, of));
    }
}

#[test]
fn an_answer_that_was_on_its_way_is_not_about_the_next_one() {
    let mut play = Play::new();
    play.talk(&FIRST);
    play.world.pass(1);
    let questions = play.asked();
    assert_eq!(questions.len(), 2);
    play.talk(&NEXT);
    play.world.pass(1);
    assert!(play.asked().is_empty(), "an answer about the first ones may come yet");
    for question in questions {
        play.say(question, CLIENTS[0]);
    }
    play.pass(20);
    play.must_be_true();
}

#[test]
fn an_answer_that_came_too_late_is_not_believed() {
    let mut play = Play::new();
    play.talk(&FIRST);
    play.world.pass(1);
    // The client's host knows of the next ones before the server's tells.
    for question in play.asked() {
        let owner = if question.client_port == NEXT[0].port { 1 } else { 2 };
        play.say(question, CLIENTS[owner]);
    }
    play.talk(&NEXT);
    play.pass(20);
    play.must_be_true();
}

#[test]
fn nothing_is_split_because_the_next_ones_are_asked_about() {
    let mut play = Play::new();
    // At each server a port changes hands between two clients, every second one of them, whose host takes as long to say so.
    for round in 0..24_usize {
        let questions = play.asked();
        let (server, turn) = (round % 2, round / 2 % 2);
        let client = [[0, 1], [2, 0]][server][turn];
        let bytes = [5_000, 700];
        play.talk(&[Talk { port: 40_010 + server as u16, ..talk(client, server, bytes) }]);
        play.world.pass(1);
        play.answer(questions);
        let truth = play.truth();
        for row in published(&play.world) {
            let is_true = |it: &Row| {
                (&it.0, &it.1) == (&row.0, &row.1)
                    && it.3 >= row.3
                    && it.4 >= row.4
                    && it.5 >= row.5
            };
            assert!(truth.iter().any(is_true), "{row:?} after {round} s: {truth:?}");
        }
    }
    play.pass(20);
    play.must_be_true();
}

#[test]
fn nothing_of_many_together_is_set_apart() {
    let mut play = Play::new();
    let many = play.world.process(play.b, SERVERS[0]);
    let key = HalfKey { client_port: 1, ..HalfKey::folded(many, Role::Server) };
    let half = play.world.graph.open_half(play.b, key, 0, play.world.now).unwrap();
    for _ in 0..2 {
        play.world.exchange(half, 1, 1);
        play.end(&[half]);
    }
    assert!(play.world.graph.halves.former(half).is_none());
}

#[test]
fn what_was_set_apart_stays_so() {
    for restart in [false, true] {
        let mut play = Play::new();
        play.talk(&FIRST);
        play.pass(2);
        play.talk(&NEXT);
        play.pass(5);
        if restart {
            let bytes = postcard::to_stdvec(&play.world.graph.snapshot()).unwrap();
            let snapshot = postcard::from_bytes(&bytes).unwrap();
            play.world.graph = Graph::resume(Config::default(), snapshot);
        }
        for Talk { server, port, .. } in NEXT {
            let half = play.server(server, port);
            play.world.graph.retire_half(half, play.world.now);
        }
        play.pass(80);
        assert_eq!(play.world.graph.stats().halves, 5, "forgotten");
        play.talk(&[Talk { port: 50_000, ..talk(1, 0, [2, 3]) }]);
        play.pass(20);
        assert_eq!(published(&play.world), play.truth());
    }
}

#[test]
fn totals_that_are_told_again_set_nothing_apart() {
    let mut play = Play::new();
    play.talk(&FIRST);
    play.pass(2);
    let half = play.server(0, FIRST[0].port);
    play.world.graph.set_total(half, Counter::Connections, 1);
    assert!(play.world.graph.halves.former(half).is_none());
    play.world.graph.set_total(half, Counter::Connections, 2);
    assert!(play.world.graph.halves.former(half).is_some());
}

proptest! {
    #[test]
    fn every_connection_is_its_clients_whoever_had_its_port(
        talks in proptest::collection::vec(
            (0..CLIENTS.len(), 0_u16..4, 1_u64..100_000, 1_u64..100_000, 2_u64..4),
            1..16,
        ),
    ) {
        let mut play = Play::new();
        for (mut client, port, to_server, to_client, seconds) in talks {
            if play.owners.get(&port) == Some(&client) {
                client = (client + 1) % CLIENTS.len();
            }
            let server = usize::from(port) % SERVERS.len();
            play.talk(&[Talk { client, server, port, bytes: [to_server, to_client] }]);
            play.pass(seconds);
        }
        play.pass(20);
        prop_assert_eq!(published(&play.world), play.truth());
        prop_assert_eq!(play.world.edges(), play.truth());
    }
}
