//! Halves that see the same connections under different addresses.

use std::time::Duration;

use proptest::prelude::*;

use super::world::*;
use crate::{
    model::{Ends, Role},
    *,
};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const D: &str = "10.0.0.3";
const VIP: &str = "10.96.0.10";
const POD: &str = "10.244.0.5";
const POD2: &str = "10.244.0.6";

fn ends(client: &str, server: &str, server_port: u16) -> Ends {
    Ends { client: global(client), server: global(server), server_port }
}

impl World {
    fn tell(&mut self, half: HalfIx, told: &[Ends]) {
        self.graph.add_translations(half, told.iter().copied(), self.now);
    }
}

#[test]
fn a_service_address_leads_to_each_of_its_servers() {
    let mut world = World::new();
    let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
    let web = world.client(a, "web", global(A), global(VIP), 80);
    world.exchange(web, 100, 10);
    world.exchange(web, 30, 3);
    world.pass(1);
    world.tell(web, &[ends(A, B, 8080), ends(A, D, 8081)]);
    let one = world.server(b, "one", global(B), global(A), 8080);
    let two = world.server(d, "two", global(D), global(A), 8081);
    world.exchange(one, 10, 100);
    world.exchange(two, 3, 30);
    world.pass(3);
    let truth = [row("web", "one", 8080, 1, 100, 10), row("web", "two", 8081, 1, 30, 3)];
    assert_eq!(published(&world), truth);
    world.exchange(web, 7, 1);
    world.exchange(two, 1, 7);
    world.pass(30);
    let truth = [row("web", "one", 8080, 1, 100, 10), row("web", "two", 8081, 2, 37, 4)];
    assert_eq!((published(&world), world.edges()), (truth.to_vec(), truth.to_vec()));
}

#[test]
fn a_published_port_is_told_by_the_servers_host() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global(B), 8080);
    let inner = model::Address { ip: ip("172.17.0.2"), scope: model::Scope::Network(7) };
    let api = world.server(b, "api", inner, global(A), 80);
    world.exchange(web, 100, 10);
    world.exchange(api, 10, 100);
    world.pass(1);
    world.tell(api, &[ends(A, B, 8080)]);
    world.pass(3);
    assert_eq!(published(&world), [row("web", "api", 80, 1, 100, 10)]);
    assert_eq!(world.edge().seen_by, SeenBy::Both);
}

#[test]
fn clients_behind_one_address_are_told_apart() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(POD), global(B), 5432);
    let job = world.client(a, "job", global(POD2), global(B), 5432);
    let db = world.server(b, "db", global(B), global(A), 5432);
    world.exchange(web, 100, 10);
    world.exchange(job, 30, 3);
    world.exchange(db, 13, 130);
    world.add(db, &[(Counter::Connections, 1)]);
    world.tell(web, &[ends(A, B, 5432)]);
    world.tell(job, &[ends(A, B, 5432)]);
    world.pass(20);
    let truth = [row("job", "db", 5432, 1, 30, 3), row("web", "db", 5432, 1, 100, 10)];
    assert_eq!((published(&world), world.edges()), (truth.to_vec(), truth.to_vec()));
}

#[test]
fn both_hosts_translate() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(POD), global(B), 8080);
    let api = world.server(b, "api", global("172.17.0.2"), global(A), 80);
    world.exchange(web, 100, 10);
    world.exchange(api, 10, 100);
    world.tell(web, &[ends(A, B, 8080)]);
    world.tell(api, &[ends(A, B, 8080)]);
    world.pass(3);
    assert_eq!(published(&world), [row("web", "api", 80, 1, 100, 10)]);
}

