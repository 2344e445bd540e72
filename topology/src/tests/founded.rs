//! No edge is there between two who never talked, however late who tells of what.

use super::world::*;
use crate::{
    model::{Address, Ends, Scope},
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
                world.add(web, &[(Counter::SegmentsSent, 9)]);
            }
        }
        world.pass(3);
        hand_over(&mut world, b);
        world.pass(20);
        let truth = [row("web", "one", PORT, 1, 100, 10)];
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
