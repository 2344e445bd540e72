//! What is remembered of translations has bounds.

use super::*;
use crate::model::Role;

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
