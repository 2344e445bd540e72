//! A real Prometheus scrapes the aggregator, and is asked what stock dashboards ask.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use axum::http::Method;
use common::{Counter, HistogramKind};
use proto::v1::SectionKind;
use serde_json::Value;

use crate::{
    agent::Agent,
    fleet::{Fleet, eventually, request},
    reports::{client, columns, server},
    tools::{GRAFANA, PROMETHEUS, contract, tool},
};

/// It reads the same aggregator twice: as text, and as protobuf with native histograms.
const CONFIG: &str = "
global: { scrape_interval: 1s, scrape_timeout: 1s }
scrape_configs:
  - job_name: text
    scrape_protocols: [PrometheusText0.0.4]
    static_configs: [{ targets: [TARGET] }]
  - job_name: native
    scrape_protocols: [PrometheusProto]
    static_configs: [{ targets: [TARGET] }]
";

struct Prometheus {
    process: Child,
    address: std::net::SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    async fn start(program: &Path, target: std::net::SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, CONFIG.replace("TARGET", &format!("\"{target}\""))).unwrap();
        let log_path = folder.path().join("log");
        let log = std::fs::File::create(&log_path).unwrap();
        let process = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .arg("--enable-feature=native-histograms")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        // Dropped, it ends, whatever becomes of it until then.
        let mut prometheus = Self { process, address: target, _folder: folder };
        prometheus.address = eventually(async || {
            // It says which port it was given.
            let log = std::fs::read_to_string(&log_path).unwrap();
            let line = log.lines().find(|line| line.contains("Listening on"))?;
            line.rsplit_once("address=")?.1.parse().ok()
        })
        .await;
        let address = prometheus.address;
        eventually(async || {
            tokio::net::TcpStream::connect(address).await.ok()?;
            let ready = request(address, Method::GET, "/-/ready", &[]).await;
            ready.status.is_success().then_some(())
        })
        .await;
        prometheus
    }

    async fn ask(&self, path: &str, name: &str, query: &str) -> Value {
        let path = format!("/api/v1/{path}?{name}={}", escape(query));
        let answer = request(self.address, Method::GET, &path, &[]).await.json();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"].clone()
    }

    /// Labels and values of an instant query.
    async fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let data = self.ask("query", "query", query).await;
        let value = |row: &Value| row["value"][1].as_str().unwrap().parse().unwrap();
        let rows = data["result"].as_array().unwrap().iter();
        rows.map(|row| (row["metric"].clone(), value(row))).collect()
    }

    /// The only row, once its value is a number.
    async fn one(&self, query: &str) -> f64 {
        eventually(async || {
            let rows = self.query(query).await;
            assert!(rows.len() < 2, "{query}: {rows:?}");
            rows.first().map(|row| row.1).filter(|value| value.is_finite())
        })
        .await
    }
}

fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escaped = text.bytes().map(|byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    escaped.collect()
}

/// An edge that was seen from one side first and then from both, and goes on.
async fn edge(fleet: &Fleet) -> (Agent, Agent) {
    let (mut a, _) = Agent::connect(fleet, "a", 1).await;
    let (mut b, _) = Agent::connect(fleet, "b", 1).await;
    let one = &[(Counter::Connections, 1), (Counter::BytesSent, 100)];
    a.report(vec![client(), columns(SectionKind::Totals, &[(1, one, &[])])]).await;
    fleet.edge("web", "10.0.0.2", |edge| edge["seen_by"] == "client").await;
    let one = &[(Counter::Connections, 1), (Counter::BytesReceived, 100)];
    b.report(vec![server(), columns(SectionKind::Totals, &[(1, one, &[])])]).await;
    fleet.edge("web", "db", |edge| edge["pending"] == false).await;
    (a, b)
}

