//! Whatever comes first: the same comes of it.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;

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
        let mut truth = BTreeMap::new();
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
