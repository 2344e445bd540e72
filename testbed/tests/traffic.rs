//! The traffic peers over loopback: what they say they did is what the sockets saw.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use support::{burst, exchange, open};
use testbed::{
    environment,
    traffic::{
        Actor, Answer, Burst, Command, Dial, End, Ending, Exchange, Listen, Means, Reason, Report,
    },
    truth::{EdgeCount, EdgeName, truth},
};

fn server(ip: impl Into<std::net::IpAddr>, mptcp: bool) -> (Actor, SocketAddr) {
    let mut actor = Actor::default();
    let address = SocketAddr::new(ip.into(), 0);
    match actor.handle(Command::Listen(Listen { address, mptcp, reuse_port: false })) {
        Answer::Listening { address } => (actor, address),
        other => panic!("{other:?}"),
    }
}

fn report(actor: &mut Actor) -> Report {
    match actor.handle(Command::Report) {
        Answer::Report(report) => report,
        other => panic!("{other:?}"),
    }
}

/// The counts of the only edge, once both ends agree.
fn edge(client: &mut Actor, server: &mut Actor) -> EdgeCount {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let reports = [("c".into(), report(client)), ("s".into(), report(server))];
        match truth(&reports, |_| "nobody".into()) {
            Ok(edges) => {
                assert_eq!(edges.len(), 1, "{edges:?}");
                return edges.into_values().next().unwrap();
            }
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn done(answer: Answer) {
    assert!(matches!(answer, Answer::Done | Answer::Opened { .. }), "{answer:?}");
}

#[test]
fn request_and_response_add_up_by_every_means() {
    for means in [Means::Write, Means::Sendfile, Means::Splice, Means::Ring] {
        if let Err(reason) = environment::check_io_uring()
            && means == Means::Ring
        {
            support::skip(&reason.to_string());
            continue;
        }
        let (mut server, target) = server(Ipv4Addr::LOCALHOST, false);
        let mut client = Actor::default();
        let exchange = Exchange { means, ..exchange(3, 100_000, 70_000) };
        done(client.handle(Command::Burst(Burst { threads: 2, ..burst(target, 5, exchange) })));
        let count = edge(&mut client, &mut server);
        let expected = EdgeCount {
            connections: 5,
            bytes_to_server: 5 * 3 * 100_000,
            bytes_to_client: 5 * 3 * 70_000,
            ..EdgeCount::default()
        };
        assert_eq!(count, expected, "{means:?}");
    }
}

#[test]
fn either_side_closes_or_resets() {
    for (ending, by_client, by_server) in [
        (Ending::ClientCloses, 0, 0),
        (Ending::ServerCloses, 0, 0),
        (Ending::ClientResets, 4, 0),
        (Ending::ServerResets, 0, 4),
    ] {
        let (mut server, target) = server(Ipv6Addr::LOCALHOST, false);
        let mut client = Actor::default();
        let what = Burst { ending, ..burst(target, 4, exchange(2, 1_000, 2_000)) };
        done(client.handle(Command::Burst(what)));
        let expected = EdgeCount {
            connections: 4,
            bytes_to_server: 4 * 2 * 1_000,
            bytes_to_client: 4 * 2 * 2_000,
            resets_by_client: by_client,
            resets_by_server: by_server,
            ..EdgeCount::default()
        };
        assert_eq!(edge(&mut client, &mut server), expected, "{ending:?}");
    }
}

#[test]
fn a_reset_with_unread_data_counts_what_the_kernel_accepted() {
    let (mut server, target) = server(Ipv4Addr::LOCALHOST, false);
    let mut client = Actor::default();
    done(client.handle(Command::Open(open("g", target, 1))));
    // More than any socket buffer holds: the answer is stuck half way.
    let exchange = exchange(1, 24, 200 << 20);
    done(client.handle(Command::Ask { group: "g".into(), exchange }));
    done(client.handle(Command::End { group: "g".into(), ending: Ending::ClientResets }));
    let count = edge(&mut client, &mut server);
    assert_eq!((count.connections, count.resets_by_client), (1, 1));
    assert_eq!(count.bytes_to_server, 24);
    assert!(count.bytes_to_client > 0 && count.bytes_to_client < 200 << 20, "{count:?}");
    let sent = report(&mut server).connections[0].kernel.unwrap().acked;
    assert_eq!(sent, count.bytes_to_client, "all that was accepted was acknowledged");
}

#[test]
fn a_client_leaves_with_answers_unread() {
    let (mut server, target) = server(Ipv4Addr::LOCALHOST, false);
    let mut client = Actor::default();
    done(client.handle(Command::Open(open("g", target, 2))));
    let exchange = exchange(1, 500, 200 << 20);
    done(client.handle(Command::Ask { group: "g".into(), exchange }));
    done(client.handle(Command::End { group: "g".into(), ending: Ending::ClientLeaves }));
    let count = edge(&mut client, &mut server);
    assert_eq!((count.connections, count.resets_by_client), (2, 2));
    assert_eq!(count.bytes_to_server, 2 * 500);
    let acked: u64 = report(&mut server).connections.iter().map(|c| c.kernel.unwrap().acked).sum();
    assert_eq!(acked, count.bytes_to_client);
}

#[test]
fn a_client_that_only_receives_reads_what_is_pushed() {
    let (mut server, target) = server(Ipv4Addr::LOCALHOST, false);
    let mut client = Actor::default();
    done(client.handle(Command::Open(open("g", target, 3))));
    // Accepting is up to another thread.
    let deadline = Instant::now() + Duration::from_secs(5);
    while report(&mut server).connections.len() < 3 {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..2 {
        done(server.handle(Command::Push { address: target, bytes: 50_000 }));
        done(client.handle(Command::Receive { group: "g".into(), bytes: 50_000 }));
    }
    let expected = EdgeCount {
        connections: 3,
        connections_open: 3,
        bytes_to_client: 300_000,
        ..EdgeCount::default()
    };
    assert_eq!(edge(&mut client, &mut server), expected);
    done(client.handle(Command::End { group: "g".into(), ending: Ending::ClientCloses }));
    let closed = EdgeCount { connections_open: 0, ..expected };
    assert_eq!(edge(&mut client, &mut server), closed);
}

#[test]
fn a_closed_listener_refuses() {
    let (mut server, target) = server(Ipv4Addr::LOCALHOST, false);
    done(server.handle(Command::Unlisten { address: target }));
    let mut client = Actor::default();
    for patience_ms in [None, Some(1_000)] {
        let mut what = open("g", target, 2);
        what.dial.patience_ms = patience_ms;
        let answer = client.handle(Command::Open(what));
        assert_eq!(answer, Answer::Opened { established: 0, failed: 2 });
    }
    let reports = [("c".into(), report(&mut client)), ("s".into(), report(&mut server))];
    let edges = truth(&reports, |_| "nobody".into()).unwrap();
    let name = EdgeName { client: "c".into(), server: "nobody".into(), port: target.port() };
    assert_eq!(edges[&name].failed, BTreeMap::from([(Reason::Refused, 4)]));
    assert_eq!(edges.len(), 1);
}

#[test]
fn mapped_and_multipath_connections_are_the_same_connections() {
    let mptcp = std::fs::read_to_string("/proc/sys/net/mptcp/enabled").is_ok_and(|on| on == "1\n");
    for (listener_mptcp, dial_mptcp) in [(false, false), (true, false), (true, true)] {
        if listener_mptcp && !mptcp {
            support::skip("this kernel has no MPTCP");
            continue;
        }
        let (mut server, address) = server(Ipv6Addr::UNSPECIFIED, listener_mptcp);
        let target = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port());
        let mut client = Actor::default();
        let dial = Dial { mptcp: dial_mptcp, mapped: true, ..Dial::default() };
        let what = Burst { dial, ..burst(target, 3, exchange(1, 10_000, 20_000)) };
        done(client.handle(Command::Burst(what)));
        let count = edge(&mut client, &mut server);
        assert_eq!((count.bytes_to_server, count.bytes_to_client), (30_000, 60_000));
        let ends = report(&mut server).connections;
        assert!(ends.iter().all(|end| end.peer.is_ipv4() && end.end == End::Closed), "{ends:?}");
    }
}

#[test]
fn commands_come_as_lines_and_nonsense_is_answered() {
    let commands = "{\"do\":\"listen\",\"address\":\"127.0.0.1:0\"}\n\nnonsense\n\
                    {\"do\":\"end\",\"group\":\"g\",\"ending\":\"client_closes\"}\n\
                    {\"do\":\"report\"}\n";
    let mut output = Vec::new();
    Actor::default().run(commands.as_bytes(), &mut output).unwrap();
    let answers: Vec<Answer> = output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert!(matches!(answers[0], Answer::Listening { .. }));
    assert!(matches!(answers[1], Answer::Error { .. }));
    assert!(matches!(&answers[2], Answer::Error { message } if message == "no group g"));
    assert!(matches!(answers[3], Answer::Report(_)));
    assert_eq!(answers.len(), 4);
}
