use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener as StdListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use common::Counter;
use tokio::{sync::oneshot, task::JoinHandle};
use topology::model::WorkloadKind;

use super::*;
use crate::{
    cgroup_fs::CgroupFs,
    config::DEFAULT_MAX_HALVES,
    kernel::Kernel,
    runtimes::{Labels, engine::Engine},
    testing::{
        aggregator::{Aggregator, Manner},
        client_key,
        engine::{FakeEngine, event, id, listed},
        eventually,
        pki::Pki,
        receiver::{Receiver, Value},
        source::FakeSource,
    },
};

const BYTES: Counter = Counter::BytesSent;

/// An agent and its aggregators.
struct Setup {
    aggregator: Aggregator,
    others: Vec<Aggregator>,
    stop: oneshot::Sender<()>,
    agent: JoinHandle<anyhow::Result<()>>,
    http: std::net::SocketAddr,
    _pki: Pki,
}

impl Setup {
    async fn new<S: Source + 'static>(
        cgroup: CgroupFs,
        manners: Vec<Manner>,
        load: impl FnOnce() -> anyhow::Result<S> + Send + 'static,
    ) -> Self {
        Self::among(cgroup, vec![manners], Vec::new(), load).await
    }

    /// With an aggregator for each list of manners, and these to ask for names.
    async fn among<S: Source + 'static>(
        cgroup: CgroupFs,
        manners: Vec<Vec<Manner>>,
        container_engines: Vec<Engine>,
        load: impl FnOnce() -> anyhow::Result<S> + Send + 'static,
    ) -> Self {
        let pki = Pki::new();
        let mut others = Vec::new();
        for manners in manners {
            others.push(Aggregator::start(&pki, manners, Receiver::default()).await);
        }
        let aggregators = others.iter().map(Aggregator::address).collect();
        let aggregator = others.remove(0);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let http = listener.local_addr().unwrap();
        let file = |name| pki.path().join(name);
        let config = Config {
            aggregators,
            node: "n1".to_owned(),
            cgroup,
            interval: Duration::from_millis(50),
            max_halves: DEFAULT_MAX_HALVES,
            queue_max_bytes: 1 << 20,
            spool_dir: None,
            pin_dir: None,
            container_engines,
            container_states: Vec::new(),
            kubernetes: None,
            container_labels: Labels::default(),
            spool_max_bytes: 1 << 20,
            tls: proto::tls::Files {
                ca: file("ca.crt"),
                cert: file("node.crt"),
                key: file("node.key"),
            },
            metrics_listen: http,
            record: None,
            log: String::new(),
        };
        let (stop, stopped) = oneshot::channel();
        let agent = tokio::spawn(run(config, load, listener, async move {
            let _ = stopped.await;
        }));
        Self { aggregator, others, stop, agent, http, _pki: pki }
    }

    fn counted(&self, counter: Counter) -> u64 {
        counted(&self.aggregator, counter)
    }

    /// Status line and body of an answer.
    async fn get(&self, path: &'static str) -> (String, String) {
        let address = self.http;
        let ask = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.lines().next().unwrap().to_owned(), body.to_owned())
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    async fn stop(self) -> (Aggregator, anyhow::Result<()>) {
        self.stop.send(()).unwrap();
        let ended = timeout(Duration::from_secs(20), self.agent).await.unwrap().unwrap();
        (self.aggregator, ended)
    }
}

fn counted(aggregator: &Aggregator, counter: Counter) -> u64 {
    let receiver = aggregator.receiver();
    let values = receiver.counted.values();
    values.filter_map(|values| values.get(&Value::Counter(counter))).sum()
}

