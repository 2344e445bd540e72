//! What must not wait for the next interval.

use std::time::Duration;

use testbed::{
    traffic::{Ending, Reason},
    truth::{EdgeName, collect},
};

use crate::{
    support::{burst, exchange, open},
    world::{World, at, unstarted},
};

/// So long that within a test there is no second one.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long what was hinted may take.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn first_use_first_failure_and_last_close_show_long_before_the_interval() {
    let Some(unstarted) = unstarted() else { return };
    let world = World::start_every(unstarted, INTERVAL).unwrap();
    let [one, two, three] = &world.hosts;
    let (mut web, mut db, mut cache) =
        (one.peer("web").unwrap(), two.peer("db").unwrap(), three.peer("cache").unwrap());

    // A new edge, while its first connection is open.
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    web.open(open("kept", target, 1)).unwrap();
    let name = EdgeName { client: "web".into(), server: "db".into(), port: 5_432 };
    at_once(&world, "the new edge", |graph| {
        let count = graph.edges.get(&name);
        count.is_some_and(|count| (count.connections, count.connections_open) == (1, 1))
    });

    // A failure.
    assert_eq!(web.open(open("none", at(three.ipv4(), 81), 1)).unwrap(), (0, 1));
    let failed = EdgeName { client: "web".into(), server: "three".into(), port: 81 };
    at_once(&world, "the failure", |graph| {
        let count = graph.edges.get(&failed);
        count.is_some_and(|count| count.failed == [(Reason::Refused, 1)].into())
    });

    // The last close of each half, and with it every byte.
    let other = cache.listen(three.ipv6(), 6_379).unwrap();
    web.burst(burst(other, 1, exchange(3, 1_000, 20_000))).unwrap();
    web.exchange("kept", exchange(2, 400, 5_000), Ending::ClientCloses).unwrap();
    let mut peers = [&mut web, &mut db, &mut cache];
    let truth = collect(&mut peers, |address| world.name_of(address)).unwrap();
    at_once(&world, "every count", |graph| graph.must_equal(&truth).is_ok());
    world.stop();
}

fn at_once(world: &World, what: &str, condition: impl Fn(&testbed::fleet::Graph) -> bool) {
    let shown = world.fleet.wait(what, AT_ONCE, |fleet| {
        let graph = fleet.graph().map_err(|error| error.to_string())?;
        if condition(&graph) { Ok(()) } else { Err(format!("{:#?}", graph.edges)) }
    });
    shown.unwrap_or_else(|error| panic!("{error}"));
}
