//! A port that goes from one process to another.

use std::time::{Duration, Instant};

use testbed::{
    fleet::{AGENT_HTTP, get},
    lab::Host,
    traffic::{Command, Ending, Listen},
};

use crate::{
    support::{burst, exchange, open},
    world::{at, world},
};

/// How long a port may be taken for one that several processes share.
const FORGET_LIMIT: Duration = Duration::from_secs(40);

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

    until_forgotten(two, || {
        web.burst(burst(target, 12, exchange(1, 64, 64))).unwrap();
        world.must_show(&mut [&mut web, &mut cart, &mut old, &mut new]);
    });
    web.burst(burst(target, 9, exchange(1, 64, 64))).unwrap();
    world.must_show(&mut [&mut web, &mut cart, &mut old, &mut new]);
    world.stop();
}

/// The clients share an address, so only the servers' side can tell whose a connection was.
#[test]
fn a_port_goes_from_one_process_to_another_under_clients_of_one_host() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut web, mut cart) = (one.peer("web").unwrap(), one.peer("cart").unwrap());
    let (mut old, mut new) = (two.peer("old").unwrap(), two.peer("new").unwrap());
    let target = old.listen(two.ipv4(), 80).unwrap();
    web.burst(burst(target, 6, exchange(2, 100, 1_000))).unwrap();
    cart.burst(burst(target, 4, exchange(1, 300, 700))).unwrap();
    cart.open(open("left", target, 2)).unwrap();
    // Once answered, they are accepted.
    cart.exchange("left", exchange(1, 20, 30), Ending::Keep).unwrap();
    old.ask(&Command::Unlisten { address: target }).unwrap();
    new.listen(two.ipv4(), 80).unwrap();
    web.burst(burst(target, 5, exchange(1, 200, 3_000))).unwrap();
    cart.burst(burst(target, 3, exchange(3, 50, 500))).unwrap();
    // What the former one still has open goes on, beside what the next one gets.
    web.open(open("kept", target, 1)).unwrap();
    cart.exchange("left", exchange(2, 900, 4_000), Ending::Keep).unwrap();
    let graph = world.must_show(&mut [&mut web, &mut cart, &mut old, &mut new]);
    assert_eq!(graph.edges.len(), 4);
    cart.exchange("left", exchange(1, 80, 90), Ending::ClientCloses).unwrap();
    web.exchange("kept", exchange(1, 70, 60), Ending::ServerCloses).unwrap();
    world.must_show(&mut [&mut web, &mut cart, &mut old, &mut new]);
    world.stop();
}

#[test]
fn a_port_is_handed_on_twice_under_clients_of_one_host() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut web, mut cart) = (one.peer("web").unwrap(), one.peer("cart").unwrap());
    let mut old = two.peer("old").unwrap();
    let (mut new, mut third) = (two.peer("new").unwrap(), two.peer("third").unwrap());
    let target = old.listen(two.ipv4(), 80).unwrap();
    web.burst(burst(target, 6, exchange(2, 100, 1_000))).unwrap();
    cart.burst(burst(target, 4, exchange(1, 300, 700))).unwrap();
    old.ask(&Command::Unlisten { address: target }).unwrap();
    new.listen(two.ipv4(), 80).unwrap();
    web.burst(burst(target, 5, exchange(1, 200, 3_000))).unwrap();
    cart.burst(burst(target, 3, exchange(3, 50, 500))).unwrap();
    world.must_show(&mut [&mut web, &mut cart, &mut old, &mut new]);
    // Once the former one is forgotten, the next one's connections are counted together, too.
    until_forgotten(two, || {
        web.burst(burst(target, 12, exchange(1, 64, 640))).unwrap();
        cart.burst(burst(target, 10, exchange(1, 32, 320))).unwrap();
        world.must_show(&mut [&mut web, &mut cart, &mut old, &mut new]);
    });
    new.ask(&Command::Unlisten { address: target }).unwrap();
    third.listen(two.ipv4(), 80).unwrap();
    cart.burst(burst(target, 7, exchange(1, 11, 13))).unwrap();
    web.burst(burst(target, 3, exchange(1, 17, 19))).unwrap();
    let mut peers = [&mut web, &mut cart, &mut old, &mut new, &mut third];
    let graph = world.must_show(&mut peers);
    assert_eq!(graph.edges.len(), 6);
    world.stop();
}

/// Connections from before are counted together, those from after one by one, and no moment is at rest.
#[test]
fn a_second_process_joins_in_the_middle() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut web, mut cart) = (one.peer("web").unwrap(), one.peer("cart").unwrap());
    let (mut blue, mut green) = (two.peer("blue").unwrap(), two.peer("green").unwrap());
    let address = at(two.ipv4(), 80);
    let shared = Listen { address, mptcp: false, reuse_port: true };
    blue.listen_as(shared.clone()).unwrap();
    web.open(open("kept", address, 2)).unwrap();
    cart.open(open("kept", address, 1)).unwrap();
    web.tell(&Command::Burst(burst(address, 1_500, exchange(1, 90, 800)))).unwrap();
    cart.tell(&Command::Burst(burst(address, 1_000, exchange(3, 60, 600)))).unwrap();
    green.listen_as(shared).unwrap();
    web.answer().unwrap();
    cart.answer().unwrap();
    web.exchange("kept", exchange(4, 500, 5_000), Ending::Keep).unwrap();
    cart.exchange("kept", exchange(2, 700, 7_000), Ending::ClientCloses).unwrap();
    let graph = world.must_show(&mut [&mut web, &mut cart, &mut blue, &mut green]);
    assert_eq!(graph.edges.len(), 4);
    world.stop();
}

/// Repeats a burst of more than one connection until it takes no half for each of them: only while a
/// port is shared is each of its connections a half of its own.
fn until_forgotten(host: &Host, mut burst: impl FnMut()) {
    let deadline = Instant::now() + FORGET_LIMIT;
    loop {
        let before = halves(host);
        burst();
        let more = halves(host) - before;
        if more <= 2 {
            break;
        }
        assert!(Instant::now() < deadline, "still shared: {more} more halves");
    }
}

/// Halves that the host's agent knows.
fn halves(host: &Host) -> i64 {
    let metrics = get(host.namespace(), &format!("http://{AGENT_HTTP}/metrics")).unwrap().body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("weft_agent_halves "));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{metrics}"))
}