#[test]
fn nobody_is_joined_with_whom_no_translation_leads_to() {
    // Behind one address `web` talks to `one` alone, `job` to both.
    let mut world = World::new();
    let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
    let web = world.client(a, "web", global(POD), global(VIP), 80);
    let job = world.client(a, "job", global(POD2), global(VIP), 80);
    let one = world.server(b, "one", global(B), global(A), 8080);
    let two = world.server(d, "two", global(D), global(A), 8080);
    world.tell(web, &[ends(A, B, 8080)]);
    world.tell(job, &[ends(A, B, 8080), ends(A, D, 8080)]);
    for (client, server, bytes) in
        [(web, one, 100), (web, one, 50), (job, one, 1000), (job, two, 7), (job, two, 3)]
    {
        world.exchange(client, bytes, bytes * 2);
        world.exchange(server, bytes * 2, bytes);
        world.pass(1);
    }
    world.pass(15);
    let truth = [
        row("job", "one", 8080, 1, 1000, 2000),
        row("job", "two", 8080, 2, 10, 20),
        row("web", "one", 8080, 2, 150, 300),
    ];
    assert_eq!((published(&world), world.edges()), (truth.to_vec(), truth.to_vec()));
}

#[test]
fn a_server_that_nobody_covers_is_not_another_one() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global(VIP), 80);
    world.tell(web, &[ends(A, B, 8080), ends(A, "192.0.2.7", 8080)]);
    let one = world.server(b, "one", global(B), global(A), 8080);
    world.exchange(web, 100, 10);
    world.exchange(one, 10, 100);
    world.exchange(web, 30, 3);
    world.pass(30);
    let truth =
        [row("web", "external 10.96.0.10", 80, 1, 30, 3), row("web", "one", 8080, 1, 100, 10)];
    assert_eq!(world.edges(), truth);
    world.exchange(web, 5, 5);
    world.exchange(one, 5, 5);
    world.pass(30);
    assert_eq!(world.edges()[1], row("web", "one", 8080, 2, 105, 15));
}

#[test]
fn a_translation_in_a_host_without_an_agent_joins_nobody() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global("192.0.2.1"), 80);
    let api = world.server(b, "api", global(B), global("192.0.2.9"), 8080);
    world.exchange(web, 100, 10);
    world.exchange(api, 10, 100);
    world.pass(20);
    assert_eq!(
        world.edges(),
        [
            row("external 192.0.2.9", "api", 8080, 1, 100, 10),
            row("web", "external 192.0.2.1", 80, 1, 100, 10),
        ]
    );
}

#[test]
fn what_was_published_before_the_translation_was_known_is_not_owed_twice() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global(VIP), 80);
    let api = world.server(b, "api", global(B), global(A), 8080);
    world.exchange(web, 100, 10);
    world.exchange(api, 10, 100);
    world.pass(20);
    let before = world.series();
    assert_eq!(before.len(), 2, "each side told alone");
    world.tell(web, &[ends(A, B, 8080)]);
    world.pass(5);
    let after = world.series();
    assert!(before.iter().all(|(key, totals)| after[key] == *totals));
    assert!(after.iter().all(|(key, totals)| before.contains_key(key) || totals.is_zero()));
    world.exchange(web, 7, 1);
    world.exchange(api, 1, 7);
    world.pass(5);
    let published = published(&world);
    assert!(published.contains(&row("web", "api", 8080, 1, 7, 1)), "{published:?}");
    assert!(published.contains(&row("web", VIP, 80, 1, 100, 10)), "{published:?}");
}

#[test]
fn a_server_that_is_gone_keeps_what_it_counted() {
    let mut world = World::new();
    let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
    let web = world.client(a, "web", global(A), global(VIP), 80);
    let one = world.server(b, "one", global(B), global(A), 8080);
    world.tell(web, &[ends(A, B, 8080)]);
    world.exchange(web, 100, 10);
    world.exchange(one, 10, 100);
    world.pass(5);
    world.graph.retire_half(one, world.now);
    world.pass(90);
    world.tell(web, &[ends(A, D, 8080)]);
    let two = world.server(d, "two", global(D), global(A), 8080);
    world.exchange(web, 30, 3);
    world.exchange(two, 3, 30);
    world.pass(30);
    let truth = [row("web", "one", 8080, 1, 100, 10), row("web", "two", 8080, 1, 30, 3)];
    assert_eq!(published(&world), truth);
}