/// More of the same: 3 connections, one of which fails.
async fn more((a, b): &mut (Agent, Agent)) {
    let ours = &[(Counter::Connections, 2), (Counter::BytesSent, 500), (Counter::FailedRefused, 1)];
    let samples = [
        (HistogramKind::Rtt, 90, 50),
        (HistogramKind::Rtt, 120, 9),
        (HistogramKind::Rtt, 160, 1),
        (HistogramKind::Connect, 100, 2),
        (HistogramKind::Lifetime, 200, 2),
    ];
    a.report(vec![columns(SectionKind::Increments, &[(1, ours, &samples)])]).await;
    let theirs = &[(Counter::Connections, 2), (Counter::BytesReceived, 500)];
    b.report(vec![columns(SectionKind::Increments, &[(1, theirs, &[])])]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_queries_find_what_a_real_prometheus_has_scraped() {
    let Some(program) = tool(PROMETHEUS) else { return };
    let fleet = Fleet::start().await;
    let prometheus = Prometheus::start(&program, fleet.aggregator.http_address).await;
    let mut agents = edge(&fleet).await;
    for job in ["text", "native"] {
        let counted = format!("weft_edge_connections_total{{job=\"{job}\"}}");
        eventually(async || prometheus.query(&counted).await.first().map(|row| row.1)).await;
    }
    // A rate needs two scrapes with something between them.
    for _ in 0..3 {
        more(&mut agents).await;
        let before = prometheus.query("sum(weft_edge_connections_total)").await[0].1;
        let grown = async || {
            let now = prometheus.query("sum(weft_edge_connections_total)").await[0].1;
            (now > before).then_some(())
        };
        eventually(grown).await;
    }
    service_maps(&prometheus).await;
    quantiles(&fleet, &prometheus).await;
    // Nothing was ever there but the one edge: neither its first sight nor another label set left anything.
    for name in ["weft_edge_connections_total", "traces_service_graph_request_total"] {
        let all = prometheus.ask("series", "match[]", &format!("{name}{{job=\"text\"}}")).await;
        let all = all.as_array().unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!((&all[0]["client"], &all[0]["server"]), (&"web".into(), &"db".into()));
    }
    dashboard(&prometheus).await;
    if let Some(modules) = tool(GRAFANA) {
        let urls = [fleet.aggregator.http_address, prometheus.address];
        let [aggregator, prometheus] = urls.map(|address| format!("http://{address}"));
        let said = contract(&aggregator, &modules, Some(&prometheus));
        assert!(said.contains("prometheus: 2 nodes, 1 edges"), "{said}");
    }
}

/// What Grafana's service map, the dashboards beside it and Tempo's documentation ask.
async fn service_maps(prometheus: &Prometheus) {
    for job in ["text", "native"] {
        let by = "sum by (client, server, server_service_namespace, client_service_namespace)";
        for name in ["request_total", "request_failed_total", "request_server_seconds_sum"] {
            let series = format!("traces_service_graph_{name}{{job=\"{job}\"}}");
            let query = format!("{by} (rate({series}[1m]))");
            assert!(prometheus.one(&query).await > 0.0, "{query}");
            let rows = prometheus.query(&query).await;
            assert_eq!((&rows[0].0["client"], &rows[0].0["server"]), (&"web".into(), &"db".into()));
        }
        for side in ["server", "client"] {
            let name = format!("traces_service_graph_request_{side}_seconds");
            let range = format!("{{job=\"{job}\"}}[1m]");
            for query in [
                format!(
                    "histogram_quantile(.9, sum(rate({name}_bucket{range})) by (le, client, server))"
                ),
                format!("sum(increase({name}_count{range})) by (server, client) > 0"),
                format!(
                    "sum by (client, server) (rate({name}_sum{range})) / sum by (client, server) \
                     (rate({name}_count{range}))"
                ),
            ] {
                assert!(prometheus.one(&query).await > 0.0, "{query}");
            }
        }
    }
}

/// Quantiles of native histograms are those of the API; those of classic ones lie in the same bucket of theirs.
async fn quantiles(fleet: &Fleet, prometheus: &Prometheus) {
    let edge = fleet.edge("web", "db", |edge| edge["rtt_seconds"]["count"] == 180).await;
    eventually(async || {
        let count = "histogram_count(weft_edge_rtt_seconds{job=\"native\"})";
        (prometheus.query(count).await.first()?.1 == 180.0).then_some(())
    })
    .await;
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let ours = edge["rtt_seconds"][name].as_f64().unwrap();
        let native =
            format!("histogram_quantile({quantile}, weft_edge_rtt_seconds{{job=\"native\"}})");
        let theirs = prometheus.one(&native).await;
        assert!((theirs / ours).ln().abs() <= 2_f64.ln() / 8.0 + 1e-9, "{name}: {theirs} {ours}");
        let classic =
            format!("histogram_quantile({quantile}, weft_edge_rtt_seconds_bucket{{job=\"text\"}})");
        let theirs = prometheus.one(&classic).await;
        assert!((0.25..4.0).contains(&(theirs / ours)), "{name}: {theirs} {ours}");
    }
}

/// Every query of our own dashboard makes sense to it.
async fn dashboard(prometheus: &Prometheus) {
    fn expressions(value: &Value, found: &mut Vec<String>) {
        if let Some(expression) = value["expr"].as_str() {
            found.push(expression.to_owned());
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| expressions(field, found)),
            _ => {}
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana/dashboards/weft.json");
    let text = std::fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    expressions(&serde_json::from_str(&text).unwrap(), &mut found);
    assert!(found.len() > 10);
    for expression in found {
        let mut query = expression;
        for (variable, value) in
            [("$__rate_interval", "1m"), ("$__range", "1m"), ("$client", ".*"), ("$server", ".*")]
        {
            query = query.replace(variable, value);
        }
        prometheus.query(&query).await;
    }
}
