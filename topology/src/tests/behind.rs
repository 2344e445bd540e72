//! Services of Kubernetes whose addresses no host translates, and whose name they have.

use proptest::prelude::*;

use super::{
    cluster::{service, slice, world},
    world::*,
};
use crate::{model::Ends, *};

const CLUSTER_IP: &str = "10.96.0.7";
const CLIENT: &str = "10.2.0.3";

fn pod(number: usize) -> String {
    format!("10.1.{}.{}", number / 200, number % 200 + 1)
}

/// A Service with these pods.
fn pods(numbers: impl IntoIterator<Item = usize>) -> ClusterChange {
    let pods: Vec<_> = numbers.into_iter().map(|at| (format!("cart-{at}"), pod(at))).collect();
    let pods: Vec<_> = pods.iter().map(|(name, ip)| (name.as_str(), ip.as_str())).collect();
    slice("cart", &pods)
}

/// Connections to each server.
fn connections(world: &mut World, server: &str) -> u64 {
    let edges = world.edges();
    edges.iter().filter(|edge| edge.1 == server).map(|edge| edge.3).sum()
}

fn all(world: &mut World) -> u64 {
    world.edges().iter().map(|edge| edge.3).sum()
}

#[test]
fn a_service_of_very_many_pods_is_counted_once() {
    for (uncovered, client_first) in [(0, true), (0, false), (1, true), (1, false)] {
        let (mut world, a) = world();
        let b = world.node("b", "10.0.0.2");
        let count = 1000;
        world.told([service("cart", CLUSTER_IP, 0), pods(0..count + uncovered)]);
        let talk = |world: &mut World| {
            let half = world.client(a, "web", global(CLIENT), global(CLUSTER_IP), 80);
            (0..count + uncovered).for_each(|_| world.exchange(half, 100, 10));
        };
        if client_first {
            talk(&mut world);
            world.pass(14);
        }
        for at in 0..count {
            let half = world.server(b, "cart-app", global(&pod(at)), global(CLIENT), 8080);
            world.exchange(half, 10, 100);
        }
        if !client_first {
            world.pass(3);
            talk(&mut world);
        }
        world.pass(75);
        let sum = (count + uncovered) as u64;
        assert_eq!(all(&mut world), sum, "{uncovered} {client_first} {:?}", world.edges());
        if !client_first {
            let app = connections(&mut world, "cart-app");
            assert_eq!(app, count as u64, "{uncovered} {:?}", world.edges());
        }
    }
}

#[test]
fn a_client_that_meets_thousands_of_pods_over_time_is_counted_once() {
    let (mut world, a) = world();
    let b = world.node("b", "10.0.0.2");
    world.told([service("cart", CLUSTER_IP, 0)]);
    let client = world.client(a, "web", global(CLIENT), global(CLUSTER_IP), 80);
    let (rounds, at_once) = (40, 50);
    let mut before = Vec::new();
    for round in 0..rounds {
        let now: Vec<usize> = (round * at_once..(round + 1) * at_once).collect();
        world.told([pods(now.iter().copied())]);
        for half in std::mem::take(&mut before) {
            world.graph.retire_half(half, world.now);
        }
        for at in now {
            let half = world.server(b, "cart-app", global(&pod(at)), global(CLIENT), 8080);
            world.exchange(half, 10, 100);
            world.exchange(client, 100, 10);
            before.push(half);
        }
        world.pass(5);
        let largest = world.graph.links.iter().map(|link| (link.keys().count(), link.rests.len()));
        let (keys, rests) = largest.max().unwrap();
        assert!(keys < 1700 && rests < 1700, "{keys} {rests}");
    }
    world.pass(30);
    let expected = (rounds * at_once) as u64;
    assert_eq!(
        world.edges(),
        [("web".to_owned(), "cart-app".to_owned(), 8080, expected, 100 * expected, 10 * expected)]
    );
    // All but the last are gone, and so is what was known of them.
    world.pass(90);
    for half in before {
        world.graph.retire_half(half, world.now);
    }
    world.pass(120);
    let largest = world.graph.links.iter().map(|link| link.keys().count() + link.rests.len());
    assert!(largest.max().unwrap() < 200);
    world.exchange(client, 7, 7);
    world.pass(30);
    assert_eq!(all(&mut world), expected + 1);
}