#[test]
fn whose_a_connection_was_is_asked_by_the_addresses_that_both_sides_know() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(POD), global(VIP), 80);
    let job = world.client(a, "job", global(POD2), global(VIP), 80);
    let one = world.half(b, "one", Role::Server, global(B), global(A), 8080, 40001);
    let two = world.half(b, "two", Role::Server, global(B), global(A), 8080, 40002);
    world.tell(web, &[ends(A, B, 8080)]);
    world.tell(job, &[ends(A, B, 8080)]);
    world.exchange(web, 100, 10);
    world.exchange(two, 10, 100);
    world.exchange(job, 100, 10);
    world.exchange(one, 10, 100);
    world.pass(3);
    for question in world.graph.take_questions(a) {
        assert_eq!(
            (question.client, question.server, question.server_port),
            (global(A), global(B), 8080)
        );
        let owner = world.process(a, if question.client_port == 40001 { "job" } else { "web" });
        world.graph.tuple_owner(a, question, Some(owner));
    }
    world.pass(15);
    let truth = [row("job", "one", 8080, 1, 100, 10), row("web", "two", 8080, 1, 100, 10)];
    assert_eq!(published(&world), truth);
}

#[test]
fn links_do_not_grow_without_end() {
    let mut world = World::new();
    let a = world.node("a", A);
    let mut told = Vec::new();
    for number in 0..300_u16 {
        told.push(ends(A, "192.0.2.1", 1000 + number));
    }
    let web = world.client(a, "web", global(A), global(VIP), 80);
    world.tell(web, &told);
    world.pass(1);
    let node = world.graph.nodes().next().unwrap();
    assert_eq!(node.losses().next(), Some(("aggregator_translations_refused", 44)));
}

#[test]
fn translations_stay_within_their_room_and_are_taken_when_there_is_some_again() {
    let mut world = World::with(Config { max_halves: 640, ..Config::default() });
    let a = world.node("a", A);
    let open = |world: &mut World, number: u16| {
        world.client(a, "web", global(A), global(VIP), 80 + number)
    };
    let told = |number: u16| -> Vec<Ends> {
        (0..100).map(|port| ends(A, "192.0.2.1", 1000 * (1 + number) + port)).collect()
    };
    let first = open(&mut world, 0);
    world.tell(first, &told(0));
    let second = open(&mut world, 1);
    world.tell(second, &told(1));
    let refused = |world: &World| {
        let node = world.graph.nodes().next().unwrap();
        node.losses().next().map(|(cause, count)| (cause.to_owned(), count))
    };
    let thirty = Some(("aggregator_translations_refused".to_owned(), 30));
    // Its part of the 320 there is room for, and what is nobody's.
    assert_eq!(refused(&world), thirty);
    world.graph.retire_half(first, world.now);
    world.pass(600);
    world.tell(second, &told(1));
    assert_eq!(refused(&world), thirty);
    assert_eq!(world.graph.halves.translations.held(a), 100);
    let bytes = postcard::to_stdvec(&world.graph.snapshot()).unwrap();
    let graph = Graph::resume(Config::default(), postcard::from_bytes(&bytes).unwrap());
    assert_eq!(graph.halves.translations.held(a), 100);
}

#[test]
fn one_service_behind_many_addresses_keeps_its_name() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let api = world.server(b, "api", global(B), global(A), 8080);
    for number in 0..80_u16 {
        let web = world.client(a, "web", global(A), global(VIP), 80 + number);
        world.tell(web, &[ends(A, B, 8080)]);
        world.exchange(web, 100, 10);
        world.exchange(api, 10, 100);
        world.pass(1);
        world.graph.retire_half(web, world.now);
    }
    world.pass(120);
    world.exchange(api, 10, 100);
    world.pass(60);
    assert_eq!(published(&world), [row("web", "api", 8080, 81, 8100, 810)]);
}

