//! Attempts that fail, each for its reason, to the right place.

use testbed::{traffic::Reason, truth::EdgeName};

use crate::{
    support::{burst, exchange, open},
    world::{at, world},
};

#[test]
fn attempts_fail_for_their_reasons() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    one.namespace().sysctl("net/ipv4/tcp_syn_retries", "1").unwrap();
    one.namespace()
        .ip("route add unreachable 10.98.0.0/16\nroute add unreachable fd98::/16")
        .unwrap();
    two.namespace()
        .nft(
            "table inet t {
               chain in {
                 type filter hook input priority 0
                 tcp dport { 81, 8080 } drop
                 tcp dport 82 reject with icmpx type host-unreachable
               }
             }",
        )
        .unwrap();
    let mut web = one.peer("web").unwrap();
    let mut fail = |target, patience_ms, count| {
        let mut what = open("g", target, count);
        what.dial.patience_ms = patience_ms;
        assert_eq!(web.open(what).unwrap(), (0, count), "{target}");
    };
    // Refused, while blocked in connect(2) and while polling.
    fail(at(two.ipv4(), 80), None, 5);
    fail(at(two.ipv4(), 80), Some(2_000), 3);
    fail(at(two.ipv6(), 80), None, 4);
    // Never answered; given up before it could be.
    fail(at(two.ipv4(), 81), None, 2);
    fail(at(two.ipv4(), 81), Some(60), 6);
    fail(at(two.ipv6(), 81), Some(60), 1);
    fail(at(two.ipv6(), 8_080), None, 1);
    // Answered by ICMP; nobody there; no route at all.
    fail(at(two.ipv4(), 82), None, 2);
    fail(at(two.ipv6(), 82), Some(9_000), 2);
    fail(at(two.network().nobody(), 83), None, 1);
    fail(at("10.98.0.1".parse().unwrap(), 84), None, 7);
    fail(at("10.99.0.1".parse().unwrap(), 85), None, 2);
    fail(at("fd98::1".parse().unwrap(), 86), None, 3);
    let graph = world.must_show(&mut [&mut web]);
    let kind = |name: &str| &graph.nodes.values().find(|node| node.name == name).unwrap().kind;
    assert_eq!(kind("two"), "host");
    assert_eq!(kind("10.98.0.1"), "external");
    // What each was called by the error number of connect(2), said once more in plain.
    let failed = |server: &str, port: u16, reason: Reason, count: u64| {
        let name = EdgeName { client: "web".into(), server: server.into(), port };
        assert_eq!(graph.edges[&name].failed.get(&reason), Some(&count), "{name:?} {reason:?}");
    };
    failed("two", 80, Reason::Refused, 5 + 3 + 4);
    failed("two", 81, Reason::Timeout, 2);
    failed("two", 81, Reason::Aborted, 6 + 1);
    failed("two", 8_080, Reason::Timeout, 1);
    failed("two", 82, Reason::Unreachable, 2 + 2);
    failed(&two.network().nobody().to_string(), 83, Reason::Unreachable, 1);
    failed("10.98.0.1", 84, Reason::Unreachable, 7);
    failed("10.99.0.1", 85, Reason::Unreachable, 2);
    failed("fd98::1", 86, Reason::Unreachable, 3);
    world.stop();
}

#[test]
fn what_a_listener_never_saw_is_still_its_edge() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut web, mut api) = (one.peer("web").unwrap(), two.peer("api").unwrap());
    let target = api.listen(two.ipv4(), 8_080).unwrap();
    web.burst(burst(target, 3, exchange(1, 100, 100))).unwrap();
    let rules = "table inet t {
        chain in {
          type filter hook input priority 0
          tcp dport 8080 tcp flags syn drop
        }
      }";
    two.namespace().nft(rules).unwrap();
    let mut what = open("g", target, 4);
    what.dial.patience_ms = Some(50);
    assert_eq!(web.open(what).unwrap(), (0, 4));
    let mut peers = [&mut web, &mut api];
    let truth = testbed::truth::collect(&mut peers, |_| "api".into()).unwrap();
    let name = EdgeName { client: "web".into(), server: "api".into(), port: 8_080 };
    assert_eq!((truth.len(), truth[&name].connections), (1, 3));
    world.must_become(&truth);
    world.stop();
}

#[test]
fn ports_run_out() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    one.namespace().sysctl("net/ipv4/ip_local_port_range", "40000 40009").unwrap();
    let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    let target_6 = db.listen(two.ipv6(), 5_433).unwrap();
    assert_eq!(web.open(open("g", target, 15)).unwrap(), (10, 5));
    assert_eq!(web.open(open("g", target_6, 12)).unwrap(), (10, 2));
    let mut peers = [&mut web, &mut db];
    let truth = testbed::truth::collect(&mut peers, |_| "db".into()).unwrap();
    let graph = world.must_become(&truth);
    for (port, count) in [(5_432, 5), (5_433, 2)] {
        let name = EdgeName { client: "web".into(), server: "db".into(), port };
        assert_eq!(graph.edges[&name].failed, [(Reason::Local, count)].into());
    }
    world.stop();
}
