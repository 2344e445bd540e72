//! Parts of the graph, what changed, the stream of changes, and the description of it all.

use std::time::Instant;

use axum::{
    body::{Body, BodyDataStream},
    http::{Method, Request, StatusCode},
};
use common::Counter;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use proto::v1::SectionKind;
use serde_json::Value;
use tokio_stream::StreamExt;

use crate::{
    agent::Agent,
    fleet::{Fleet, PATIENCE, eventually},
    reports::{client, columns, server, status},
};

const EDGE: &[(Counter, u64)] = &[(Counter::Connections, 3), (Counter::BytesSent, 1000)];

/// A fleet with an edge from `web` to an address that nobody covers, in sight.
async fn fleet() -> (Fleet, Agent, Value) {
    let fleet = Fleet::start().await;
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    a.report(vec![status(), client(), columns(SectionKind::Totals, &[(1, EDGE, &[])])]).await;
    let edge = fleet.edge("web", "10.0.0.2", |_| true).await;
    (fleet, a, edge)
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_can_be_asked_for() {
    let (fleet, _a, edge) = fleet().await;
    let edges = async |query: &str| {
        let answer = fleet.get(&format!("/api/v1/topology?{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.body);
        let nodes = answer.json()["nodes"].as_array().unwrap().len();
        (nodes, answer.json()["edges"].as_array().unwrap().len())
    };
    let web = edge["source"].as_str().unwrap();
    for query in [
        "q=WE",
        "node=a",
        "namespace=",
        "min_rate=0.1",
        "sort=rtt",
        "limit=2",
        "group_by=namespace",
    ] {
        assert_eq!(edges(query).await, (2, 1), "{query}");
    }
    assert_eq!(edges(&format!("focus={web}&depth=3")).await, (2, 1));
    for query in ["q=nobody", "node=b", "namespace=shop", "min_rate=100000"] {
        assert_eq!(edges(query).await, (0, 0), "{query}");
    }
    let folded = fleet.get("/api/v1/topology?limit=1").await.json();
    let kinds: Vec<_> = folded["nodes"].as_array().unwrap().iter().map(|n| &n["kind"]).collect();
    assert!(kinds.iter().any(|kind| **kind == "other"), "{folded}");
    assert_eq!(folded["edges"][0]["bytes_to_server"], 1000);
    for query in ["sort=x", "limit=0", "depth=2", "focus=web", "min_rate=x", "q=a&q=b"] {
        let answer = fleet.get(&format!("/api/v1/topology?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_is_told() {
    let (fleet, _a, edge) = fleet().await;
    // Before it began there was nothing.
    let diff = fleet.get("/api/v1/topology/diff?from=-1m&base_from=-1h").await;
    assert_eq!(diff.status, StatusCode::OK, "{}", diff.body);
    let diff = diff.json();
    assert_eq!(diff["changes_total"], 1);
    let change = &diff["changes"][0];
    assert_eq!((change["change"].as_str(), &change["before"]), (Some("new"), &Value::Null));
    assert_eq!(change["after"]["id"], edge["id"]);
    assert_eq!(diff["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(diff["base_coverage"]["complete"], false);
    assert_eq!(diff["thresholds"]["min_samples"], 50);
    // A window is what it was.
    let same = "/api/v1/topology/diff?from=-1m&to=now&base_from=-1m&base_to=now&rate_factor=3";
    assert_eq!(fleet.get(same).await.json()["changes_total"], 0);
    for query in ["min_rate=1", "rate_factor=0.5", "share_difference=2", "base_to=x", "sort=rtt"] {
        let answer = fleet.get(&format!("/api/v1/topology/diff?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_zones_and_workloads_can_be_the_nodes() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), "[[zones]]\nnode = \"a*\"\nzone = \"east\"\n").unwrap();
    let fleet = Fleet::start_with(|config| config.rules = Some(rules.path().to_owned())).await;
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    let (mut b, _) = Agent::connect(&fleet, "b", 1).await;
    a.report(vec![status(), client(), columns(SectionKind::Totals, &[(1, EDGE, &[])])]).await;
    let values: &[_] = &[(Counter::Connections, 3), (Counter::BytesReceived, 1000)];
    b.report(vec![status(), server(), columns(SectionKind::Totals, &[(1, values, &[])])]).await;
    fleet.edge("web", "db", |edge| edge["seen_by"] == "both").await;
    let names = async |by: &str| {
        let graph = fleet.get(&format!("/api/v1/topology?group_by={by}")).await.json();
        let edges = graph["edges"].as_array().unwrap();
        assert_eq!((edges.len(), &edges[0]["bytes_to_server"]), (1, &1000.into()), "{by}");
        let name = |end: &str| {
            let mut nodes = graph["nodes"].as_array().unwrap().iter();
            let node = nodes.find(|node| node["id"] == edges[0][end]).unwrap();
            (node["kind"].as_str().unwrap().to_owned(), node["name"].as_str().unwrap().to_owned())
        };
        (name("source"), name("target"))
    };
    let pair = |kind: &str, client: &str, server: &str| {
        ((kind.to_owned(), client.to_owned()), (kind.to_owned(), server.to_owned()))
    };
    assert_eq!(names("node").await, pair("node", "a", "b"));
    assert_eq!(names("zone").await, pair("zone", "east", "unknown"));
    assert_eq!(names("workload").await, pair("process", "web", "db"));
    // Zones are read again, like the other rules.
    std::fs::write(rules.path(), "[[zones]]\nnode = \"?\"\nzone = \"west\"\n").unwrap();
    eventually(async || (names("zone").await == pair("zone", "west", "west")).then_some(())).await;
    // A diff and a stream can be had of each.
    for by in ["service", "namespace", "node", "zone", "workload"] {
        let path = format!("/api/v1/topology/diff?from=-1m&base_from=-1h&group_by={by}");
        let diff = fleet.get(&path).await.json();
        assert_eq!(diff["changes_total"], 1, "{by}: {diff}");
        let change = &diff["changes"][0];
        assert_eq!(
            (&change["change"], &change["after"]["connections"]),
            (&"new".into(), &3.into())
        );
        let mut events = Events::open(&fleet, &format!("group_by={by}")).await;
        let (name, snapshot) = events.next().await.unwrap();
        assert_eq!((name.as_str(), &snapshot["edges"][0]["connections"]), ("snapshot", &3.into()));
        assert_eq!(snapshot["edges"][0]["id"], change["after"]["id"], "{by}");
        let kind = &snapshot["nodes"][0]["kind"];
        match by {
            "namespace" | "node" | "zone" => assert_eq!(*kind, by),
            _ => assert_eq!(*kind, "process"),
        }
    }
    for path in ["topology/stream?group_by=port", "topology/diff?group_by=port"] {
        let answer = fleet.get(&format!("/api/v1/{path}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_window_has_the_hosts_and_zones_of_its_time_also_after_a_restart() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), "[[zones]]\nnode = \"*\"\nzone = \"east\"\n").unwrap();
    let fleet = Fleet::start_with(|config| config.rules = Some(rules.path().to_owned())).await;
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    let (mut b, _) = Agent::connect(&fleet, "b", 1).await;
    a.report(vec![status(), client(), columns(SectionKind::Totals, &[(1, EDGE, &[])])]).await;
    let values: &[_] = &[(Counter::Connections, 3), (Counter::BytesReceived, 1000)];
    b.report(vec![status(), server(), columns(SectionKind::Totals, &[(1, values, &[])])]).await;
    fleet.edge("web", "db", |edge| edge["seen_by"] == "both").await;
    let begin = fleet.get("/api/v1/topology").await.json()["coverage"]["history_from"].clone();
    let first: jiff::Timestamp = begin.as_str().unwrap().parse().unwrap();
    let first = first.as_second() / 10;
    // The step that has it is over, and written; the third at the latest, which is longer than one wait.
    let written = "weft_aggregator_history_write_seconds_count";
    eventually(async || fleet.series(written).await.filter(|steps| *steps >= 1.0)).await;
    let window = eventually(async || {
        let last = jiff::Timestamp::now().as_second() / 10;
        // One step further than what is asked for is over, whatever clocks say.
        let window = format!("from={}&to={}0000", begin.as_str().unwrap(), last - 1);
        // First: else the step may be over only after the graph was asked for.
        let steps = fleet.series(written).await?;
        let graph = fleet.get(&format!("/api/v1/topology?{window}")).await.json();
        let is_told = graph["edges"][0]["bytes_to_server"] == 1000;
        (is_told && last > first + 1 && steps as i64 >= last - first).then_some(window)
    })
    .await;
    let told = async |fleet: &Fleet, by: &str| {
        let graph = fleet.get(&format!("/api/v1/topology?group_by={by}&{window}")).await.json();
        let names = graph["nodes"].as_array().unwrap().iter().map(|node| node["name"].clone());
        let mut names: Vec<Value> = names.collect();
        names.sort_by_key(Value::to_string);
        assert_eq!(graph["coverage"]["history_from"], begin, "{by}");
        let edges = graph["edges"].as_array().unwrap();
        let bytes: u64 = edges.iter().map(|edge| edge["bytes_to_server"].as_u64().unwrap()).sum();
        let connections: u64 = edges.iter().map(|edge| edge["connections"].as_u64().unwrap()).sum();
        let ids: Vec<_> = edges.iter().map(|edge| edge["id"].clone()).collect();
        (names, ids, bytes, connections)
    };
    let all = ["service", "namespace", "node", "zone", "workload"];
    let mut live = Vec::new();
    for by in all {
        live.push(told(&fleet, by).await);
    }
    // From now on hosts are in another zone, and nothing of before is in memory.
    std::fs::write(rules.path(), "[[zones]]\nnode = \"*\"\nzone = \"west\"\n").unwrap();
    let fleet = fleet.restart(|_| {}).await;
    for (by, live) in all.iter().zip(live) {
        let old = told(&fleet, by).await;
        assert_eq!(old, live, "{by}");
        assert_eq!((old.2, old.3), (1000, 3), "{by}");
        match *by {
            "node" => assert_eq!(old.0, ["a", "b"]),
            "zone" => assert_eq!(old.0, ["east"]),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_an_edge_is_there_is_told() {
    let (fleet, _a, edge) = fleet().await;
    assert_eq!((&edge["seen_by"], &edge["resolved_by"]), (&"client".into(), &"address".into()));
    let path = format!("/api/v1/edges/{}/explain", edge["id"].as_str().unwrap());
    let why = fleet.get(&path).await.json();
    assert_eq!((&why["edge"]["id"], &why["source"]["name"]), (&edge["id"], &"web".into()));
    let host = &why["hosts"][0];
    assert_eq!((&host["host"], &host["side"]), (&"a".into(), &"client".into()));
    assert_eq!(host["watching"], true);
    let meeting = &why["meetings"][0];
    assert_eq!(meeting["server"]["address"], "10.0.0.2");
    assert_eq!(meeting["also"], Value::Array(Vec::new()));
    assert_eq!(
        (&meeting["resolved_by"], &meeting["differences"]),
        (&"address".into(), &Value::Null)
    );
    let words: Vec<_> =
        why["words"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    assert!(words[0].starts_with("web (a process) talks to 10.0.0.2 (which no agent covers)"));
    assert!(words.iter().any(|sentence| sentence.starts_with("Host a saw the client's side")));

    // The other side comes, and has counted less of it so far.
    let (mut b, _) = Agent::connect(&fleet, "b", 1).await;
    let less: &[_] = &[(Counter::Connections, 3), (Counter::BytesReceived, 400)];
    b.report(vec![status(), server(), columns(SectionKind::Totals, &[(1, less, &[])])]).await;
    let both = fleet.edge("web", "db", |edge| edge["resolved_by"] == "both_halves").await;
    let path = format!("/api/v1/edges/{}/explain", both["id"].as_str().unwrap());
    let why = fleet.get(&path).await.json();
    assert_eq!(why["hosts"].as_array().unwrap().len(), 2);
    let difference = &why["meetings"][0]["differences"][0];
    assert_eq!(
        (&difference["what"], &difference["client"]),
        (&"bytes_to_server".into(), &1000.into())
    );
    assert_eq!(difference["server"], 400);

    let missing = "/api/v1/edges/e2a58zacad02r5xmdjz2v8ksf3y/explain";
    assert_eq!(fleet.get(missing).await.status, StatusCode::NOT_FOUND);
    let before = format!("{path}?from=-2h&to=-1h");
    assert_eq!(fleet.get(&before).await.status, StatusCode::NOT_FOUND);
    let node = edge["source"].as_str().unwrap();
    for id in ["x", node] {
        let answer = fleet.get(&format!("/api/v1/edges/{id}/explain")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{id}");
    }
}

/// The events of a stream.
struct Events {
    body: BodyDataStream,
    text: String,
    /// When all of the test is to be over.
    deadline: Instant,
}

impl Events {
    async fn open(fleet: &Fleet, query: &str) -> Self {
        let uri =
            format!("http://{}/api/v1/topology/stream?{query}", fleet.aggregator.http_address);
        let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
        let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let body = Body::new(response.into_body()).into_data_stream();
        Self { body, text: String::new(), deadline: Instant::now() + PATIENCE }
    }

    /// The next event's name and data; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let line = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                };
                let found = line("event: ").zip(line("data: "));
                self.text = rest.to_owned();
                if let Some((name, data)) = found {
                    return Some((name, serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            // What is sent to keep the connection alive is no event.
            let left = self.deadline.saturating_duration_since(Instant::now());
            let piece = tokio::time::timeout(left, self.body.next()).await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_streamed() {
    let (fleet, mut a, edge) = fleet().await;
    let mut events = Events::open(&fleet, "").await;
    let (name, snapshot) = events.next().await.unwrap();
    assert_eq!((name.as_str(), snapshot["nodes"].as_array().unwrap().len()), ("snapshot", 2));
    assert_eq!(snapshot["edges"][0]["id"], edge["id"]);
    // Somebody who asked for something else hears nothing of it.
    let mut others = Events::open(&fleet, "q=nobody").await;
    let (_, nothing) = others.next().await.unwrap();
    assert_eq!(nothing["edges"].as_array().unwrap().len(), 0);

    a.report(vec![columns(SectionKind::Increments, &[(1, EDGE, &[])])]).await;
    loop {
        let (name, changes) = events.next().await.unwrap();
        assert_eq!(name, "changes");
        if changes["edges"][0]["connections"] == 6 {
            break;
        }
    }
    // It ends with the aggregator, which does not wait for it.
    let stopping = fleet.aggregator.stop();
    let ended = async { while events.next().await.is_some() {} };
    let (stopped, ()) = tokio::join!(stopping, ended);
    stopped.unwrap();
    assert!(others.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_fits_the_answers() {
    let (fleet, _a, edge) = fleet().await;
    let described = fleet.get("/api/v1/openapi.json").await.json();
    assert!(described["openapi"].as_str().unwrap().starts_with("3.1"));
    let web = edge["source"].as_str().unwrap();
    let paths = described["paths"].as_object().unwrap();
    for (path, operations) in paths {
        let operation = &operations["get"];
        assert!(!operation["responses"]["200"].is_null(), "{path}");
        if path.ends_with("/stream") {
            continue;
        }
        let id = edge["id"].as_str().unwrap();
        let (path, whole) = (path.replace("{id}", id), path);
        let answer = fleet.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let described_as = operation["responses"]["200"]["content"].as_object().unwrap();
        let kind = answer.headers["content-type"].to_str().unwrap().to_owned();
        let kind = kind.split(';').next().unwrap();
        assert!(described_as.contains_key(kind), "{path} answers {kind}");
        if kind == "application/json" {
            check(&described, &described_as[kind]["schema"], &answer.json(), &path);
        }
        // Every parameter that is described is known: nonsense in it is refused.
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let text = matches!(name, "q" | "namespace" | "node");
            let nonsense = if text { "x".repeat(257) } else { "nonsense".to_owned() };
            let asked = match parameter["in"].as_str() {
                Some("path") => whole.replace("{id}", &nonsense),
                _ => format!("{path}?{name}={nonsense}"),
            };
            let answer = fleet.get(&asked).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{asked}");
            if name == "focus" {
                let answer = fleet.get(&format!("{path}?focus={web}")).await;
                assert_eq!(answer.status, StatusCode::OK);
            }
        }
    }
    let answer = fleet.request(Method::POST, "/api/v1/openapi.json", &[]).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    let known = ["/metrics", "/healthz", "/readyz", "/api/v1/nodes", "/api/v1/topology"];
    assert!(known.iter().all(|path| paths.contains_key(*path)));
    eventually(async || fleet.get("/readyz").await.status.is_success().then_some(())).await;
}

/// Whether a value is what its schema says: types, fields that must be there, and none that is not described.
fn check(described: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = described.pointer(name.trim_start_matches('#')).unwrap();
        return check(described, schema, value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let is_null = |schema: &&Value| schema["type"] == "null";
        let null = choices.iter().find(is_null);
        match (value.is_null(), null) {
            (true, null) => assert!(null.is_some(), "{at} is null"),
            (false, _) => {
                let schema = choices.iter().find(|schema| !is_null(schema)).unwrap();
                check(described, schema, value, at);
            }
        }
        return;
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = types.contains(&kind) || (kind == "integer" && types.contains(&"number"));
    assert!(fits, "{at} is {kind}, not {types:?}");
    match value {
        Value::Array(items) => {
            for item in items {
                check(described, &schema["items"], item, at);
            }
        }
        Value::Object(fields) => {
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(fields.contains_key(name.as_str().unwrap()), "{at} has no {name}");
            }
            let Some(properties) = schema["properties"].as_object() else { return };
            for (name, value) in fields {
                let at = format!("{at}.{name}");
                let schema =
                    properties.get(name).unwrap_or_else(|| panic!("{at} is not described"));
                check(described, schema, value, &at);
            }
        }
        _ => {}
    }
}