#[test]
fn halves_beyond_what_one_link_may_have_are_folded() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global(VIP), 80);
    world.tell(web, &[ends(A, B, 8080)]);
    let api = |world: &mut World, port: u16| {
        let half = world.half(b, "api", Role::Server, global(B), global(A), 8080, port);
        world.graph.is_folded(half)
    };
    let folded: Vec<bool> = (1..=4100).map(|port| api(&mut world, port)).collect();
    assert_eq!(folded.iter().filter(|folded| **folded).count(), 5);
    assert!(!api(&mut world, 1), "that one is known");
}

fn local(text: &str) -> model::Address {
    model::Address { ip: ip(text), scope: model::Scope::Network(7) }
}

#[test]
fn routed_addresses_behind_bridges_meet() {
    for reversed in [false, true] {
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        for client in [!reversed, reversed] {
            if client {
                let web = world.client(a, "web", local(POD), global("10.244.1.9"), 80);
                world.exchange(web, 100, 10);
            } else {
                let api = world.server(b, "api", local("10.244.1.9"), global(POD), 80);
                world.exchange(api, 10, 100);
            }
        }
        world.pass(5);
        assert_eq!(published(&world), [row("web", "api", 80, 1, 100, 10)]);
    }
}

#[test]
fn a_translation_leads_to_an_address_behind_a_bridge() {
    for reversed in [false, true] {
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        let web = world.client(a, "web", global(A), global(VIP), 80);
        world.exchange(web, 100, 10);
        if reversed {
            world.tell(web, &[ends(A, "10.244.1.9", 8080)]);
        }
        let api = world.server(b, "api", local("10.244.1.9"), global(A), 8080);
        world.exchange(api, 10, 100);
        world.tell(web, &[ends(A, "10.244.1.9", 8080)]);
        world.pass(5);
        assert_eq!(published(&world), [row("web", "api", 8080, 1, 100, 10)]);
    }
}

#[test]
fn a_client_behind_a_bridge_is_known_by_its_address_elsewhere() {
    for reversed in [false, true] {
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        let mut opened = None;
        for server in [reversed, !reversed] {
            if server {
                let api = world.server(b, "api", global(B), global(POD), 8080);
                world.exchange(api, 10, 100);
            } else {
                let web = world.client(a, "web", local(POD), global(VIP), 80);
                world.exchange(web, 100, 10);
                opened = Some(web);
            }
        }
        let seen = Ends { client: local(POD), ..ends(POD, B, 8080) };
        world.tell(opened.unwrap(), &[seen]);
        world.pass(5);
        assert_eq!(published(&world), [row("web", "api", 8080, 1, 100, 10)]);
    }
}

#[test]
fn what_a_client_counts_more_is_of_the_servers_behind_bridges() {
    for reversed in [false, true] {
        let mut world = World::new();
        let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
        let servers = [(b, "one", "10.244.1.9"), (d, "two", "10.244.2.9")];
        let mut open = None;
        if reversed {
            let web = world.client(a, "web", global(A), global(VIP), 80);
            world.tell(web, &servers.map(|(_, _, address)| ends(A, address, 8080)));
            open = Some(web);
        }
        for (node, name, address) in servers {
            let half = world.server(node, name, local(address), global(A), 8080);
            world.exchange(half, 10, 100);
        }
        world.pass(1);
        let web = open.unwrap_or_else(|| world.client(a, "web", global(A), global(VIP), 80));
        world.tell(web, &servers.map(|(_, _, address)| ends(A, address, 8080)));
        world.exchange(web, 100, 10);
        world.exchange(web, 100, 10);
        world.add(web, &[(Counter::SegmentsSent, 10)]);
        world.pass(30);
        let truth = [row("web", "one", 8080, 1, 100, 10), row("web", "two", 8080, 1, 100, 10)];
        assert_eq!((published(&world), world.edges()), (truth.to_vec(), truth.to_vec()));
    }
}

