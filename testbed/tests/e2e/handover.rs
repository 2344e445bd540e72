//! A port that goes from one process to another.

use std::time::{Duration, Instant};

use testbed::{
    fleet::{AGENT_HTTP, get},
    lab::Host,
    traffic::Command,
};

use crate::{
    support::{burst, exchange},
    world::world,
};

/// How long a port may be taken for one that several processes share.
const FORGET_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_port_goes_from_one_process_to_another() {
    let Some(world) = world() else { return };
    let [one, two, three] = &world.hosts;
    let (mut web, mut cart) = (one.peer("web").unwrap(), three.peer("cart").unwrap());
    let (mut old, mut new) = (two.peer("old").unwrap(), two.peer("new").unwrap());
    let target = old.listen(two.ipv4(), 80).unwrap();
    web.burst(burst(target, 6, exchange(2, 100, 1_000))).unwrap();
    cart.burst(burst(target, 4, exchange(1, 300, 700))).unwrap();
    // At once: before any look of the agent can tell that the first one is gone.
    old.ask(&Command::Unlisten { address: target }).unwrap();
    new.listen(two.ipv4(), 80).unwrap();
    web.burst(burst(target, 5, exchange(1, 200, 3_000))).unwrap();
    cart.burst(burst(target, 3, exchange(3, 50, 500))).unwrap();
    let graph = world.must_show(&mut [&mut web, &mut cart, &mut old, &mut new]);
    assert_eq!(graph.edges.len(), 4);

    // Only while a port is shared is each of its connections a half of its own.
    let deadline = Instant::now() + FORGET_LIMIT;
    loop {
        let before = halves(two);
        web.burst(burst(target, 12, exchange(1, 64, 64))).unwrap();
        world.must_show(&mut [&mut web, &mut cart, &mut old, &mut new]);
        let more = halves(two) - before;
        if more <= 1 {
            break;
        }
        assert!(Instant::now() < deadline, "still shared: {more} more halves");
    }
    web.burst(burst(target, 9, exchange(1, 64, 64))).unwrap();
    world.must_show(&mut [&mut web, &mut cart, &mut old, &mut new]);
    world.stop();
}

/// Halves that the host's agent knows.
fn halves(host: &Host) -> i64 {
    let metrics = get(host.namespace(), &format!("http://{AGENT_HTTP}/metrics")).unwrap().body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("weft_agent_halves "));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{metrics}"))
}
