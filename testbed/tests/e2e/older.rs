//! Sockets and listeners that were there before the agents.

use testbed::{
    lab::Host,
    traffic::{Burst, Command, Dial, Ending, Listen, Open},
    truth::{Truth, collect, since},
};

use crate::{
    support::{burst, exchange, open},
    world::{SETTLED, World, at, unstarted},
};

/// More than one segment carries.
const MOST_AT_ONCE: u64 = 65_536;

#[test]
fn sockets_and_listeners_older_than_the_agents() {
    let Some(unstarted) = unstarted() else { return };
    let [one, two, _] = &unstarted.hosts;
    let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
    let old = db.listen(two.ipv4(), 5_432).unwrap();
    let push = db.listen(two.ipv6(), 5_433).unwrap();
    web.open(open("talk", old, 3)).unwrap();
    web.open(open("hear", push, 2)).unwrap();
    web.exchange("talk", exchange(2, 5_000, 9_000), Ending::Keep).unwrap();
    db.ask(&Command::Push { address: push, bytes: 7_000 }).unwrap();
    web.ask(&Command::Receive { group: "hear".into(), bytes: 7_000 }).unwrap();
    let before = collect(&mut [&mut web, &mut db], |_| "nobody".into()).unwrap();

    let world = World::start(unstarted).unwrap();
    // Picked up as open, with nothing of what was before.
    let now = collect(&mut [&mut web, &mut db], |_| "nobody".into()).unwrap();
    world.must_become(&since(&now, &before));

    web.exchange("talk", exchange(1, 300, 400), Ending::Keep).unwrap();
    db.ask(&Command::Push { address: push, bytes: 100_000 }).unwrap();
    web.ask(&Command::Receive { group: "hear".into(), bytes: 100_000 }).unwrap();
    // The old listener accepts new connections, and they are its owner's.
    web.burst(burst(old, 5, exchange(1, 64, 64))).unwrap();
    let now = collect(&mut [&mut web, &mut db], |_| "nobody".into()).unwrap();
    world.must_become(&since(&now, &before));

    // The last bytes before a close count, and so do resets.
    web.exchange("talk", exchange(1, 1_000, 2_000), Ending::ClientCloses).unwrap();
    web.end("hear", Ending::ClientResets).unwrap();
    let now = collect(&mut [&mut web, &mut db], |_| "nobody".into()).unwrap();
    world.must_become(&since(&now, &before));
    world.stop();
}

#[test]
fn multipath_sockets_and_a_listener_older_than_the_agents() {
    let Some(unstarted) = unstarted() else { return };
    let [one, two, _] = &unstarted.hosts;
    let (mut plain, mut multi, mut go) =
        (one.peer("plain").unwrap(), one.peer("multi").unwrap(), two.peer("go").unwrap());
    let address = at(two.ipv4(), 8_443);
    go.listen_as(Listen { address, mptcp: true, reuse_port: false }).unwrap();
    let dial = Dial { mptcp: true, ..Dial::default() };
    plain.open(open("old", address, 2)).unwrap();
    plain.exchange("old", exchange(1, 500, 600), Ending::Keep).unwrap();
    multi.open(Open { dial: dial.clone(), ..open("old", address, 3) }).unwrap();
    multi.exchange("old", exchange(2, 700, 800), Ending::Keep).unwrap();
    let before = collect(&mut [&mut plain, &mut multi, &mut go], |_| "nobody".into()).unwrap();

    let world = World::start(unstarted).unwrap();
    plain.burst(burst(address, 6, exchange(2, 400, 3_000))).unwrap();
    multi.burst(Burst { dial, ..burst(address, 4, exchange(2, 300, 2_000)) }).unwrap();
    plain.exchange("old", exchange(2, 5_000, 6_000), Ending::Keep).unwrap();
    multi.exchange("old", exchange(2, 900, 1_700), Ending::Keep).unwrap();
    let now = collect(&mut [&mut plain, &mut multi, &mut go], |_| "nobody".into()).unwrap();
    must_become(&world, since(&now, &before));
    plain.end("old", Ending::ClientCloses).unwrap();
    multi.exchange("old", exchange(1, 100, 200), Ending::ClientCloses).unwrap();
    let now = collect(&mut [&mut plain, &mut multi, &mut go], |_| "nobody".into()).unwrap();
    must_become(&world, since(&now, &before));
    world.stop();
}

/// Waits for the truth. What the kernel takes for lost on MPTCP's own level it sends again over the same subflow,
/// as payload: as often as it says so, there may be more of it.
fn must_become(world: &World, truth: Truth) {
    let shown = world.fleet.wait("the true graph", SETTLED, |fleet| {
        let graph = fleet.graph().map_err(|error| error.to_string())?;
        let again = world.hosts.iter().map(sent_again).sum::<u64>() * MOST_AT_ONCE;
        let mut truth = truth.clone();
        for (name, count) in truth.iter_mut().filter(|(name, _)| name.client == "multi") {
            let Some(served) = graph.edges.get(name) else { continue };
            let fit = |true_bytes: &mut u64, served: u64| {
                if (*true_bytes..=*true_bytes + again).contains(&served) {
                    *true_bytes = served;
                }
            };
            fit(&mut count.bytes_to_server, served.bytes_to_server);
            fit(&mut count.bytes_to_client, served.bytes_to_client);
        }
        graph.must_equal(&truth)
    });
    shown.unwrap_or_else(|error| panic!("{error}"));
}

/// How often MPTCP has sent something again from a host.
fn sent_again(host: &Host) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let text = host.namespace().run(read).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("MPTcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "MPTCPRetrans").unwrap().1.parse().unwrap()
}
