//! A running aggregator with certificates of its own, and its readers.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aggregator::{Config, Running, pki};
use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode},
};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;

/// How long to wait for what takes a few seconds: two until a link has gathered its halves.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Fleet {
    pub aggregator: Running,
    config: Config,
    folder: tempfile::TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub fn config(pki: &Path, data_dir: PathBuf) -> Config {
    Config {
        grpc_listen: ([127, 0, 0, 1], 0).into(),
        http_listen: ([127, 0, 0, 1], 0).into(),
        http: Default::default(),
        data_dir,
        history_max_bytes: 1_000_000_000,
        budget: Default::default(),
        max_external_peers: 100,
        rules: None,
        kubernetes: None,
        edge_idle_expiry: std::time::Duration::from_secs(3_600),
        tls: proto::tls::Files {
            ca: pki.join("ca.crt"),
            cert: pki.join("aggregator.crt"),
            key: pki.join("aggregator.key"),
        },
        tls_crl: None,
        trust_domain: None,
        expected_nodes: Vec::new(),
        service_graph_metrics: true,
        log: "info".to_owned(),
    }
}

impl Fleet {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        pki::init(&pki, "weft.local", &[]).unwrap();
        let mut config = config(&pki, folder.path().join("data"));
        change(&mut config);
        let aggregator = Running::start(config.clone()).await.unwrap();
        Self { aggregator, config, folder }
    }

    /// Stops it, does something, and starts it with the same data.
    pub async fn restart(self, between: impl FnOnce(&Path)) -> Self {
        let Self { aggregator, config, folder } = self;
        aggregator.stop().await.unwrap();
        between(&config.data_dir);
        let aggregator = Running::start(config.clone()).await.unwrap();
        Self { aggregator, config, folder }
    }

    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    pub fn pki(&self) -> PathBuf {
        self.folder.path().join("pki")
    }

    /// PEM files of a node, made when they are first asked for.
    pub fn node(&self, name: &str) -> proto::tls::Files {
        let pki = self.pki();
        let file = |kind: &str| pki.join(format!("{name}.{kind}"));
        if !file("crt").exists() {
            pki::node(&pki, name).unwrap();
        }
        proto::tls::Files { ca: pki.join("ca.crt"), cert: file("crt"), key: file("key") }
    }

    pub async fn request(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        request(self.aggregator.http_address, method, path, headers).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[]).await
    }

    pub async fn topology(&self) -> Value {
        self.get("/api/v1/topology").await.json()
    }

    /// The edge between two services by name, once it is there and `holds`.
    pub async fn edge(&self, client: &str, server: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(async || {
            let topology = self.topology().await;
            let edge = find_edge(&topology, client, server)?;
            holds(&edge).then_some(edge)
        })
        .await
    }

    /// The value of a series in `/metrics`, `None` when it is not there.
    pub async fn series(&self, series: &str) -> Option<f64> {
        let metrics = self.get("/metrics").await.body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }
}

pub async fn request(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let uri = format!("http://{address}{path}");
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let response = client.request(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(Body::new(body), usize::MAX).await.unwrap();
    let body = String::from_utf8_lossy(&body).into_owned();
    Answer { status: parts.status, headers: parts.headers, body }
}

pub fn find_edge(topology: &Value, client: &str, server: &str) -> Option<Value> {
    let id = |name: &str| {
        let nodes = topology["nodes"].as_array().unwrap().iter();
        nodes.filter(|node| node["name"] == name).map(|node| node["id"].clone()).next()
    };
    let (source, target) = (id(client)?, id(server)?);
    let mut edges = topology["edges"].as_array().unwrap().iter();
    edges.find(|edge| edge["source"] == source && edge["target"] == target).cloned()
}

/// Tries until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(mut attempt: impl FnMut() -> F) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = attempt().await {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
