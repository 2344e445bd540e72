//! Services and nodes of Kubernetes: an API server that says what a real one says, over plain HTTP as a proxy on the host
//! does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use common::Counter;
use kubernetes::Access;
use proto::v1::SectionKind;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{
    agent::Agent,
    fleet::{Fleet, eventually, find_edge},
    reports::{client, columns, status},
};

const EDGE: &[(Counter, u64)] = &[(Counter::Connections, 3), (Counter::BytesSent, 1000)];

const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const NODES: &str = "/api/v1/nodes";

type Line = Result<String, std::io::Error>;

/// What the server has.
#[derive(Default)]
struct Objects {
    /// By path and name.
    all: BTreeMap<(&'static str, String), Value>,
    version: u64,
    /// Every watch, with the path that it is of.
    watches: Vec<(String, mpsc::UnboundedSender<Line>)>,
    /// It forgets: watches from before this version are over.
    oldest: u64,
    forbids: bool,
    lists: usize,
}

struct Server {
    objects: Arc<Mutex<Objects>>,
    access: Access,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let objects = Arc::new(Mutex::new(Objects { version: 100, ..Objects::default() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&objects));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { objects, access: Access::at(&url, None, None).unwrap(), task }
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap()
    }

    /// An object is there, or has changed; nobody is told with `told` false, as when the watch broke off.
    fn put(&self, path: &'static str, mut object: Value, told: bool) {
        let mut objects = self.lock();
        objects.version += 1;
        object["metadata"]["resourceVersion"] = objects.version.to_string().into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        objects.all.insert((path, name), object.clone());
        if told {
            objects.tell(path, &json!({ "type": "MODIFIED", "object": object }));
        }
    }

    /// Ends every watch; what was said up to now is forgotten.
    fn forget(&self) {
        let mut objects = self.lock();
        objects.oldest = objects.version + 1;
        objects.version += 1;
        objects.watches.clear();
    }
}

impl Objects {
    fn tell(&mut self, path: &str, event: &Value) {
        let watches = self.watches.iter().filter(|(of, _)| of == path);
        watches.for_each(|(_, watch)| drop(watch.send(Ok(format!("{event}\n")))));
    }
}

async fn answer(State(objects): State<Arc<Mutex<Objects>>>, uri: Uri) -> Response {
    let mut objects = objects.lock().unwrap();
    let (path, query) = (uri.path().to_owned(), uri.query().unwrap_or_default().to_owned());
    if objects.forbids {
        let message =
            format!("{path} is forbidden: User \"system:serviceaccount:weft:weft\" cannot list");
        let status =
            json!({ "kind": "Status", "status": "Failure", "code": 403, "message": message });
        return (StatusCode::FORBIDDEN, status.to_string()).into_response();
    }
    if !query.contains("watch=true") {
        objects.lists += 1;
        let of = objects.all.iter().filter(|((of, _), _)| *of == path);
        let items: Vec<_> = of.map(|(_, object)| object.clone()).collect();
        let metadata = json!({ "resourceVersion": objects.version.to_string() });
        return json!({ "metadata": metadata, "items": items }).to_string().into_response();
    }
    let version = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
    let (watch, lines) = mpsc::unbounded_channel();
    if version.unwrap().parse::<u64>().unwrap() < objects.oldest {
        let status =
            json!({ "kind": "Status", "code": 410, "message": "too old resource version" });
        watch.send(Ok(format!("{}\n", json!({ "type": "ERROR", "object": status })))).unwrap();
    } else {
        objects.watches.push((path, watch));
    }
    Body::from_stream(UnboundedReceiverStream::new(lines)).into_response()
}

fn service(name: &str, address: &str) -> Value {
    let ports = json!([{ "name": "http", "protocol": "TCP", "port": 5432, "targetPort": 8080 }]);
    json!({
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "clusterIP": address, "clusterIPs": [address], "ports": ports, "type": "ClusterIP" },
        "status": { "loadBalancer": {} },
    })
}

fn node(name: &str, zone: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": zone } },
        "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }] },
    })
}

/// A fleet with an edge from `web` on `a` to the address of a Service.
async fn fleet(server: &Server) -> (Fleet, Agent) {
    let access = server.access.clone();
    let fleet = Fleet::start_with(|config| config.kubernetes = Some(access)).await;
    let (mut agent, _) = Agent::connect(&fleet, "a", 1).await;
    agent.report(vec![status(), client(), columns(SectionKind::Totals, &[(1, EDGE, &[])])]).await;
    (fleet, agent)
}

