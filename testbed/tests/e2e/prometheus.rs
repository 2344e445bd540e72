//! The metrics of a live aggregator, by Prometheus's own rules.

use std::{
    io::{ErrorKind, Write},
    process::{Command, Stdio},
};

use testbed::fleet::{AGENT_HTTP, get};

use crate::{
    support::{burst, exchange, open, skip},
    world::{SETTLED, at, world},
};

#[test]
fn metrics_of_real_traffic_please_promtool_and_the_run_queue_has_samples() {
    let Some(world) = world() else { return };
    let [one, two, three] = &world.hosts;
    let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    web.burst(burst(target, 40, exchange(3, 1_000, 30_000))).unwrap();
    let what = burst(target, 3, exchange(1, 100, 100));
    let ending = testbed::traffic::Ending::ServerResets;
    web.burst(testbed::traffic::Burst { ending, ..what }).unwrap();
    web.open(open("g", at(three.ipv4(), 1), 4)).unwrap();
    world.must_show(&mut [&mut web, &mut db]);
    let parts = [
        "weft_edge_connect_failures_total{",
        "weft_edge_resets_total{",
        "weft_edge_rtt_seconds_bucket{",
        "weft_edge_connect_seconds_bucket{",
        "weft_edge_lifetime_seconds_bucket{",
        "weft_runqueue_latency_seconds_bucket{",
    ];
    let text = world
        .fleet
        .wait("settled metrics", SETTLED, |fleet| {
            let text = fleet.get("/metrics").map_err(|error| error.to_string())?.body;
            let missing: Vec<_> = parts.iter().filter(|part| !text.contains(**part)).collect();
            let refused = text.lines().any(|line| line.ends_with("reason=\"refused\"} 4"));
            if missing.is_empty() && refused { Ok(text) } else { Err(format!("{missing:?}")) }
        })
        .unwrap();

    // Classic buckets are cumulative, so the last one is the sum of all that was put into any.
    let run_queue = |name: &str| -> Vec<f64> {
        let prefix = format!("weft_runqueue_latency_seconds_{name}");
        let lines = text.lines().filter(|line| line.starts_with(&prefix));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
    };
    let (buckets, count) = (run_queue("bucket"), run_queue("count"));
    assert!(buckets.len() > 1 && buckets.is_sorted(), "{buckets:?}");
    assert_eq!(buckets.last(), count.first());
    // The traffic switched between its processes at least once per request.
    assert!(count[0] >= 100.0, "{count:?}");
    assert!(run_queue("sum")[0] > 0.0);

    check(&text);
    for host in &world.hosts {
        check(&get(host.namespace(), &format!("http://{AGENT_HTTP}/metrics")).unwrap().body);
    }
    world.stop();
}

/// Asks Prometheus's own checker, where it is installed.
fn check(text: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Err(error) if error.kind() == ErrorKind::NotFound => return skip("no promtool here"),
        promtool => promtool.unwrap(),
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
