//! What a restart keeps.

use std::{
    net::SocketAddr,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use axum::http::{Method, StatusCode};
use common::Counter;

use crate::{
    agent::{Agent, hello},
    binary,
    fleet::{Fleet, eventually, request},
    reports::{client, server, status, totals},
};

const CONNECTIONS: &str = concat!(
    "weft_edge_connections_total{client=\"web\",client_namespace=\"\",server=\"db\",",
    "server_namespace=\"\",server_port=\"5432\"}"
);

fn counted(connections: u64) -> [(Counter, u64); 4] {
    [
        (Counter::Connections, connections),
        (Counter::Closed, connections),
        (Counter::BytesSent, 100 * connections),
        (Counter::BytesReceived, 100 * connections),
    ]
}

/// Both sides of an edge, by agents of this generation.
async fn report(fleet: &Fleet, generation: u64, connections: u64) -> (Agent, Agent) {
    let hello = |node| {
        let mut hello = hello(node, generation);
        hello.generation = generation;
        hello
    };
    let (mut a, _) = Agent::try_connect(fleet, "a", hello("a")).await.unwrap();
    let (mut b, _) = Agent::try_connect(fleet, "b", hello("b")).await.unwrap();
    a.report(vec![client(), totals(&counted(connections))]).await;
    b.report(vec![status(), server(), totals(&counted(connections))]).await;
    (a, b)
}

async fn edges(fleet: &Fleet) -> Vec<String> {
    let text = fleet.get("/metrics").await.body;
    let edges = text.lines().filter(|line| line.starts_with("weft_edge_"));
    edges.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_go_on_after_a_restart_and_a_new_generation_adds_to_them() {
    let fleet = Fleet::start().await;
    let agents = report(&fleet, 1, 3).await;
    eventually(async || fleet.series(CONNECTIONS).await.filter(|value| *value == 3.0)).await;
    drop(agents);
    eventually(async || {
        fleet.series("weft_aggregator_streams").await.filter(|streams| *streams == 0.0)
    })
    .await;
    let before = edges(&fleet).await;
    assert!(before.len() > 20);

    // Twice: nobody could have said anything again.
    let fleet = fleet.restart(|_| {}).await.restart(|_| {}).await;
    assert_eq!(fleet.get("/readyz").await.status, StatusCode::OK);
    assert_eq!(edges(&fleet).await, before);

    let _agents = report(&fleet, 2, 2).await;
    eventually(async || fleet.series(CONNECTIONS).await.filter(|value| *value == 5.0)).await;
    assert_eq!(edges(&fleet).await.len(), before.len());
    // The nodes are known as before.
    assert_eq!(fleet.get("/api/v1/nodes").await.json()["nodes"][1]["losses"]["halves_full"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_before_a_restart_is_not_counted_again() {
    let fleet = Fleet::start().await;
    let (mut a, _b) = report(&fleet, 1, 3).await;
    eventually(async || fleet.series(CONNECTIONS).await.filter(|value| *value == 3.0)).await;
    let welcome_before = a.next - 1;
    let (fleet, _) = tokio::join!(fleet.restart(|_| {}), a.ended());
    let (_a, welcome) = Agent::connect(&fleet, "a", 1).await;
    assert_eq!(welcome.acked_seq, welcome_before);
    let (_, again) = Agent::connect(&fleet, "a", 1).await;
    assert_eq!(again.instance, welcome.instance);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_read_is_put_aside() {
    let fleet = Fleet::start().await;
    let (_, before) = Agent::connect(&fleet, "a", 1).await;
    let fleet = fleet
        .restart(|dir| {
            let path = dir.join("graph.stopped");
            let mut bytes = std::fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(path, bytes).unwrap();
        })
        .await;
    assert_eq!(fleet.series("weft_aggregator_snapshots_put_aside_total").await, Some(1.0));
    let (_a, after) = Agent::connect(&fleet, "a", 1).await;
    assert_ne!(before.instance, after.instance);
    let files = std::fs::read_dir(fleet.data_dir()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("graph.broken-")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_counted_and_counting_goes_on() {
    let fleet = Fleet::start_with(|config| {
        // What root may write nevertheless cannot be refused by permissions.
        std::fs::create_dir_all(config.data_dir.join("graph.unfinished/in-the-way")).unwrap();
    })
    .await;
    let failed = "weft_aggregator_snapshots_failed_total";
    eventually(async || fleet.series(failed).await.filter(|failed| *failed > 0.0)).await;
    let _agents = report(&fleet, 1, 3).await;
    eventually(async || fleet.series(CONNECTIONS).await.filter(|value| *value == 3.0)).await;
    assert_eq!(fleet.series("weft_aggregator_snapshots_total").await, Some(0.0));
    fleet.aggregator.stop().await.unwrap();
}

/// The program itself, to be killed.
struct Program {
    child: Child,
    agents: SocketAddr,
    readers: SocketAddr,
}

impl Drop for Program {
    fn drop(&mut self) {
        // SIGKILL; it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(dir: &Path) -> Self {
        let (child, mut log, line) = binary::listening(dir);
        // It stops for a log that nobody takes.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let address = |name: &str| {
            let mut words = line.split_whitespace();
            words.find_map(|word| word.strip_prefix(name)).unwrap().parse().unwrap()
        };
        Self { child, agents: address("agents="), readers: address("readers=") }
    }

    async fn connect(&self, dir: &Path, node: &str) -> Agent {
        let file = |name: String| dir.join(name);
        let files = proto::tls::Files {
            ca: file("ca.crt".to_owned()),
            cert: file(format!("{node}.crt")),
            key: file(format!("{node}.key")),
        };
        Agent::connect_to(self.agents, &files, hello(node, 1)).await.unwrap().0
    }

    /// Both halves of the edge, in all.
    async fn report(&self, dir: &Path, connections: u64) -> (Agent, Agent) {
        let (mut a, mut b) = (self.connect(dir, "n1").await, self.connect(dir, "n2").await);
        a.report(vec![client(), totals(&counted(connections))]).await;
        b.report(vec![server(), totals(&counted(connections))]).await;
        (a, b)
    }

    /// A series, `None` while there is no answer or no such series.
    async fn series(&self, series: &str) -> Option<f64> {
        let answer = request(self.readers, Method::GET, "/metrics", &[]).await;
        let line = answer.body.lines().find_map(|line| line.strip_prefix(series))?;
        (answer.status == StatusCode::OK).then(|| line.trim().parse().unwrap())
    }

    async fn is_ready(&self) -> bool {
        request(self.readers, Method::GET, "/readyz", &[]).await.status == StatusCode::OK
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_counter_falls_when_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    binary::pki(dir);
    aggregator::pki::node(dir, "n2").unwrap();

    let program = Program::start(dir);
    let _agents = program.report(dir, 3).await;
    eventually(async || program.series(CONNECTIONS).await.filter(|value| *value == 3.0)).await;
    let written = "weft_aggregator_snapshots_total";
    let so_far = program.series(written).await.unwrap();
    eventually(async || program.series(written).await.filter(|now| *now > so_far)).await;
    // What comes now is in no snapshot, but it has been seen.
    let _agents = program.report(dir, 50).await;
    eventually(async || program.series(CONNECTIONS).await.filter(|value| *value == 50.0)).await;
    drop(program);

    let program = Program::start(dir);
    assert!(!program.is_ready().await);
    assert_eq!(program.series(CONNECTIONS).await, None);
    let mut a = program.connect(dir, "n1").await;
    a.report(vec![client(), totals(&counted(51))]).await;
    // One of two is not enough.
    assert!(!program.is_ready().await);
    let mut b = program.connect(dir, "n2").await;
    b.report(vec![server(), totals(&counted(51))]).await;
    let first = eventually(async || program.series(CONNECTIONS).await).await;
    assert_eq!(first, 51.0);
    assert!(program.is_ready().await);
    drop((a, b));
    drop(program);

    // Nobody comes back: it does not wait for ever.
    let begin = Instant::now();
    let program = Program::start(dir);
    eventually(async || program.is_ready().await.then_some(())).await;
    assert!(begin.elapsed() > Duration::from_secs(10));
}