async fn zones(fleet: &Fleet) -> Vec<String> {
    let graph = fleet.get("/api/v1/topology?group_by=zone").await.json();
    let nodes = graph["nodes"].as_array().unwrap().iter();
    let zones = nodes.filter(|node| node["kind"] == "zone");
    zones.map(|zone| zone["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn services_and_zones_are_those_of_kubernetes() {
    let server = Server::start().await;
    server.put(SERVICES, service("cart", "10.0.0.2"), false);
    server.put(NODES, node("a", "east"), false);
    let (fleet, _agent) = fleet(&server).await;
    let edge = fleet.edge("web", "cart", |edge| edge["resolved_by"] == "kubernetes").await;
    let why = fleet.get(&format!("/api/v1/edges/{}/explain", edge["id"].as_str().unwrap())).await;
    let why = why.json();
    assert_eq!(
        (&why["target"]["namespace"], &why["target"]["kind"]),
        (&"shop".into(), &"external".into())
    );
    let words = why["words"].to_string();
    assert!(words.contains("cart is known as the server because Kubernetes told"), "{words}");
    eventually(async || (zones(&fleet).await == ["east"]).then_some(())).await;
    // What changes is heard.
    eventually(async || (server.lock().watches.len() == 3).then_some(())).await;
    server.put(NODES, node("a", "west"), true);
    eventually(async || (zones(&fleet).await == ["west"]).then_some(())).await;
    // What was missed is listed, when the server has forgotten it.
    let lists = server.lock().lists;
    server.put(NODES, node("a", "north"), false);
    server.forget();
    eventually(async || (zones(&fleet).await == ["north"]).then_some(())).await;
    eventually(async || (server.lock().lists >= lists + 3).then_some(())).await;
    for kind in ["services", "nodes", "endpointslices"] {
        let of = |name: &str| format!("weft_aggregator_kubernetes_{name}{{kind=\"{kind}\"}}");
        eventually(async || (fleet.series(&of("watching")).await == Some(1.0)).then_some(())).await;
        assert!(fleet.series(&of("lists_total")).await >= Some(2.0));
    }
    fleet.aggregator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_last_survives_a_restart_without_a_server() {
    let server = Server::start().await;
    server.put(SERVICES, service("cart", "10.0.0.2"), false);
    server.put(SLICES, json!({ "metadata": { "name": "cart-x", "namespace": "shop" } }), false);
    server.put(NODES, node("a", "east"), false);
    let (fleet, agent) = fleet(&server).await;
    fleet.edge("web", "cart", |edge| edge["pending"] == false).await;
    eventually(async || (zones(&fleet).await == ["east"]).then_some(())).await;
    drop(agent);
    server.task.abort();
    server.lock().watches.clear();
    let fleet = fleet.restart(|_| {}).await;
    let (mut agent, _) = Agent::connect(&fleet, "a", 1).await;
    let more: &[_] = &[(Counter::Connections, 4), (Counter::BytesSent, 3000)];
    agent.report(vec![status(), client(), columns(SectionKind::Totals, &[(1, more, &[])])]).await;
    fleet.edge("web", "cart", |edge| edge["bytes_to_server"] == 3000).await;
    assert!(find_edge(&fleet.topology().await, "web", "10.0.0.2").is_none());
    eventually(async || (zones(&fleet).await == ["east"]).then_some(())).await;
    let series = async |name: &str| {
        let series = format!("weft_aggregator_kubernetes_{name}{{kind=\"services\"}}");
        fleet.series(&series).await
    };
    eventually(async || (series("failures_total").await >= Some(1.0)).then_some(())).await;
    eventually(async || (series("unheard_seconds").await >= Some(1.0)).then_some(())).await;
    assert_eq!((series("watching").await, series("objects").await), (Some(0.0), Some(1.0)));
    fleet.aggregator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_goes_without() {
    let server = Server::start().await;
    server.lock().forbids = true;
    let (fleet, _agent) = fleet(&server).await;
    fleet.edge("web", "10.0.0.2", |edge| edge["resolved_by"] == "address").await;
    let failures = "weft_aggregator_kubernetes_failures_total{kind=\"services\"}";
    eventually(async || (fleet.series(failures).await >= Some(2.0)).then_some(())).await;
    // Once it may, it goes on by itself.
    server.put(SERVICES, service("cart", "10.0.0.2"), false);
    server.put(NODES, node("a", "east"), false);
    server.lock().forbids = false;
    eventually(async || (zones(&fleet).await == ["east"]).then_some(())).await;
    fleet.aggregator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_not_known_before_the_server_has_told_it() {
    let server = Server::start().await;
    server.put(NODES, node("a", "east"), false);
    let (fleet, _agent) = fleet(&server).await;
    let watched = async || (server.lock().watches.len() == 3).then_some(());
    eventually(watched).await;
    let series = async |name: &str| {
        let series = format!("weft_aggregator_kubernetes_{name}{{kind=\"nodes\"}}");
        fleet.series(&series).await
    };
    for (_, watch) in server.lock().watches.drain(..) {
        watch.send(Err(std::io::Error::other("it breaks off"))).unwrap();
    }
    eventually(async || (series("failures_total").await >= Some(1.0)).then_some(())).await;
    eventually(watched).await;
    eventually(async || (series("watching").await == Some(1.0)).then_some(())).await;
    eventually(async || (series("unheard_seconds").await >= Some(1.0)).then_some(())).await;
    let metadata = json!({ "resourceVersion": "200" });
    let bookmark =
        json!({ "type": "BOOKMARK", "object": { "kind": "Node", "metadata": metadata } });
    server.lock().tell(NODES, &bookmark);
    eventually(async || (series("unheard_seconds").await == Some(0.0)).then_some(())).await;
    fleet.aggregator.stop().await.unwrap();
}
