//! Hosts made of namespaces and cgroups: they reach each other, they fail as real ones do, and
//! nothing of them is left.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use support::{burst, exchange, open};
use testbed::{
    Result,
    lab::{Host, Lab, processes},
    traffic::{Burst, Dial, Ending, Listen, Reason},
    truth::{EdgeName, collect},
};

fn name(client: &str, server: &str, port: u16) -> EdgeName {
    EdgeName { client: client.into(), server: server.into(), port }
}

#[test]
fn hosts_talk_over_both_families_and_nothing_is_left() -> Result<()> {
    let Some(lab) = support::lab() else { return Ok(()) };
    let (cgroup, folder) = (lab.cgroup().to_owned(), lab.folder().to_owned());
    let (one, two) = (lab.host("one")?, lab.host("two")?);
    let mut db = two.peer("db")?;
    let mut web = one.peer_at("web", Some("web.service"), one.network())?;
    for ip in [two.ipv4(), two.ipv6()] {
        let target = db.listen(ip, 5432)?;
        let opened = web.burst(burst(target, 20, exchange(2, 200, 3_000)))?;
        assert_eq!(opened, (20, 0));
    }
    let edges = collect(&mut [&mut web, &mut db], |_| "nobody".into())?;
    let count = &edges[&name("web", "db", 5432)];
    assert_eq!((count.connections, count.bytes_to_client), (40, 40 * 2 * 3_000));
    assert_eq!(edges.len(), 1);

    // Each process is where it belongs, and only there.
    let inside: Vec<i32> = processes(two.cgroup());
    assert_eq!(inside, [db.process().id().cast_signed()]);
    let path = std::fs::read_to_string(format!("/proc/{}/cgroup", web.process().id())).unwrap();
    assert!(path.contains("/one/web.service"), "{path}");
    let exe = std::fs::read_link(format!("/proc/{}/exe", web.process().id())).unwrap();
    assert_eq!(exe.file_name().unwrap(), "web");

    let ids = processes(&cgroup);
    assert_eq!(ids.len(), 2);
    drop((lab, one, two));
    assert!(!cgroup.exists() && !folder.exists());
    assert!(ids.iter().all(|id| !running(*id)), "{ids:?}");
    Ok(())
}

/// Whether a process runs; one that was killed and waits for its parent does not.
fn running(id: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[test]
fn attempts_fail_for_every_reason() -> Result<()> {
    let Some(lab) = support::lab() else { return Ok(()) };
    let (one, two) = (lab.host("one")?, lab.host("two")?);
    one.namespace().sysctl("net/ipv4/tcp_syn_retries", "1")?;
    one.namespace().sysctl("net/ipv4/tcp_syn_linear_timeouts", "0").ok();
    one.namespace().ip("route add unreachable 10.98.0.0/16")?;
    two.namespace().nft(
        "table inet t {
           chain in {
             type filter hook input priority 0
             tcp dport 81 drop
             tcp dport 82 reject with icmpx type host-unreachable
           }
         }",
    )?;
    let at = |port| SocketAddr::new(two.ipv4(), port);
    let mut web = one.peer("web")?;
    let mut fail = |target, patience_ms, count| {
        let mut what = open("g", target, count);
        what.dial.patience_ms = patience_ms;
        assert_eq!(web.open(what).unwrap(), (0, count), "{target}");
    };
    fail(at(80), None, 3);
    fail(at(81), None, 1);
    fail(at(81), Some(50), 4);
    fail(at(82), None, 2);
    fail(SocketAddr::new(two.ipv6(), 82), Some(9_000), 2);
    fail(SocketAddr::new(two.network().nobody(), 83), None, 1);
    fail("10.98.0.1:84".parse().unwrap(), None, 2);
    fail("10.99.0.1:85".parse().unwrap(), None, 2);
    let edges = collect(&mut [&mut web], |address| address.ip().to_string())?;
    let failed: BTreeMap<u16, BTreeMap<Reason, u64>> = edges
        .into_iter()
        .map(|(name, count)| (name.port, count.failed))
        .fold(BTreeMap::new(), |mut all: BTreeMap<_, BTreeMap<_, _>>, (port, failed)| {
            for (reason, count) in failed {
                *all.entry(port).or_default().entry(reason).or_default() += count;
            }
            all
        });
    let expected = BTreeMap::from([
        (80, BTreeMap::from([(Reason::Refused, 3)])),
        (81, BTreeMap::from([(Reason::Timeout, 1), (Reason::Aborted, 4)])),
        (82, BTreeMap::from([(Reason::Unreachable, 4)])),
        (83, BTreeMap::from([(Reason::Unreachable, 1)])),
        (84, BTreeMap::from([(Reason::Unreachable, 2)])),
        (85, BTreeMap::from([(Reason::Unreachable, 2)])),
    ]);
    assert_eq!(failed, expected);
    Ok(())
}

