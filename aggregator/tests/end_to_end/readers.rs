//! What readers get.

use std::{
    collections::HashSet,
    io::Write,
    process::{Command, Stdio},
};

use axum::http::{Method, StatusCode, header};
use common::{Counter, HistogramKind};
use proto::v1::{HostSignal, HostSignalKind, HostSignals, SectionKind};

use crate::{
    agent::{Agent, section},
    fleet::{Fleet, eventually},
    reports::{client, columns, status},
};

/// A fleet with an edge from `web` to an address that nobody covers, settled.
async fn fleet() -> (Fleet, Agent) {
    let fleet = Fleet::start().await;
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    let values = [
        (Counter::Connections, 3),
        (Counter::BytesSent, 1000),
        (Counter::FailedRefused, 1),
        (Counter::ResetReceived, 1),
    ];
    let buckets = [(HistogramKind::Rtt, 80, 4), (HistogramKind::Rtt, 90, 2)];
    let signals = HostSignals {
        signals: vec![HostSignal {
            kind: HostSignalKind::RunqueueLatency.into(),
            buckets: vec![10, 100],
            counts: vec![5, 1],
        }],
    };
    a.report(vec![
        status(),
        client(),
        columns(SectionKind::Totals, &[(1, &values, &buckets)]),
        section(SectionKind::HostSignals, &signals),
    ])
    .await;
    let edge = "weft_edge_connections_total{client=\"web\"";
    eventually(async || fleet.get("/metrics").await.body.contains(edge).then_some(())).await;
    (fleet, a)
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness_are_told() {
    let fleet = Fleet::start().await;
    for path in ["/healthz", "/readyz", "/api/health"] {
        assert_eq!(fleet.get(path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_problem_documents() {
    let fleet = Fleet::start().await;
    for (method, path, status) in [
        (Method::GET, "/api/v1/topology?from=yesterday", StatusCode::BAD_REQUEST),
        (Method::GET, "/api/v1/topology?from=now&to=-5m", StatusCode::BAD_REQUEST),
        (Method::GET, "/api/graph/data?to=-5", StatusCode::BAD_REQUEST),
        (Method::GET, "/api/graph/data?limit=0", StatusCode::BAD_REQUEST),
        (Method::GET, "/api/graph/data?limit=many", StatusCode::BAD_REQUEST),
        (Method::GET, "/api/v1/topology?from=-1m&from=-2m", StatusCode::BAD_REQUEST),
        (Method::GET, "/api/v1/topology?from=%FF", StatusCode::BAD_REQUEST),
        (Method::GET, "/nothing", StatusCode::NOT_FOUND),
        (Method::POST, "/api/v1/topology", StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, "/metrics", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let answer = fleet.request(method.clone(), path, &[]).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        if status != StatusCode::OK {
            assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json", "{path}");
            let problem = answer.json();
            assert_eq!(problem["status"], status.as_u16());
            assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_graph_has_every_field() {
    let fleet = Fleet::start().await;
    let topology = fleet.get("/api/v1/topology?from=-1h&to=now").await.json();
    assert_eq!(topology["nodes"], serde_json::json!([]));
    assert_eq!(topology["edges"], serde_json::json!([]));
    for field in [
        "complete",
        "nodes_expected",
        "nodes_reporting",
        "nodes_silent",
        "events_lost",
        "batches_lost",
        "inserts_refused",
        "series_folded",
        "edges_one_sided",
        "history_from",
        "kubernetes_unheard",
        "holes",
        "holes_left_out",
    ] {
        assert!(!topology["coverage"][field].is_null(), "{field}");
    }
    for end in ["from", "to"] {
        let text = topology["window"][end].as_str().unwrap();
        assert!(text.ends_with('Z') && text.contains('T'), "{text}");
    }
    assert_eq!(fleet.get("/api/v1/nodes").await.json(), serde_json::json!({"nodes": []}));
    let graph = fleet.get("/api/graph/data").await.json();
    assert_eq!(graph, serde_json::json!({"nodes": [], "edges": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn grafana_gets_frames_that_hold_together() {
    let (fleet, _a) = fleet().await;
    let fields = fleet.get("/api/graph/fields").await.json();
    for query in ["", "?limit=1", "?from=1&to=4102444800000&other=x"] {
        let graph = fleet.get(&format!("/api/graph/data{query}")).await.json();
        for frame in ["nodes", "edges"] {
            let described = fields[format!("{frame}_fields")].as_array().unwrap();
            let described: HashSet<_> =
                described.iter().map(|field| field["field_name"].as_str().unwrap()).collect();
            for row in graph[frame].as_array().unwrap() {
                let row: HashSet<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
                assert_eq!(row, described, "{frame}");
                assert!(row.iter().all(|name| *name == name.to_lowercase()));
            }
        }
        let ids: HashSet<_> =
            graph["nodes"].as_array().unwrap().iter().map(|node| &node["id"]).collect();
        let edges = graph["edges"].as_array().unwrap();
        assert_eq!(edges.len(), 1);
        assert!(edges.iter().all(|edge| ids.contains(&edge["source"])));
        assert!(edges.iter().all(|edge| ids.contains(&edge["target"])));
        for node in graph["nodes"].as_array().unwrap() {
            let arcs = node["arc__ok"].as_f64().unwrap() + node["arc__failed"].as_f64().unwrap();
            assert!((arcs - 1.0).abs() < 1e-9);
            assert!(node["mainstat"].as_str().unwrap().ends_with("B/s"));
        }
    }
    let graph = fleet.get("/api/graph/data").await.json();
    assert_eq!(graph["nodes"][0]["arc__failed"], 0.25);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_what_prometheus_reads() {
    let (fleet, _a) = fleet().await;
    let labels = "client=\"web\",client_namespace=\"\",server=\"10.0.0.2\",server_namespace=\"\",server_port=\"5432\"";
    for (name, more, value) in [
        ("weft_edge_bytes_total", ",direction=\"to_server\"", 1000.0),
        ("weft_edge_bytes_total", ",direction=\"to_client\"", 0.0),
        ("weft_edge_connect_failures_total", ",reason=\"refused\"", 1.0),
        ("weft_edge_connect_failures_total", ",reason=\"local\"", 0.0),
        ("weft_edge_resets_total", ",by=\"server\"", 1.0),
        ("weft_edge_rtt_seconds_bucket", ",le=\"0.0009765625\"", 4.0),
        ("weft_edge_rtt_seconds_bucket", ",le=\"0.001953125\"", 4.0),
        ("weft_edge_rtt_seconds_bucket", ",le=\"0.00390625\"", 6.0),
        ("weft_edge_rtt_seconds_bucket", ",le=\"+Inf\"", 6.0),
        ("weft_edge_rtt_seconds_count", "", 6.0),
        ("weft_edge_connections_open", "", 3.0),
    ] {
        let series = format!("{name}{{{labels}{more}}}");
        assert_eq!(fleet.series(&series).await, Some(value), "{series}");
    }
    let pair = "client=\"web\",client_service_namespace=\"\",server=\"10.0.0.2\",server_service_namespace=\"\",connection_type=\"virtual_node\",virtual_node=\"server\"";
    let requests = format!("traces_service_graph_request_total{{{pair}}}");
    assert_eq!(fleet.series(&requests).await, Some(4.0));
    assert_eq!(fleet.series("weft_runqueue_latency_seconds_count").await, Some(6.0));
    let program = r#"weft_node_program_attached{node="a",program="iter_tcp"}"#;
    assert_eq!(fleet.series(program).await, Some(0.0));

    let answer = fleet.get("/metrics").await;
    assert!(answer.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/plain"));
    check_metrics(&answer.body);
    let buckets = answer.body.matches("weft_edge_rtt_seconds_bucket{").count();
    assert_eq!(buckets, 12);
    let packed = fleet.request(Method::GET, "/metrics", &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.headers[header::CONTENT_ENCODING], "gzip");
}

#[tokio::test(flavor = "multi_thread")]
async fn service_graph_series_can_be_switched_off() {
    let fleet = Fleet::start_with(|config| config.service_graph_metrics = false).await;
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    let values = [(Counter::Connections, 3)];
    a.report(vec![client(), columns(SectionKind::Totals, &[(1, &values, &[])])]).await;
    let metrics = eventually(async || {
        let metrics = fleet.get("/metrics").await.body;
        metrics.contains("weft_edge_bytes_total{").then_some(metrics)
    })
    .await;
    assert!(!metrics.contains("traces_service_graph"));
}

/// Asks Prometheus's own checker, where it is installed.
fn check_metrics(text: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "promtool is not installed: {error}");
            let _ = writeln!(std::io::stderr(), "SKIPPED: promtool is not installed ({error})");
            return;
        }
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
