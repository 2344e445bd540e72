//! What is served beside the graph agrees with it.

use serde_json::Value;
use testbed::fleet::{AGENT_HTTP, get};

use crate::{
    support::{burst, exchange, open},
    world::{SETTLED, at, world},
};

#[test]
fn metrics_grafana_nodes_and_coverage_agree() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    web.burst(burst(target, 25, exchange(1, 1_000, 3_000))).unwrap();
    web.open(open("g", at(two.ipv4(), 1), 4)).unwrap();
    let graph = world.must_show(&mut [&mut web, &mut db]);
    let labels =
        r#"client="web",client_namespace="",server="db",server_namespace="",server_port="5432""#;
    let text = world
        .fleet
        .wait("settled metrics", SETTLED, |fleet| {
            let text = fleet.get("/metrics").map_err(|error| error.to_string())?.body;
            for line in [
                format!("weft_edge_connections_total{{{labels}}} 25"),
                "weft_edge_connect_failures_total{client=\"web\",client_namespace=\"\",server=\"two\",\
                 server_namespace=\"\",server_port=\"1\",reason=\"refused\"} 4".into(),
            ] {
                if !text.lines().any(|found| found == line) {
                    let near: Vec<&str> =
                        text.lines().filter(|line| line.starts_with("weft_edge_conn")).collect();
                    return Err(format!("no line {line} in {near:#?}"));
                }
            }
            Ok(text)
        })
        .unwrap();
    for (direction, bytes) in [("to_server", 25_000), ("to_client", 75_000)] {
        let line = format!("weft_edge_bytes_total{{{labels},direction=\"{direction}\"}} {bytes}");
        assert!(text.lines().any(|found| found == line), "no line {line}");
    }
    assert!(text.lines().any(|line| line.starts_with("weft_runqueue_latency_seconds_bucket")));

    // Settled: nothing is pending, and nothing has changed by it.
    let settled = world.fleet.graph().unwrap();
    assert_eq!(settled.must_equal(&graph.edges), Ok(()));
    assert!(settled.documents.values().all(|edge| edge["pending"] == false));
    let coverage = &settled.coverage;
    for (key, expected) in [("nodes_expected", 3), ("nodes_reporting", 3), ("events_lost", 0)] {
        assert_eq!(coverage[key], expected, "{coverage}");
    }
    assert_eq!(coverage["complete"], true, "{coverage}");

    let nodes = world.fleet.json("/api/v1/nodes").unwrap();
    for node in nodes["nodes"].as_array().unwrap() {
        assert_eq!(node["connected"], true, "{node}");
        let programs = node["programs"].as_array().unwrap();
        assert!(!programs.is_empty());
        // "off" says that another program does its work.
        assert!(programs.iter().all(|program| program["state"] != "failed"), "{node}");
    }
    let data = world.fleet.json("/api/graph/data").unwrap();
    let ids = |key: &str, field: &str| -> Vec<Value> {
        data[key].as_array().unwrap().iter().map(|row| row[field].clone()).collect()
    };
    let known = ids("nodes", "id");
    assert_eq!(known.len(), 3, "{data}");
    assert!(
        ids("edges", "source").iter().chain(&ids("edges", "target")).all(|id| known.contains(id))
    );
    for host in &world.hosts {
        let agent = get(host.namespace(), &format!("http://{AGENT_HTTP}/metrics")).unwrap();
        assert!(agent.body.lines().any(|line| line == "weft_agent_connected 1"), "{}", agent.body);
    }
    world.stop();
}
