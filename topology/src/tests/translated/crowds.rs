//! Several clients and servers behind one address, at a link that is never quiet.

use proptest::prelude::*;

use super::*;

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
