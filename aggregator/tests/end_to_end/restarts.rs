//! What a restart keeps.

use std::{
    io::BufRead,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Child,
    sync::{Arc, Mutex},
};

use axum::http::{Method, StatusCode};
use common::Counter;
use proto::v1::Welcome;

use crate::{
    agent::{Agent, hello},
    binary,
    fleet::{Fleet, eventually, request},
    reports::{client, server, status, totals},
};

pub const CONNECTIONS: &str = concat!(
    "weft_edge_connections_total{client=\"web\",client_namespace=\"\",server=\"db\",",
    "server_namespace=\"\",server_port=\"5432\"}"
);

pub fn counted(connections: u64) -> [(Counter, u64); 4] {
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

/// The one file of the data directory whose name begins like this.
fn file(dir: &Path, prefix: &str) -> PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let named = |path: &PathBuf| {
        path.file_name().unwrap().to_str().unwrap().starts_with(prefix)
            && path.metadata().unwrap().len() > 0
    };
    let mut found: Vec<_> = files.filter(named).collect();
    found.sort();
    found.pop().unwrap_or_else(|| panic!("no {prefix}"))
}

fn flip_last_byte(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_read_is_put_aside() {
    let fleet = Fleet::start().await;
    let (_, before) = Agent::connect(&fleet, "a", 1).await;
    let fleet = fleet.restart(|dir| flip_last_byte(&file(dir, "snapshot-"))).await;
    // The journal from its beginning says as much.
    let aside = "weft_aggregator_files_put_aside_total";
    assert_eq!(fleet.series(aside).await, Some(1.0));
    let (_a, after) = Agent::connect(&fleet, "a", 1).await;
    assert_eq!(before.instance, after.instance);
    file(fleet.data_dir(), "broken-");

    // Without its beginning, which a snapshot has replaced by now, it is of no use.
    let fleet = fleet.restart(|dir| flip_last_byte(&file(dir, "snapshot-"))).await;
    assert!(fleet.series(aside).await >= Some(2.0));
    let (_a, after) = Agent::connect(&fleet, "a", 1).await;
    assert_ne!(before.instance, after.instance);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_not_acknowledged_and_counting_goes_on() {
    let fleet = Fleet::start_with(|config| {
        // What root may write nevertheless cannot be refused by permissions: the second file of the
        // journal and every snapshot have something in their way.
        std::fs::create_dir_all(config.data_dir.join("unfinished/in-the-way")).unwrap();
    })
    .await;
    let _agents = report(&fleet, 1, 3).await;
    eventually(async || fleet.series(CONNECTIONS).await.filter(|value| *value == 3.0)).await;
    let dir = fleet.data_dir().to_path_buf();
    // The last snapshot fails; the journal has it all.
    let fleet = fleet.restart(|_| {}).await;
    assert_eq!(fleet.series(CONNECTIONS).await, Some(3.0));
    assert_eq!(
        std::fs::read_dir(&dir)
            .unwrap()
            .filter(|file| {
                file.as_ref().unwrap().file_name().to_str().unwrap().starts_with("snapshot-")
            })
            .count(),
        0
    );
}

/// The program itself, to be killed.
pub struct Program {
    child: Child,
    /// What it has said so far.
    log: Arc<Mutex<String>>,
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
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// With more settings.
    pub fn start_with(dir: &Path, more: &[&str]) -> Self {
        let (child, mut log, line) = binary::listening(dir, more);
        let said = Arc::new(Mutex::new(String::new()));
        let saying = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut line = String::new();
            while log.read_line(&mut line).is_ok_and(|read| read > 0) {
                saying.lock().unwrap().push_str(&std::mem::take(&mut line));
            }
        });
        let address = |name: &str| {
            let mut words = line.split_whitespace();
            words.find_map(|word| word.strip_prefix(name)).unwrap().parse().unwrap()
        };
        Self { child, log: said, agents: address("agents="), readers: address("readers=") }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// How often it has said something.
    pub fn said(&self, what: &str) -> usize {
        self.log.lock().unwrap().matches(what).count()
    }

    pub async fn connect(&self, dir: &Path, node: &str) -> (Agent, Welcome) {
        let file = |name: String| dir.join(name);
        let files = proto::tls::Files {
            ca: file("ca.crt".to_owned()),
            cert: file(format!("{node}.crt")),
            key: file(format!("{node}.key")),
        };
        Agent::connect_to(self.agents, &files, hello(node, 1)).await.unwrap()
    }

    /// Both halves of the edge, in all.
    async fn report(&self, dir: &Path, connections: u64) -> (Agent, Agent) {
        let (mut a, mut b) = (self.connect(dir, "n1").await.0, self.connect(dir, "n2").await.0);
        a.report(vec![client(), totals(&counted(connections))]).await;
        b.report(vec![server(), totals(&counted(connections))]).await;
        (a, b)
    }

    /// The most memory it has had, in bytes.
    pub fn highest_resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    pub async fn get(&self, path: &str) -> crate::fleet::Answer {
        request(self.readers, Method::GET, path, &[]).await
    }

    pub async fn status(&self, path: &str) -> StatusCode {
        request(self.readers, Method::GET, path, &[]).await.status
    }

    /// A series, `None` while there is no answer or no such series.
    pub async fn series(&self, series: &str) -> Option<f64> {
        let answer = request(self.readers, Method::GET, "/metrics", &[]).await;
        let line = answer.body.lines().find_map(|line| line.strip_prefix(series))?;
        (answer.status == StatusCode::OK).then(|| line.trim().parse().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_counter_falls_when_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    binary::pki(dir);
    aggregator::pki::node(dir, "n2").unwrap();

    let program = Program::start(dir);
    let agents = program.report(dir, 3).await;
    eventually(async || program.series(CONNECTIONS).await.filter(|value| *value == 3.0)).await;
    drop(program);

    // At once, although nobody is back; also when nothing was read since the last time.
    for _ in 0..2 {
        let program = Program::start(dir);
        assert_eq!(program.series(CONNECTIONS).await, Some(3.0));
    }
    let program = Program::start(dir);
    let welcome = program.connect(dir, "n1").await.1;
    assert_eq!(welcome.acked_seq, agents.0.next - 1);
    let _agents = program.report(dir, 50).await;
    eventually(async || program.series(CONNECTIONS).await.filter(|value| *value == 50.0)).await;
    drop(program);
    let program = Program::start(dir);
    assert_eq!(program.series(CONNECTIONS).await, Some(50.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_cut_off_or_damaged_gives_what_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    binary::pki(dir);
    aggregator::pki::node(dir, "n2").unwrap();
    let data = dir.join("data");

    let program = Program::start(dir);
    let _agents = program.report(dir, 3).await;
    eventually(async || program.series(CONNECTIONS).await.filter(|value| *value == 3.0)).await;
    // Another tick or two, so that it is one of them that is cut.
    let written = "weft_aggregator_journal_bytes_total";
    let so_far = program.series(written).await.unwrap();
    eventually(async || program.series(written).await.filter(|now| *now > so_far + 20.0)).await;
    drop(program);
    // As a crash of the machine leaves it: the last entry was not written whole.
    let path = file(&data, "journal-");
    let length = path.metadata().unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let program = Program::start(dir);
    assert_eq!(program.series(CONNECTIONS).await, Some(3.0));
    assert_eq!(program.series("weft_aggregator_files_put_aside_total ").await, Some(0.0));
    drop(program);

    // In the middle of a file it is damage: what comes before counts, and agents tell the rest again.
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let program = Program::start(dir);
    assert!(program.series("weft_aggregator_files_put_aside_total ").await >= Some(1.0));
    file(&data, "broken-");
    let _agents = program.report(dir, 3).await;
    eventually(async || program.series(CONNECTIONS).await.filter(|value| *value == 3.0)).await;
}
