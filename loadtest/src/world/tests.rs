use std::collections::{BTreeMap, HashSet};

use common::{Counter, HistogramKind};

use super::*;
use crate::scenario::Scenario;

fn world(seed: u64) -> World {
    World::new(&Scenario::load("smoke").unwrap().fleet, seed, 60)
}

/// Every link through its life, with what both of its ends count in each tick.
fn live(world: &World, mut each: impl FnMut(u32, Tick, Option<(&Increment, &Increment)>)) {
    let (mut a, mut b) = (Increment::default(), Increment::default());
    for (number, link) in world.links.iter().enumerate() {
        let (number, mut open) = (number as u32, 0);
        for tick in link.born..=link.died.min(60) {
            let client = world.traffic(number, Side::Client, tick, open, &mut a);
            let server = world.traffic(number, Side::Server, tick, open, &mut b);
            assert_eq!(client, server, "both ends know whether there was something");
            each(number, tick, client.then_some((&a, &b)));
            if client {
                open += a.counters[Counter::Connections.index()];
                open -= a.counters[Counter::Closed.index()];
            }
        }
        assert!(link.died > 60 || open == 0, "nothing is open after the end");
    }
}

#[test]
fn a_seed_makes_one_world_and_its_traffic() {
    let (a, b, other) = (world(1), world(1), world(2));
    assert_eq!((&a.edges, &a.links, &a.services), (&b.edges, &b.links, &b.services));
    assert_ne!(a.edges, other.edges);
    let sum = |world: &World| {
        let mut sum = [0; common::COUNTERS];
        live(world, |_, _, both| {
            for (sum, value) in sum.iter_mut().zip(both.map_or([0; 16], |(a, _)| a.counters)) {
                *sum += value;
            }
        });
        sum
    };
    assert_eq!(sum(&a), sum(&b));
    assert_ne!(sum(&a), sum(&other));
    assert!(sum(&a).iter().filter(|value| **value > 0).count() > 12, "everything happens");
}

#[test]
fn both_ends_agree() {
    live(&world(3), |link, tick, both| {
        let Some((client, server)) = both else { return };
        for (a, b) in [
            (Counter::Connections, Counter::Connections),
            (Counter::Closed, Counter::Closed),
            (Counter::BytesSent, Counter::BytesReceived),
            (Counter::BytesReceived, Counter::BytesSent),
            (Counter::SegmentsSent, Counter::SegmentsReceived),
            (Counter::SegmentsReceived, Counter::SegmentsSent),
            (Counter::ResetSent, Counter::ResetReceived),
            (Counter::ResetReceived, Counter::ResetSent),
        ] {
            let (a, b) = (client.counters[a.index()], server.counters[b.index()]);
            assert_eq!(a, b, "link {link}, tick {tick}");
        }
        let of = |half: &Increment, wanted: HistogramKind| -> Vec<_> {
            half.buckets.iter().filter(|(kind, ..)| *kind == wanted).copied().collect()
        };
        assert_eq!(of(client, HistogramKind::Lifetime), of(server, HistogramKind::Lifetime));
        let count = |half, kind| of(half, kind).iter().map(|(.., count)| count).sum::<u64>();
        let get = |counter: Counter| client.counters[counter.index()];
        assert_eq!(count(client, HistogramKind::Connect), get(Counter::Connections));
        assert_eq!(count(client, HistogramKind::Lifetime), get(Counter::Closed));
    });
}

#[test]
fn workloads_end_and_come_again_and_no_edge_is_lost() {
    let world = world(4);
    assert_eq!(world.edges.iter().collect::<HashSet<_>>().len(), world.edges.len());
    let living = |tick: Tick| {
        let mut living = BTreeMap::<u32, u32>::new();
        for link in world.links.iter().filter(|link| link.born <= tick && tick < link.died) {
            *living.entry(link.edge).or_default() += 1;
        }
        living
    };
    assert_eq!(living(0).len(), world.edges.len());
    // Some are in between, all come back.
    assert!((1..60).any(|tick| living(tick) != living(0)));
    assert_eq!(living(70), living(0));
    for link in &world.links {
        for instance in [link.client, link.server] {
            assert!(world.instances[instance as usize].died >= link.died);
        }
    }
}

#[test]
fn a_plain_record_is_what_figures_are_given_for() {
    let world = World::new(&Scenario::load("paced").unwrap().fleet, 1, 1);
    for (link, side) in [(0, Side::Client), (1, Side::Server), (9_999, Side::Server)] {
        for tick in 0..20 {
            let mut increment = Increment::default();
            assert!(world.traffic(link, side, tick, 0, &mut increment), "every half, every tick");
            assert_eq!(increment.counters.iter().filter(|value| **value > 0).count(), 4);
            assert_eq!(increment.buckets.len(), 3);
        }
    }
}

#[test]
fn edges_rest_and_are_all_there_in_the_end() {
    let fleet = Scenario::load("smoke").unwrap().fleet;
    let restless = Fleet { restless: 0.5, rest_ticks: 20, cycle_ticks: 40, churn: 0.5, ..fleet };
    let world = World::new(&restless, 1, 200);
    let mut rested = 0;
    for edge in 0..world.edges.len() as u32 {
        let links: Vec<_> = world.links.iter().filter(|link| link.edge == edge).collect();
        assert!(links.iter().any(|link| link.died == NEVER && link.born < 200), "{edge} is gone");
        let silent = |tick: Tick| !links.iter().any(|link| (link.born..=link.died).contains(&tick));
        rested += u32::from((0..200).any(silent));
    }
    let share = f64::from(rested) / world.edges.len() as f64;
    assert!((0.3..=0.7).contains(&share), "{share} of the edges have rested");
}
