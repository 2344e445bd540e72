//! The short way and the long one come to the same, whatever happens to a link.

use proptest::prelude::*;

use super::world::*;
use crate::{count::link::Rest, model::Role, *};

/// What happens to one of a link's two sides.
#[derive(Clone, Debug)]
enum Event {
    Counts { server: bool, counter: usize, value: u64 },
    Samples { server: bool, kind: usize, bucket: u16, count: u64 },
    Retires { server: bool },
    Returns { server: bool },
    Leaves { server: bool },
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let server = any::<bool>;
    prop_oneof![
        8 => (server(), 0..Counter::ALL.len(), 0_u64..2_000)
            .prop_map(|(server, counter, value)| Event::Counts { server, counter, value }),
        8 => (server(), 0..3_usize, 0_u16..40, prop_oneof![0_u64..3, 0_u64..300, 0_u64..70_000])
            .prop_map(|(server, kind, bucket, count)| {
                Event::Samples { server, kind, bucket: bucket * 8 + 3, count }
            }),
        1 => server().prop_map(|server| Event::Retires { server }),
        1 => server().prop_map(|server| Event::Returns { server }),
        1 => server().prop_map(|server| Event::Leaves { server }),
        6 => (1_u64..12).prop_map(Event::Pass),
    ]
}

/// Two hosts with a half each.
struct Pair {
    world: World,
    ends: [(NodeIx, HalfIx, Connection); 2],
}

impl Pair {
    /// `long` has the long way taken: to a link that somebody else was at, there is more than two halves.
    fn new(long: bool) -> Self {
        let mut world = World::new();
        let ends = [("one", "10.0.0.1"), ("two", "10.0.0.2")].map(|(name, address)| {
            let connection = world.connect(name, incarnation(1, 1, 1)).unwrap();
            (connection, global(address))
        });
        let [(one, a), (two, b)] = ends;
        let client = world.client(one.node, "web", a, b, 80);
        let server = world.server(two.node, "db", b, a, 80);
        if long {
            let half = world.graph.halves.get(server).unwrap();
            let (service, link) = (half.service, half.link);
            let (role, totals) = (Role::Server, EdgeTotals::default());
            let nothing = Rest { role, service, client: None, reach: Vec::new(), totals };
            world.graph.links.get_mut(link).unwrap().rests.push(nothing);
        }
        Pair { world, ends: [(one.node, client, one), (two.node, server, two)] }
    }

    fn apply(&mut self, event: &Event) {
        let graph = &mut self.world.graph;
        let now = self.world.now;
        match *event {
            Event::Counts { server, counter, value } => {
                graph.add(self.ends[usize::from(server)].1, Counter::ALL[counter], value);
            }
            Event::Samples { server, kind, bucket, count } => {
                let half = self.ends[usize::from(server)].1;
                graph.add_bucket(half, HistogramKind::ALL[kind], bucket, count);
            }
            Event::Retires { server } => graph.retire_half(self.ends[usize::from(server)].1, now),
            Event::Returns { server } => {
                let half = graph.halves.get(self.ends[usize::from(server)].1);
                let key = half.map(|half| (half.node(), half.id.2));
                if let Some((node, key)) = key {
                    graph.open_half(node, key, 0, now).unwrap();
                }
            }
            Event::Leaves { server } => {
                graph.node_disconnected(self.ends[usize::from(server)].2, now);
            }
            Event::Pass(seconds) => self.world.pass(seconds),
        }
    }
}

proptest! {
    #[test]
    fn both_ways_come_to_the_same(events in proptest::collection::vec(event(), 1..40)) {
        let (mut short, mut long) = (Pair::new(false), Pair::new(true));
        for event in &events {
            short.apply(event);
            long.apply(event);
            if let Event::Pass(_) = event {
                prop_assert_eq!(short.world.series(), long.world.series());
                prop_assert_eq!(short.world.view().edges, long.world.view().edges);
            }
        }
    }
}