#[test]
fn a_service_without_halves_is_found_behind_each_of_its_addresses() {
    let mut world = World::new();
    let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
    world.listen(b, "api", B, 8080);
    world.listen(d, "api", D, 8080);
    let web = world.client(a, "web", global(A), global(VIP), 80);
    world.tell(web, &[ends(A, B, 8080), ends(A, D, 8080)]);
    world.exchange(web, 100, 10);
    world.pass(30);
    assert_eq!(world.edges(), [row("web", "api", 8080, 1, 100, 10)]);
}

#[test]
fn the_same_addresses_on_two_hosts_are_two_places() {
    let mut world = World::new();
    let d = world.node("d", D);
    for (name, address) in [("a", A), ("b", B)] {
        let node = world.node(name, address);
        let (web, api) = (format!("web-{name}"), format!("api-{name}"));
        let client = world.client(node, &web, local("172.17.0.3"), local("172.17.0.2"), 80);
        let server = world.server(node, &api, local("172.17.0.2"), local("172.17.0.3"), 80);
        world.exchange(client, 100, 10);
        world.exchange(server, 10, 100);
        // To the outside, from the same address.
        let out = world.client(node, &web, local("172.17.0.3"), global(D), 443);
        world.exchange(out, 5, 6);
        world.tell(out, &[ends(address, D, 443)]);
        let bank = world.server(d, "bank", global(D), global(address), 443);
        world.exchange(bank, 6, 5);
    }
    // Nobody can say which of the two this was.
    let lost = world.client(d, "lost", global(D), global("172.17.0.2"), 80);
    world.exchange(lost, 1, 1);
    world.pass(15);
    let truth = [
        row("lost", "external 172.17.0.2", 80, 1, 1, 1),
        row("web-a", "api-a", 80, 1, 100, 10),
        row("web-a", "bank", 443, 1, 5, 6),
        row("web-b", "api-b", 80, 1, 100, 10),
        row("web-b", "bank", 443, 1, 5, 6),
    ];
    assert_eq!(world.edges(), truth);
}

#[test]
fn a_refusal_behind_a_bridge_is_its_workloads() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    world.graph.set_host_namespace(b, Some(ROOT));
    let inner = model::NodeAddress { address: local("10.244.1.9"), network_namespace: 77 };
    let own = model::NodeAddress { address: global(B), network_namespace: ROOT };
    world.graph.set_addresses(b, vec![own, inner]);
    let api = world.client(b, "api", local("10.244.1.9"), global("192.0.2.1"), 443);
    world.exchange(api, 1, 1);
    let web = world.client(a, "web", global(A), global("10.244.1.9"), 81);
    world.exchange(web, 1, 1);
    world.add(web, &[(Counter::FailedRefused, 2)]);
    world.pass(12);
    assert_eq!(world.edges()[1], row("web", "api", 81, 1, 1, 1));
}

/// What is told, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Open(usize),
    Count(usize, u64),
    Tell(usize),
}