#[test]
fn a_rollout_draws_no_edge_to_who_comes_after() {
    for reused in [false, true] {
        let (mut world, a) = world();
        let b = world.node("b", "10.0.0.2");
        let later = if reused { 0 } else { 1 };
        world.listen(b, "blue", &pod(0), 8080);
        world.told([service("cart", CLUSTER_IP, 0), slice("cart", &[("blue-1", &pod(0))])]);
        world.pass(1);
        let half = world.client(a, "web", global(CLIENT), global(CLUSTER_IP), 80);
        world.exchange(half, 1, 0);
        world.pass(40);
        world.exchange(half, 10, 0);
        let blue = world.listener(b, "blue", &pod(0), 8080);
        world.told([slice("cart", &[])]);
        world.graph.listener_closed(b, blue);
        world.listen(b, "green", &pod(later), 8080);
        world.told([slice("cart", &[("green-1", &pod(later))])]);
        world.pass(40);
        world.exchange(half, 100, 0);
        world.pass(20);
        let edges = published(&world);
        let bytes = |name: &str| edges.iter().find(|edge| edge.1 == name).map_or(0, |edge| edge.4);
        assert_eq!((bytes("blue"), bytes("cart"), bytes("green")), (1, 10, 100), "{reused}");
    }
}

#[test]
fn a_rollout_of_the_same_service_keeps_its_name() {
    let (mut world, a) = world();
    let b = world.node("b", "10.0.0.2");
    world.told([service("cart", CLUSTER_IP, 0)]);
    world.listen(b, "app", &pod(0), 8080);
    world.told([slice("cart", &[("app-0", &pod(0))])]);
    world.pass(1);
    let half = world.client(a, "web", global(CLIENT), global(CLUSTER_IP), 80);
    world.exchange(half, 1, 0);
    world.pass(20);
    for at in 1..70 {
        world.listen(b, "app", &pod(at), 8080);
        world.told([pods([at])]);
        let old = world.listener(b, "app", &pod(at - 1), 8080);
        world.graph.listener_closed(b, old);
        world.exchange(half, 1, 0);
        world.pass(3);
    }
    world.pass(20);
    assert_eq!(published(&world), [row("web", "app", 80, 70, 70, 0)]);
    // One that is not ready has nothing to say.
    let mut waiting = slice("cart", &[("app-69", &pod(69)), ("other-1", &pod(100))]);
    if let ClusterChange::Slice(_, Some(slice)) = &mut waiting {
        slice.endpoints[1].ready = false;
    }
    world.told([waiting]);
    world.exchange(half, 1, 0);
    world.pass(20);
    assert_eq!(published(&world), [row("web", "app", 80, 71, 71, 0)]);
}

#[test]
fn a_pod_whose_agent_connects_a_moment_later_is_not_uncovered() {
    let (mut world, a) = world();
    let b = world.node("b", "10.0.0.2");
    world.told([service("cart", CLUSTER_IP, 0), pods(0..2)]);
    let client = world.client(a, "web", global(CLIENT), global(CLUSTER_IP), 80);
    let server = world.server(b, "app", global(&pod(0)), global(CLIENT), 8080);
    (0..2).for_each(|_| world.exchange(client, 100, 10));
    world.exchange(server, 10, 100);
    world.pass(20);
    assert_eq!(published(&world), [row("web", "app", 8080, 1, 100, 10)], "it may be either's");
    let c = world.node("c", "10.0.0.3");
    let server = world.server(c, "app", global(&pod(1)), global(CLIENT), 8080);
    world.exchange(server, 10, 100);
    world.pass(60);
    world.exchange(client, 7, 7);
    world.pass(30);
    assert_eq!(world.edges(), [row("web", "app", 8080, 3, 207, 27)]);
}

#[test]
fn whom_a_host_leads_to_is_no_open_question_however_late_it_tells() {
    let (mut world, a) = world();
    let b = world.node("b", "10.0.0.2");
    world.told([service("cart", CLUSTER_IP, 0), pods(0..2)]);
    let client = world.client(a, "web", global(CLIENT), global(CLUSTER_IP), 80);
    let server = world.server(b, "app", global(&pod(0)), global(CLIENT), 8080);
    world.exchange(client, 100, 10);
    world.exchange(server, 10, 100);
    world.pass(75);
    world.exchange(client, 1, 0);
    world.exchange(server, 0, 1);
    world.pass(5);
    let ends = Ends { client: global(CLIENT), server: global(&pod(0)), server_port: 8080 };
    world.graph.add_translations(client, [ends], world.now);
    world.pass(5);
    world.exchange(client, 7, 7);
    world.pass(30);
    assert_eq!(world.edges(), [row("web", "app", 8080, 3, 108, 17)]);
}

