//! Services and nodes of Kubernetes, as an API server says it that plays what a real one has written: over TLS, to who
//! shows the right token.

use common::Counter;
use kubernetes::Access;
use proto::v1::SectionKind;
use serde_json::{Value, json};
use testbed::apiserver::{ApiServer, Gone, Kind, recorded};

use crate::{
    agent::Agent,
    fleet::{Fleet, eventually, find_edge},
    reports::{client, columns, status},
};

const EDGE: &[(Counter, u64)] = &[(Counter::Connections, 3), (Counter::BytesSent, 1000)];

const KINDS: [&str; 3] = ["services", "endpointslices", "nodes"];

/// An API server, and where it keeps its files.
struct Server {
    api: ApiServer,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kinds = vec![
            Kind::all("Service", "/api/v1/services", &recorded::SERVICES),
            Kind::all(
                "EndpointSlice",
                "/apis/discovery.k8s.io/v1/endpointslices",
                &recorded::SLICES,
            ),
            Kind::all("Node", "/api/v1/nodes", &recorded::NODES),
        ];
        let api = ApiServer::start_with(None, folder.path(), kinds).unwrap();
        Self { api, _folder: folder }
    }

    fn access(&self) -> Access {
        Access::at(&self.api.url(), Some(&self.api.ca()), Some(&self.api.token())).unwrap()
    }

    async fn watched(&self) {
        eventually(async || (self.api.watching() == KINDS.len()).then_some(())).await;
    }

    /// Lists that were asked for, of now or of whenever the server last looked.
    fn lists(&self, of_now: bool) -> usize {
        let state = self.api.state();
        let lists = state.asked.iter().filter(|asked| !asked.is_watch() && asked.status == 200);
        lists.filter(|asked| (asked.of("resourceVersion") != "0") == of_now).count()
    }
}

/// A fleet with an edge from `web` on `a` to the address of a Service.
async fn fleet(server: &Server) -> (Fleet, Agent) {
    let access = server.access();
    let fleet = Fleet::start_with(|config| config.kubernetes = Some(access)).await;
    let (mut agent, _) = Agent::connect(&fleet, "a", 1).await;
    agent.report(vec![status(), client(), columns(SectionKind::Totals, &[(1, EDGE, &[])])]).await;
    (fleet, agent)
}

async fn until_in_zone(fleet: &Fleet, zone: &str) {
    let zones = async || -> Vec<String> {
        let graph = fleet.get("/api/v1/topology?group_by=zone").await.json();
        let nodes = graph["nodes"].as_array().unwrap().iter();
        let zones = nodes.filter(|node| node["kind"] == "zone");
        zones.map(|zone| zone["name"].as_str().unwrap().to_owned()).collect()
    };
    eventually(async || (zones().await == [zone]).then_some(())).await;
}

/// What answers say that is not heard.
async fn until_unheard(fleet: &Fleet, kinds: &[&str]) {
    let coverage = async || fleet.topology().await["coverage"].clone();
    let unheard = async || (coverage().await["kubernetes_unheard"] == json!(kinds)).then_some(());
    eventually(unheard).await;
    assert!(kinds.is_empty() || coverage().await["complete"] == false);
}