/// Two clients behind one address, a service address and two servers, of which the first translates, too. `web` goes to
/// both, `job` to the second alone.
fn play(steps: &[Step]) -> Vec<(String, String, u16, u64, u64, u64)> {
    let mut world = World::new();
    let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
    let mut halves = [None; 4];
    let mut open = |world: &mut World, at: usize| {
        *halves[at].get_or_insert_with(|| match at {
            0 => world.client(a, "web", global(POD), global(VIP), 80),
            1 => world.client(a, "job", global(POD2), global(VIP), 80),
            2 => world.server(b, "one", global("172.17.0.2"), global(A), 80),
            _ => world.server(d, "two", global(D), global(A), 8080),
        })
    };
    for step in steps {
        match *step {
            Step::Open(at) => _ = open(&mut world, at),
            Step::Count(exchange, bytes) => {
                let [client, server] = [[0, 2], [0, 3], [1, 3]][exchange];
                let (client, server) = (open(&mut world, client), open(&mut world, server));
                world.exchange(client, bytes, 2 * bytes);
                world.exchange(server, 2 * bytes, bytes);
            }
            Step::Tell(at) => {
                let half = open(&mut world, at);
                match at {
                    0 => world.tell(half, &[ends(A, B, 8080), ends(A, D, 8080)]),
                    1 => world.tell(half, &[ends(A, D, 8080)]),
                    _ => world.tell(half, &[ends(A, B, 8080)]),
                }
            }
        }
    }
    world.pass(45);
    assert_eq!(world.edges(), published(&world));
    published(&world)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((0..3_usize, 1_u64..1_000_000), 1..12).prop_flat_map(|exchanges| {
        let mut steps: Vec<_> = (0..3).map(Step::Tell).collect();
        steps.extend((0..4).map(Step::Open));
        steps.extend(exchanges.into_iter().map(|(at, bytes)| Step::Count(at, bytes)));
        Just(steps).prop_shuffle()
    })
}

proptest! {
    #[test]
    fn order_of_arrival_changes_nothing(
        (first, second) in steps().prop_flat_map(|steps| {
            (Just(steps.clone()), Just(steps).prop_shuffle())
        }),
        repeated: bool,
    ) {
        let mut second = second;
        if repeated {
            second.extend((0..3).map(Step::Tell));
        }
        let settled = play(&first);
        prop_assert_eq!(&settled, &play(&second));
        let mut truth = std::collections::BTreeMap::new();
        for step in &first {
            if let Step::Count(exchange, bytes) = *step {
                let (client, server, port) =
                    [("web", "one", 80), ("web", "two", 8080), ("job", "two", 8080)][exchange];
                let row = truth.entry((client, server, port)).or_insert((0, 0));
                *row = (row.0 + 1, row.1 + bytes);
            }
        }
        let truth: Vec<_> = truth
            .into_iter()
            .map(|((client, server, port), (count, bytes))| {
                row(client, server, port, count, bytes, 2 * bytes)
            })
            .collect();
        prop_assert_eq!(settled, truth);
    }

    #[test]
    fn a_restart_in_between_changes_nothing(steps in steps(), at: prop::sample::Index) {
        let mut world = World::new();
        let a = world.node("a", A);
        let web = world.client(a, "web", global(POD), global(VIP), 80);
        world.tell(web, &[ends(A, B, 8080)]);
        world.exchange(web, steps.len() as u64, at.index(9) as u64);
        world.pass(1);
        let bytes = postcard::to_stdvec(&world.graph.snapshot()).unwrap();
        let graph = Graph::resume(Config::default(), postcard::from_bytes(&bytes).unwrap());
        let mut copy = World { graph, now: world.now };
        for world in [&mut world, &mut copy] {
            let b = world.node("b", B);
            let api = world.server(b, "api", global(B), global(A), 8080);
            world.exchange(api, at.index(9) as u64, steps.len() as u64);
            world.now = world.now.plus(Duration::from_secs(1));
            world.pass(20);
        }
        prop_assert_eq!(world.edges(), copy.edges());
        prop_assert_eq!(published(&world), published(&copy));
        prop_assert_eq!(copy.edges().len(), 1);
    }
}