fn top_cgroup() -> Option<CgroupFs> {
    CgroupFs::default_root().inspect_err(|_| crate::testing::skipped("no cgroup v2 here")).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_reach_the_aggregator_through_bad_streams_and_a_shutdown() {
    let Some(cgroup) = top_cgroup() else { return };
    let source = FakeSource::new();
    let kernel = source.handle();
    let key = client_key(0, "10.0.0.2", 80);
    kernel.count(0, key, Counter::BytesSent, 5);
    let manners = vec![Manner::Closes, Manner::Refuses];
    let setup = Setup::new(cgroup, manners, move || Ok(source)).await;
    eventually("the first bytes", || setup.counted(Counter::BytesSent) == 5).await;
    {
        let receiver = setup.aggregator.receiver();
        let half = receiver.counted.keys().next().unwrap();
        assert_eq!((half.workload.kind, half.workload.name.as_str()), (WorkloadKind::Host, "n1"));
    }
    let (status, _) = setup.get("/healthz").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let (_, metrics) = setup.get("/metrics").await;
    assert!(metrics.contains("weft_agent_connected 1\n"), "{metrics}");
    kernel.count(0, key, Counter::BytesSent, 6);
    let (aggregator, ended) = setup.stop().await;
    ended.unwrap();
    let receiver = aggregator.receiver();
    let bytes = receiver.counted.values().next().unwrap()[&Value::Counter(Counter::BytesSent)];
    assert_eq!(bytes, 11, "the last bytes went out with the shutdown");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_aggregators_counts_everything_once() {
    let Some(cgroup) = top_cgroup() else { return };
    let source = FakeSource::new();
    let kernel = source.handle();
    let key = client_key(0, "10.0.0.2", 80);
    let mut truth = 0;
    let mut count = || {
        kernel.count(0, key, Counter::BytesSent, 7);
        truth += 7;
        truth
    };
    // The first one goes after some batches, and comes back when it is asked for the second time.
    let manners = vec![vec![Manner::Leaves(3), Manner::Refuses], Vec::new()];
    let setup = Setup::among(cgroup, manners, Vec::new(), move || Ok(source)).await;
    let second = &setup.others[0];
    eventually("the second to take over", || count() > 0 && counted(second, BYTES) > 0).await;
    let first = setup.counted(BYTES);
    let told = count();
    eventually("all bytes at the second", || counted(second, BYTES) == told).await;
    eventually("the first to come back", || count() > 0 && setup.counted(BYTES) > first).await;
    let told = count();
    eventually("all bytes at the first", || setup.counted(BYTES) == told).await;
    let (aggregator, ended) = setup.stop().await;
    ended.unwrap();
    assert_eq!(counted(&aggregator, BYTES), told);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_engine_calls_its_containers_reaches_every_aggregator() {
    let Some(cgroup) = top_cgroup() else { return };
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let engine = FakeEngine::start(&socket);
    engine.state().running = vec![listed(&id("a1"), "db")];
    let engines =
        vec![Engine { socket: socket.clone(), expected: true, labels: Labels::default() }];
    let source = FakeSource::new();
    let kernel = source.handle();
    // The first one goes after more batches than there are before something is counted; the other has heard of no name
    // until then.
    let manners = vec![vec![Manner::Leaves(20), Manner::Refuses], Vec::new()];
    let setup = Setup::among(cgroup, manners, engines, move || Ok(source)).await;
    let names = |aggregator: &Aggregator| {
        let names = aggregator.receiver().names.clone();
        names.into_values().map(|called| called.name).collect::<Vec<_>>()
    };
    eventually("a name", || names(&setup.aggregator).contains(&"db".to_owned())).await;
    let short = event("start", &id("b2"), "quick", 1) + &event("die", &id("b2"), "quick", 1);
    engine.send(short);
    let second = &setup.others[0];
    let key = client_key(0, "10.0.0.2", 80);
    let both = ["db", "quick"].map(str::to_owned);
    let at_the_second = || {
        kernel.count(0, key, Counter::BytesSent, 7);
        let names = names(second);
        both.iter().all(|name| names.contains(name))
    };
    eventually("both names at the second", at_the_second).await;
    drop(engine);
    let engine = FakeEngine::start(&socket);
    engine.state().running = vec![listed(&id("c3"), "late")];
    let anywhere = || [&setup.aggregator, second].map(names).concat().contains(&"late".to_owned());
    eventually("a name after a restart", anywhere).await;
    // As of the last interval.
    while !setup.get("/metrics").await.1.contains("weft_agent_container_names 3\n") {}
    setup.stop().await.1.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_programs_do_not_load_ends_with_the_reason() {
    let Some(cgroup) = top_cgroup() else { return };
    let load = || -> anyhow::Result<FakeSource> { anyhow::bail!("not permitted") };
    let setup = Setup::new(cgroup, Vec::new(), load).await;
    let ended = timeout(Duration::from_secs(20), setup.agent).await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().to_string(), "not permitted");
}

#[tokio::test(flavor = "multi_thread")]
async fn until_the_programs_are_attached_the_agent_is_not_healthy() {
    let Some(cgroup) = top_cgroup() else { return };
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let load = move || {
        wait.recv()?;
        Ok(FakeSource::new())
    };
    let setup = Setup::new(cgroup, Vec::new(), load).await;
    assert_eq!(setup.get("/healthz").await.0, "HTTP/1.1 503 Service Unavailable");
    go.send(()).unwrap();
    let mut healthy = false;
    while !healthy {
        healthy = setup.get("/healthz").await.0 == "HTTP/1.1 200 OK";
    }
    setup.stop().await.1.unwrap();
}

/// A cgroup that is removed at the end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(top: &Path) -> std::io::Result<Self> {
        let path = top.join(format!("weft-agent-test-{}", std::process::id()));
        std::fs::create_dir(&path).map(|()| Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Echoes one line to each of a number of clients, and says how many bytes came. The last one is kept until `go`
/// comes, or its sender is gone.
fn echo(
    listener: StdListener,
    clients: usize,
    go: std::sync::mpsc::Receiver<()>,
) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut bytes = 0;
        for client in 1..=clients {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            bytes += line.len() as u64;
            (&stream).write_all(line.as_bytes()).unwrap();
            if client == clients {
                let _ = go.recv();
            }
            stream.shutdown(Shutdown::Write).unwrap();
            std::io::copy(&mut &stream, &mut std::io::sink()).unwrap();
        }
        bytes
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_kernel_counts_a_script_exactly() {
    let Some(top) = top_cgroup() else { return };
    let Ok(cgroup) = Cgroup::new(top.dir()) else {
        return crate::testing::skipped("cgroups cannot be made here: not root?");
    };
    let watched = CgroupFs::at(&cgroup.0).unwrap();
    let directory = cgroup.0.clone();
    let setup =
        Setup::new(watched, Vec::new(), move || Kernel::load(&directory, DEFAULT_MAX_HALVES, None))
            .await;
    eventually("a stream", || !setup.aggregator.receiver().status.programs.is_empty()).await;

    let listener = StdListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (go, wait) = std::sync::mpsc::channel();
    let server = echo(listener, 3, wait);
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("shopper.sh");
    let text = format!(
        "for n in 1 22 333; do exec 3<>/dev/tcp/127.0.0.1/{port}; echo $n >&3; cat <&3; exec 3>&-; done\n"
    );
    std::fs::write(&script, text).unwrap();
    let join = "echo $$ > \"$0\"/cgroup.procs; exec bash \"$1\"";
    let mut shopper = Command::new("bash")
        .args(["-c", join])
        .args([&cgroup.0, &script])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Of a process that is gone before anybody could look, only the interpreter's name would be known.
    eventually("a name", || !setup.aggregator.receiver().counted.is_empty()).await;
    drop(go);
    assert!(shopper.wait().unwrap().success());
    let bytes = server.join().unwrap();
    assert_eq!(bytes, 9);
    eventually("all connections closed", || setup.counted(Counter::Closed) == 3).await;
    assert_eq!(setup.counted(Counter::Connections), 3);
    assert_eq!(setup.counted(Counter::BytesSent), bytes);
    assert_eq!(setup.counted(Counter::BytesReceived), bytes);
    {
        let receiver = setup.aggregator.receiver();
        assert_eq!(receiver.counted.len(), 1, "{:?}", receiver.counted.keys());
        let half = receiver.counted.keys().next().unwrap();
        assert_eq!(half.workload.kind, WorkloadKind::Process);
        assert_eq!((half.workload.name.as_str(), half.server_port), ("shopper.sh", port));
    }
    setup.stop().await.1.unwrap();
}