async fn series(fleet: &Fleet, name: &str, kind: &str) -> Option<f64> {
    fleet.series(&format!("weft_aggregator_kubernetes_{name}{{kind=\"{kind}\"}}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn services_and_zones_are_those_of_kubernetes() {
    let server = Server::start();
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
    until_in_zone(&fleet, "east").await;
    // What changes is heard.
    server.watched().await;
    until_unheard(&fleet, &[]).await;
    server.api.happen(recorded::NODE_MOVED);
    until_in_zone(&fleet, "west").await;
    // What was missed while it broke off is told, too: it goes on where that was.
    server.api.state().refuses = Some((503, "{}".to_owned()));
    server.api.cut();
    eventually(async || (server.api.watching() == 0).then_some(())).await;
    server.api.happen(recorded::NODE_BACK);
    server.api.state().refuses = None;
    until_in_zone(&fleet, "east").await;
    let goes_on = |server: &Server| {
        let state = server.api.state();
        state.asked.iter().any(|asked| asked.of("resourceVersion") == "50010")
    };
    assert!(goes_on(&server), "{:?}", server.api.state().asked);
    assert_eq!((server.lists(false), server.lists(true)), (3, 0));
    fleet.aggregator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_has_forgotten_is_listed_anew() {
    for gone in [Gone::Event, Gone::Status] {
        let server = Server::start();
        let (fleet, _agent) = fleet(&server).await;
        until_in_zone(&fleet, "east").await;
        server.watched().await;
        {
            let mut state = server.api.state();
            (state.oldest, state.gone) = (60_000, gone);
            for page in state.kinds.iter_mut().flat_map(|kind| &mut kind.pages) {
                *page = page.replace("\"49900\"", "\"60000\"").replace("\"east\"", "\"north\"");
            }
        }
        server.api.end_watches();
        until_in_zone(&fleet, "north").await;
        server.watched().await;
        // Services come in two pages.
        assert_eq!((server.lists(false), server.lists(true)), (3, 4), "{gone:?}");
        for kind in KINDS {
            let watched =
                async || (series(&fleet, "watching", kind).await == Some(1.0)).then_some(());
            eventually(watched).await;
            assert_eq!(series(&fleet, "lists_total", kind).await, Some(2.0));
        }
        until_unheard(&fleet, &[]).await;
        fleet.aggregator.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_last_survives_a_restart_without_a_server() {
    let server = Server::start();
    let (fleet, agent) = fleet(&server).await;
    fleet.edge("web", "cart", |edge| edge["pending"] == false).await;
    until_in_zone(&fleet, "east").await;
    until_unheard(&fleet, &[]).await;
    drop((agent, server));
    let fleet = fleet.restart(|_| {}).await;
    let (mut agent, _) = Agent::connect(&fleet, "a", 1).await;
    let more: &[_] = &[(Counter::Connections, 4), (Counter::BytesSent, 3000)];
    agent.report(vec![status(), client(), columns(SectionKind::Totals, &[(1, more, &[])])]).await;
    fleet.edge("web", "cart", |edge| edge["bytes_to_server"] == 3000).await;
    assert!(find_edge(&fleet.topology().await, "web", "10.0.0.2").is_none());
    until_in_zone(&fleet, "east").await;
    let of = async |name: &str| series(&fleet, name, "services").await;
    eventually(async || (of("failures_total").await >= Some(1.0)).then_some(())).await;
    eventually(async || (of("unheard_seconds").await >= Some(1.0)).then_some(())).await;
    assert_eq!((of("watching").await, of("objects").await), (Some(0.0), Some(3.0)));
    until_unheard(&fleet, &KINDS).await;
    fleet.aggregator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_goes_without_and_says_so() {
    let server = Server::start();
    server.api.state().refuses = Some((403, recorded::FORBIDDEN.to_owned()));
    let (fleet, _agent) = fleet(&server).await;
    fleet.edge("web", "10.0.0.2", |edge| edge["resolved_by"] == "address").await;
    let failed =
        async || (series(&fleet, "failures_total", "services").await >= Some(2.0)).then_some(());
    eventually(failed).await;
    until_unheard(&fleet, &KINDS).await;
    // Once it may, it goes on by itself.
    server.api.state().refuses = None;
    until_in_zone(&fleet, "east").await;
    until_unheard(&fleet, &[]).await;
    fleet.aggregator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_token_is_shown_once_it_is_there() {
    let server = Server::start();
    let (fleet, _agent) = fleet(&server).await;
    until_in_zone(&fleet, "east").await;
    server.watched().await;
    server.api.state().token = "second".to_owned();
    server.api.cut();
    until_unheard(&fleet, &KINDS).await;
    let refused =
        |state: &testbed::apiserver::State| state.asked.iter().any(|one| one.status == 401);
    eventually(async || refused(&server.api.state()).then_some(())).await;
    server.api.rotate_token("second").unwrap();
    server.watched().await;
    server.api.happen(recorded::NODE_MOVED);
    until_in_zone(&fleet, "west").await;
    fleet.aggregator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_not_known_before_the_server_has_told_it() {
    let server = Server::start();
    let (fleet, _agent) = fleet(&server).await;
    server.watched().await;
    until_unheard(&fleet, &[]).await;
    let of = async |name: &str| series(&fleet, name, "nodes").await;
    server.api.cut();
    eventually(async || (of("failures_total").await >= Some(1.0)).then_some(())).await;
    server.watched().await;
    eventually(async || (of("watching").await == Some(1.0)).then_some(())).await;
    eventually(async || (of("unheard_seconds").await >= Some(1.0)).then_some(())).await;
    until_unheard(&fleet, &KINDS).await;
    server.api.happen(recorded::NODE_BOOKMARK);
    eventually(async || (of("unheard_seconds").await == Some(0.0)).then_some(())).await;
    until_unheard(&fleet, &KINDS[..2]).await;
    let described: Value = fleet.get("/api/v1/openapi.json").await.json();
    let coverage = &described["components"]["schemas"]["Coverage"]["properties"];
    assert!(coverage["kubernetes_unheard"]["description"].is_string(), "{coverage}");
    fleet.aggregator.stop().await.unwrap();
}