#[test]
fn ports_run_out() -> Result<()> {
    let Some(lab) = support::lab() else { return Ok(()) };
    let (one, two) = (lab.host("one")?, lab.host("two")?);
    one.namespace().sysctl("net/ipv4/ip_local_port_range", "40000 40007")?;
    let (mut web, mut db) = (one.peer("web")?, two.peer("db")?);
    let target = db.listen(two.ipv4(), 5432)?;
    assert_eq!(web.open(open("g", target, 12))?, (8, 4));
    let edges = collect(&mut [&mut web, &mut db], |_| "db".into())?;
    let count = &edges[&name("web", "db", 5432)];
    assert_eq!((count.connections, count.connections_open), (8, 8));
    assert_eq!(count.failed, BTreeMap::from([(Reason::Local, 4)]));
    web.end("g", Ending::ClientCloses)
}

#[test]
fn processes_share_a_port_and_namespaces_share_an_address() -> Result<()> {
    let Some(lab) = support::lab() else { return Ok(()) };
    let one = lab.host("one")?;
    // Two servers behind one port.
    let (mut blue, mut green) = (one.peer("blue")?, one.peer("green")?);
    let address = SocketAddr::new(one.ipv4(), 80);
    let shared = Listen { address, mptcp: false, reuse_port: true };
    blue.listen_as(shared.clone())?;
    green.listen_as(shared)?;
    let mut web = one.peer("web")?;
    web.burst(burst(address, 64, exchange(1, 100, 100)))?;
    let edges = collect(&mut [&mut web, &mut blue, &mut green], |_| "nobody".into())?;
    let split = ["blue", "green"].map(|server| edges[&name("web", server, 80)].connections);
    assert_eq!(split[0] + split[1], 64);
    assert!(split[0] > 0 && split[1] > 0, "{split:?}");

    // The same loopback port in two namespaces.
    let other = one.add_network()?;
    let home = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut peers = [
        one.peer("alpha")?,
        one.peer("ask-alpha")?,
        one.peer_at("beta", None, &other)?,
        one.peer_at("ask-beta", None, &other)?,
    ];
    let target = peers[0].listen(home, 8080)?;
    peers[2].listen(home, 8080)?;
    peers[1].burst(burst(target, 3, exchange(1, 50, 50)))?;
    peers[3].burst(burst(target, 5, exchange(1, 50, 50)))?;
    let edges = collect(&mut peers.each_mut(), |_| "nobody".into())?;
    assert_eq!(edges[&name("ask-alpha", "alpha", 8080)].connections, 3);
    assert_eq!(edges[&name("ask-beta", "beta", 8080)].connections, 5);
    assert_eq!(edges.len(), 2);
    Ok(())
}

#[test]
fn a_distant_host_answers_after_the_delay() -> Result<()> {
    let Some(lab) = support::lab() else { return Ok(()) };
    let (near, far) = (lab.host("near")?, lab.distant_host("far", Duration::from_millis(20))?);
    let mut db = far.peer("db")?;
    for ip in [far.ipv4(), far.ipv6()] {
        let target = db.listen(ip, 5432)?;
        let connect = || {
            let start = Instant::now();
            std::net::TcpStream::connect(target).map(|_| start.elapsed())
        };
        let took = near.namespace().run(connect)?.unwrap();
        // A busy machine may add to it.
        assert!((40..200).contains(&took.as_millis()), "{took:?}");
    }
    // A megabyte gets through, in order and complete.
    let mut web = near.peer("web")?;
    let target = SocketAddr::new(far.ipv4(), 5432);
    let what = Burst { dial: Dial::default(), ..burst(target, 2, exchange(1, 500_000, 500_000)) };
    assert_eq!(web.burst(what)?, (2, 0));
    Ok(())
}

#[test]
fn what_a_killed_maker_left_is_swept() -> Result<()> {
    let Some(lab) = support::lab() else { return Ok(()) };
    let mount: PathBuf = lab.cgroup().parent().map(Path::to_owned).unwrap();
    // Beyond any process id.
    let left = mount.join("weft-lab-4999999-0");
    let folder = std::env::temp_dir().join("weft-lab-4999999-0-x");
    std::fs::create_dir_all(left.join("host")).unwrap();
    std::fs::create_dir_all(folder.join("bin")).unwrap();
    let again: Lab = Lab::new()?;
    let host: Host = again.host("one")?;
    assert!(!left.exists() && !folder.exists() && host.cgroup().exists());
    Ok(())
}
