//! Connections that a reset ends: one reset each, by the side that sent it.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use testbed::{
    traffic::{Burst, Command, Connection, End, Ending, Peer},
    truth::{EdgeCount, EdgeName, Truth, collect},
};

use crate::{
    support::{burst, exchange, open},
    world::{SETTLED, world},
};

/// More than will ever be read.
const ENDLESS: u64 = 1 << 40;
/// How long a peer may take to learn of a reset.
const LEARN_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn resets_by_either_side() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut web, mut api) = (one.peer("web").unwrap(), two.peer("api").unwrap());
    for (port, ending, times) in [
        (81, Ending::ClientResets, 6),
        (82, Ending::ServerResets, 9),
        (83, Ending::ClientCloses, 2),
    ] {
        let target = api.listen(two.ipv4(), port).unwrap();
        let what = burst(target, times, exchange(2, 700, 30_000));
        web.burst(Burst { ending, ..what }).unwrap();
    }
    // A reset with a full receive buffer: what was accepted counts, read or not.
    let target = api.listen(two.ipv4(), 84).unwrap();
    web.open(open("stuck", target, 2)).unwrap();
    let much = exchange(1, 24, 100 << 20);
    web.ask(&Command::Ask { group: "stuck".into(), exchange: much }).unwrap();
    web.end("stuck", Ending::ClientResets).unwrap();
    world.must_show(&mut [&mut web, &mut api]);
    world.stop();
}

#[test]
fn a_client_that_shuts_down_and_closes_with_data_unread() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut web, mut api) = (one.peer("web").unwrap(), two.peer("api").unwrap());
    for (ip, port) in [(two.ipv4(), 80), (two.ipv6(), 81)] {
        let target = api.listen(ip, port).unwrap();
        web.open(open("left", target, 2)).unwrap();
        let ask = Command::Ask { group: "left".into(), exchange: exchange(1, 900, 100 << 20) };
        web.ask(&ask).unwrap();
        web.end("left", Ending::ClientLeaves).unwrap();
    }
    world.must_show(&mut [&mut web, &mut api]);
    world.stop();
}

/// The client's kernel holds data that nobody will read when its process ends.
#[test]
fn a_client_ends_with_data_unread() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut web, mut api) = (one.peer("web").unwrap(), two.peer("api").unwrap());
    let target = api.listen(two.ipv4(), 80).unwrap();
    web.open(open("g", target, 2)).unwrap();
    web.ask(&Command::Ask { group: "g".into(), exchange: exchange(1, 24, ENDLESS) }).unwrap();
    at_rest(&mut api);
    kill(web);
    let ends = ended(&mut api, End::ResetReceived);
    // At rest, everything that was accepted was acknowledged.
    let acked = ends.iter().map(|end| end.kernel.unwrap().acked).sum();
    assert!(acked > 0);
    world.must_become(&only(EdgeCount {
        connections: 2,
        bytes_to_server: 2 * 24,
        bytes_to_client: acked,
        resets_by_client: 2,
        ..EdgeCount::default()
    }));
    world.stop();
}

/// The client's process ends while it reads as fast as it can.
#[test]
fn a_client_ends_in_the_middle_of_a_stream() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut web, mut api) = (one.peer("web").unwrap(), two.peer("api").unwrap());
    let target = api.listen(two.ipv4(), 80).unwrap();
    web.open(open("g", target, 1)).unwrap();
    web.ask(&Command::Ask { group: "g".into(), exchange: exchange(1, 24, ENDLESS) }).unwrap();
    web.tell(&Command::Receive { group: "g".into(), bytes: ENDLESS }).unwrap();
    let moves = |sent: u64| move |end: &Connection| end.sent > sent;
    until(&mut api, moves(50 << 20));
    kill(web);
    let end = ended(&mut api, End::ResetReceived).remove(0);
    let acked = end.kernel.unwrap().acked;
    // The last acknowledgement may not have come: what the client's kernel accepted lies between
    // what was acknowledged and what was sent. Of what one side alone has counted, all shows in the end.
    let named = EdgeName { client: "web".into(), server: "api".into(), port: 80 };
    let counted = world.fleet.wait("the reset", LEARN_LIMIT, |fleet| {
        let graph = fleet.graph().map_err(|error| error.to_string())?;
        let count = graph.edges.get(&named).cloned().unwrap_or_default();
        if !(acked..=end.sent).contains(&count.bytes_to_client) {
            return Err(format!("{count:?}"));
        }
        graph.must_equal(&only(EdgeCount {
            connections: 1,
            bytes_to_server: 24,
            bytes_to_client: count.bytes_to_client,
            resets_by_client: 1,
            ..EdgeCount::default()
        }))
    });
    counted.unwrap_or_else(|error| panic!("acked {acked}, sent {}: {error}", end.sent));
    world.stop();
}

/// The server's process ends with nothing unread, so its kernel sends a FIN first, and a reset
/// when the client goes on.
#[test]
fn a_server_ends_and_its_client_goes_on() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut web, mut api) = (one.peer("web").unwrap(), two.peer("api").unwrap());
    let target = api.listen(two.ipv4(), 80).unwrap();
    web.open(open("g", target, 3)).unwrap();
    web.exchange("g", exchange(2, 700, 1_300), Ending::Keep).unwrap();
    let mut truth = collect(&mut [&mut web, &mut api], |_| "nobody".into()).unwrap();
    world.must_become(&truth);
    let settled = world.fleet.wait("settled edge", SETTLED, |fleet| {
        let graph = fleet.graph().map_err(|error| error.to_string())?;
        let edge = graph.edge("web", "api", 80);
        if edge["pending"] == false { Ok(()) } else { Err(edge.to_string()) }
    });
    settled.unwrap();
    kill(api);
    // What is sent now reaches nobody.
    web.ask(&Command::Ask { group: "g".into(), exchange: exchange(1, 1_000, 0) }).unwrap();
    let count = truth.values_mut().next().unwrap();
    count.connections_open = 0;
    count.resets_by_server = 3;
    // The server's kernel resets without a socket, so only the client's tells; what one side alone
    // has seen is believed after a while.
    world.must_become_within(SETTLED, &truth);
    world.stop();
}

fn only(count: EdgeCount) -> Truth {
    let name = EdgeName { client: "web".into(), server: "api".into(), port: 80 };
    Truth::from([(name, count)])
}

/// Ends a peer's process, however busy it is.
fn kill(peer: Peer) {
    peer.process().signal(Signal::SIGKILL).unwrap();
    drop(peer);
}

/// Waits until nothing more is sent.
fn at_rest(peer: &mut Peer) {
    let mut last = (0, Instant::now());
    while last.0 == 0 || last.1.elapsed() < Duration::from_secs(1) {
        let sent: u64 = peer.report().unwrap().connections.iter().map(|end| end.sent).sum();
        if sent != last.0 {
            last = (sent, Instant::now());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until every connection has come to this end.
fn ended(peer: &mut Peer, how: End) -> Vec<Connection> {
    until(peer, move |end| end.end == how)
}

/// Waits until this holds for every connection.
fn until(peer: &mut Peer, condition: impl Fn(&Connection) -> bool) -> Vec<Connection> {
    let deadline = Instant::now() + LEARN_LIMIT;
    loop {
        let connections = peer.report().unwrap().connections;
        if !connections.is_empty() && connections.iter().all(&condition) {
            return connections;
        }
        assert!(Instant::now() < deadline, "{connections:?}");
        thread::sleep(Duration::from_millis(10));
    }
}
