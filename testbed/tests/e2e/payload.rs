//! Connections and bytes, in every shape they come in.

use testbed::{
    environment,
    traffic::{Burst, Command, Dial, Ending, Exchange, Listen, Means},
};

use crate::{
    support::{burst, exchange, open, skip},
    world::{at, world},
};

#[test]
fn requests_and_responses_over_both_families() {
    let Some(world) = world() else { return };
    let [one, two, three] = &world.hosts;
    let (mut web, mut cart, mut db) =
        (one.peer("web").unwrap(), two.peer("cart").unwrap(), three.peer("db").unwrap());
    let cart_4 = cart.listen(two.ipv4(), 7001).unwrap();
    let cart_6 = cart.listen(two.ipv6(), 7001).unwrap();
    let db_any = db.listen("::".parse().unwrap(), 5432).unwrap();
    web.burst(burst(cart_4, 30, exchange(5, 300, 2_000))).unwrap();
    web.burst(burst(cart_6, 20, exchange(2, 100, 50_000))).unwrap();
    // A v4-mapped client, and a v4 client of a socket that listens on both.
    let mapped = Dial { mapped: true, ..Dial::default() };
    let db_4 = at(three.ipv4(), db_any.port());
    cart.burst(Burst { dial: mapped, ..burst(db_4, 10, exchange(3, 80, 900)) }).unwrap();
    cart.burst(burst(at(three.ipv6(), 5432), 5, exchange(1, 24, 1))).unwrap();
    web.burst(burst(db_4, 7, exchange(1, 1_000, 0))).unwrap();
    let graph = world.must_show(&mut [&mut web, &mut cart, &mut db]);
    assert_eq!(graph.edges.len(), 3);
    assert_eq!(graph.edge("web", "cart", 7001)["seen_by"], "both");
    assert!(graph.nodes.values().all(|node| node.kind == "process"), "{:?}", graph.nodes);
    world.stop();
}

#[test]
fn bulk_in_each_direction_and_by_every_means() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut app, mut store) = (one.peer("app").unwrap(), two.peer("store").unwrap());
    let mut port = 9_000;
    for means in [Means::Write, Means::Sendfile, Means::Splice] {
        let target = store.listen(two.ipv4(), port).unwrap();
        let up = Exchange { means, ..exchange(1, 20 << 20, 1) };
        app.burst(burst(target, 2, up)).unwrap();
        port += 1;
    }
    let target = store.listen(two.ipv4(), port).unwrap();
    app.burst(burst(target, 2, exchange(1, 24, 60 << 20))).unwrap();
    world.must_show(&mut [&mut app, &mut store]);
    world.stop();
}

#[test]
fn bytes_that_no_call_of_its_own_moved() {
    let Some(world) = world() else { return };
    if let Err(reason) = environment::check_io_uring() {
        return skip(&reason.to_string());
    }
    let [one, two, _] = &world.hosts;
    let (mut app, mut store) = (one.peer("app").unwrap(), two.peer("store").unwrap());
    for (ip, port) in [(two.ipv4(), 9_000), (two.ipv6(), 9_001)] {
        let target = store.listen(ip, port).unwrap();
        for what in [exchange(20, 3_000, 5_000), exchange(1, 8 << 20, 6 << 20)] {
            app.burst(burst(target, 3, Exchange { means: Means::Ring, ..what })).unwrap();
        }
    }
    // Before anything is closed, too.
    app.open(open("kept", at(two.ipv4(), 9_000), 2)).unwrap();
    let what = Exchange { means: Means::Ring, ..exchange(4, 70_000, 90_000) };
    app.exchange("kept", what, Ending::Keep).unwrap();
    world.must_show(&mut [&mut app, &mut store]);
    app.end("kept", Ending::ClientCloses).unwrap();
    world.must_show(&mut [&mut app, &mut store]);
    world.stop();
}

#[test]
fn a_client_that_only_receives_counts_as_it_goes() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut screen, mut ticker) = (one.peer("screen").unwrap(), two.peer("ticker").unwrap());
    let address = ticker.listen(two.ipv4(), 8_000).unwrap();
    screen.open(open("live", address, 3)).unwrap();
    // Still open all the time: each round must show without anything being closed.
    for _ in 0..2 {
        world.must_show(&mut [&mut screen, &mut ticker]);
        ticker.ask(&Command::Push { address, bytes: 400_000 }).unwrap();
        screen.ask(&Command::Receive { group: "live".into(), bytes: 400_000 }).unwrap();
    }
    let graph = world.must_show(&mut [&mut screen, &mut ticker]);
    assert_eq!(graph.edge("screen", "ticker", 8_000)["connections_open"], 3);
    screen.end("live", Ending::ClientCloses).unwrap();
    world.must_show(&mut [&mut screen, &mut ticker]);
    world.stop();
}

#[test]
fn short_connections_in_thousands() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut web, mut api) = (one.peer("web").unwrap(), two.peer("api").unwrap());
    let target = api.listen(two.ipv4(), 80).unwrap();
    // Half are closed by each side, so that neither runs out of ports in TIME_WAIT.
    for ending in [Ending::ClientCloses, Ending::ServerCloses] {
        let what = burst(target, 4_000, exchange(1, 128, 512));
        assert_eq!(web.burst(Burst { threads: 4, ending, ..what }).unwrap(), (4_000, 0));
    }
    let graph = world.must_show(&mut [&mut web, &mut api]);
    let edge = graph.edge("web", "api", 80);
    assert_eq!(edge["connect_seconds"]["count"], 8_000, "{edge}");
    assert_eq!(edge["lifetime_seconds"]["count"], 8_000, "{edge}");
    world.stop();
}

#[test]
fn a_listener_for_multipath_tcp() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut plain, mut multi, mut go) =
        (one.peer("plain").unwrap(), one.peer("multi").unwrap(), two.peer("go").unwrap());
    let address = at(two.ipv4(), 8_443);
    go.listen_as(Listen { address, mptcp: true, reuse_port: false }).unwrap();
    plain.burst(burst(address, 12, exchange(2, 500, 4_000))).unwrap();
    let dial = Dial { mptcp: true, ..Dial::default() };
    multi.burst(Burst { dial, ..burst(address, 8, exchange(2, 500, 4_000)) }).unwrap();
    world.must_show(&mut [&mut plain, &mut multi, &mut go]);
    world.stop();
}