#[test]
fn two_service_addresses_may_have_a_server_in_common() {
    for order in 0..4 {
        let mut world = World::new();
        let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
        world.pass(30);
        let first = world.client(a, "web", global(POD), global(VIP), 80);
        let other = world.client(a, "web", global(POD), global("10.96.0.11"), 81);
        let tell = |world: &mut World| {
            world.tell(first, &[ends(POD, B, 8080)]);
            world.tell(other, &[ends(POD, B, 8080), ends(POD, D, 8081)]);
        };
        for _ in 0..3 {
            world.exchange(first, 100, 10);
        }
        world.exchange(other, 100, 10);
        world.exchange(other, 30, 3);
        world.exchange(other, 30, 3);
        if order & 1 == 0 {
            tell(&mut world);
        }
        world.pass(1);
        let one = world.server(b, "one", global(B), global(POD), 8080);
        for _ in 0..4 {
            world.exchange(one, 10, 100);
        }
        if order & 1 == 1 {
            tell(&mut world);
        }
        if order & 2 == 0 {
            world.pass(1);
        }
        let two = world.server(d, "two", global(D), global(POD), 8081);
        world.exchange(two, 3, 30);
        world.exchange(two, 3, 30);
        world.pass(30);
        let truth = [row("web", "one", 8080, 4, 400, 40), row("web", "two", 8081, 2, 60, 6)];
        assert_eq!((published(&world), world.edges()), (truth.to_vec(), truth.to_vec()), "{order}");
    }
}

/// What happens at a link with two clients and two servers, all behind one address.
#[derive(Clone, Copy, Debug)]
enum Busy {
    Count(usize, u64),
    Pass(u64),
}

/// Halves 0 and 1 are the clients, 2 and 3 the servers.
struct Crowd {
    world: World,
    nodes: [NodeIx; 2],
    halves: [Option<HalfIx>; 4],
    counted: [u64; 4],
}

impl Crowd {
    fn new() -> Self {
        let mut world = World::new();
        let nodes = [world.node("a", A), world.node("b", B)];
        Crowd { world, nodes, halves: [None; 4], counted: [0; 4] }
    }

    fn count(&mut self, at: usize, connections: u64) {
        let (world, [a, b]) = (&mut self.world, self.nodes);
        let half = *self.halves[at].get_or_insert_with(|| match at {
            0 | 1 => {
                let (name, address) = [("web", POD), ("job", POD2)][at];
                let half = world.client(a, name, global(address), global(B), 5432);
                world.tell(half, &[ends(A, B, 5432)]);
                half
            }
            _ => world.server(b, ["db", "db2"][at - 2], global(B), global(A), 5432),
        });
        world.add(half, &[(Counter::Connections, connections)]);
        self.counted[at] += connections;
    }

    /// A second at a time; what was published may never be more than either side has counted.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.world.pass(1);
            let [web, job, db, db2] = self.counted;
            let sum: u64 = published(&self.world).iter().map(|row| row.3).sum();
            assert!(sum <= (web + job).max(db + db2), "{sum} of {:?}", self.counted);
        }
    }
}

#[test]
fn what_waits_to_be_told_apart_is_not_published_twice() {
    let mut crowd = Crowd::new();
    crowd.count(0, 1000);
    crowd.count(1, 150);
    crowd.count(2, 1150);
    crowd.pass(30);
    // A second owner, on a link that is never quiet.
    crowd.count(3, 1);
    for _ in 0..40 {
        crowd.count(0, 3);
        crowd.pass(1);
        crowd.count(2, 2);
    }
    crowd.count(3, 39);
    crowd.pass(60);
    let sum: u64 = published(&crowd.world).iter().map(|row| row.3).sum();
    assert_eq!(sum, 1270);
}

proptest! {
    #[test]
    fn no_more_is_published_than_was_counted(
        steps in proptest::collection::vec(
            prop_oneof![
                3 => (0..4_usize, 1_u64..1000).prop_map(|(at, count)| Busy::Count(at, count)),
                2 => (1_u64..8).prop_map(Busy::Pass),
            ],
            1..40,
        ),
    ) {
        let mut crowd = Crowd::new();
        for step in steps {
            match step {
                Busy::Count(at, connections) => crowd.count(at, connections),
                Busy::Pass(seconds) => crowd.pass(seconds),
            }
        }
        crowd.pass(45);
    }
}