#[test]
fn a_server_that_is_tied_to_others_before_it_is_looked_at_meets_its_clients() {
    let (mut world, a) = world();
    let b = world.node("b", "10.0.0.2");
    world.told([service("cart", CLUSTER_IP, 0), pods(0..1)]);
    // Else whoever is concerned by that is looked at anew.
    world.pass(12);
    let client = world.client(a, "web", global(CLIENT), global(CLUSTER_IP), 80);
    let other = world.client(a, "job", global("10.2.0.4"), global("192.0.2.1"), 90);
    world.exchange(client, 100, 10);
    world.exchange(other, 100, 10);
    world.pass(1);
    let server = world.server(b, "app", global(&pod(0)), global(CLIENT), 8080);
    (0..2).for_each(|_| world.exchange(server, 10, 100));
    let ends = Ends { client: global(CLIENT), server: global(&pod(0)), server_port: 8080 };
    world.graph.add_translations(other, [ends], world.now);
    world.pass(30);
    assert_eq!(all(&mut world), 2, "{:?}", world.edges());
}

#[test]
fn a_service_that_is_deleted_has_led_to_its_pods() {
    for client_first in [true, false] {
        let (mut world, a) = world();
        let b = world.node("b", "10.0.0.2");
        let exists = [service("cart", CLUSTER_IP, 0), pods(0..1)];
        world.told(exists.clone());
        let talk = |world: &mut World, client: bool| {
            let (role, end) = if client {
                (world.client(a, "web", global(CLIENT), global(CLUSTER_IP), 80), 100)
            } else {
                (world.server(b, "app", global(&pod(0)), global(CLIENT), 8080), 10)
            };
            world.exchange(role, end, 110 - end);
        };
        world.pass(3);
        talk(&mut world, client_first);
        world.pass(2);
        let deleted = exists.map(|change| match change {
            ClusterChange::Service(name, _) => ClusterChange::Service(name, None),
            ClusterChange::Slice(name, _) => ClusterChange::Slice(name, None),
            ClusterChange::Node(name, _) => ClusterChange::Node(name, None),
        });
        world.told(deleted);
        world.told([service("other", "10.96.0.8", 0)]);
        // Whoever is concerned has been looked at anew by then.
        world.pass(3);
        talk(&mut world, !client_first);
        world.pass(30);
        assert_eq!(world.edges(), [row("web", "app", 8080, 1, 100, 10)], "{client_first}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever comes, goes, and is talked to, in whatever order that is told.
    #[test]
    fn nothing_is_counted_twice(
        events in proptest::collection::vec((0_usize..6, 0_u8..5, any::<bool>(), 0_u64..25), 1..40),
    ) {
        let (mut world, a) = world();
        let b = world.node("b", "10.0.0.2");
        world.told([service("cart", CLUSTER_IP, 0), pods(0..6)]);
        world.pass(1);
        let (mut there, mut count) = ([true; 6], 0);
        for (at, kind, server_first, wait) in events {
            match kind {
                0 => {
                    there[at] = !there[at];
                    let numbers = (0..6).filter(|at| there[*at]);
                    world.told([pods(numbers)]);
                }
                _ if there[at] => {
                    let told = |world: &mut World, server: bool| {
                        // Nobody covers the last.
                        if !server {
                            let ends = (global(CLIENT), global(CLUSTER_IP));
                            let half = world.client(a, "web", ends.0, ends.1, 80);
                            world.exchange(half, 100, 10);
                        } else if at < 5 {
                            let name = ["app", "canary"][at % 2];
                            let half = world.server(b, name, global(&pod(at)), global(CLIENT), 8080);
                            world.exchange(half, 10, 100);
                            if kind == 4 {
                                world.graph.retire_half(half, world.now);
                            }
                        }
                    };
                    told(&mut world, server_first);
                    if wait % 2 == 0 {
                        world.pass(1);
                    }
                    told(&mut world, !server_first);
                    count += 1;
                }
                _ => {}
            }
            world.pass(wait);
        }
        world.pass(90);
        prop_assert_eq!(all(&mut world), count, "{:?}", world.edges());
    }
}
