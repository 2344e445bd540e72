use std::{collections::BTreeMap, time::Duration};

use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::testing::engine::{FakeEngine, event, id, listed};

/// An engine, and who listens to it.
struct Setup {
    dir: tempfile::TempDir,
    engine: Option<FakeEngine>,
    news: mpsc::Receiver<Told>,
    metrics: Metrics,
    names: Names,
    /// What was told of names, in order.
    heard: Vec<(String, String)>,
    listening: JoinHandle<()>,
}

impl Setup {
    fn new(there: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let engine = there.then(|| FakeEngine::start(&socket));
        let (told, news) = mpsc::channel(NEWS_WAITING);
        let metrics = Metrics::new().unwrap();
        let engines = vec![Engine { socket, expected: true, labels: Labels::default() }];
        let never = std::future::pending();
        let listening =
            tokio::spawn(Runtimes { engines, kubernetes: None }.run(told, metrics.clone(), never));
        let (names, heard) = (Names::default(), Vec::new());
        Self { dir, engine, news, metrics, names, heard, listening }
    }

    fn engine(&self) -> &FakeEngine {
        self.engine.as_ref().unwrap()
    }

    fn start_engine(&mut self) {
        self.engine = Some(FakeEngine::start(&self.dir.path().join("docker.sock")));
    }

    /// Takes in news until something holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            let told = timeout(Duration::from_secs(60), self.news.recv()).await;
            let told = told.unwrap_or_else(|_| panic!("never: {what}; heard {:?}", self.heard));
            self.names.take(told.expect("a source"), std::time::Instant::now());
            let untold = self.names.take_untold(usize::MAX).into_iter();
            self.heard.extend(untold.map(|name| (name.container, name.called.name)));
        }
    }

    async fn until_heard(&mut self, container: &str, name: &str) {
        let wanted = (id(container)[..ID_DIGITS].to_owned(), name.to_owned());
        self.until(name, |setup| setup.heard.contains(&wanted)).await;
    }

    fn count(&self, line: &str) -> u64 {
        let text = String::from_utf8(self.metrics.render().unwrap()).unwrap();
        let found = text.lines().find(|known| known.starts_with(line));
        found.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }
}

#[tokio::test]
async fn what_runs_and_what_comes_is_named() {
    let mut setup = Setup::new(true);
    setup.engine().state().running = vec![listed(&id("a1"), "db"), "{}".to_owned()];
    setup.until_heard("a1", "db").await;
    let asked = setup.engine().state().asked.clone();
    assert!(asked[0].starts_with("/events?since=") && asked[1] == "/containers/json", "{asked:?}");
    assert!(asked[0].contains("%22die%22") && !asked[0].contains('"'), "{}", asked[0]);
    let engine = setup.engine();
    engine.send(event("create", &id("b2"), "web-1", 1));
    setup.until_heard("b2", "web-1").await;
    let named: BTreeMap<_, _> =
        setup.names.all().map(|name| (name.container, name.called)).collect();
    let web = &named[&id("b2")[..ID_DIGITS]];
    assert_eq!((web.namespace.as_str(), web.labels["compose.service"].as_str()), ("shop", "web"));
    // So short that only its end is heard of; and one that has another name now.
    setup.engine().send(event("die", &id("c3"), "short", 2) + &event("rename", &id("b2"), "x", 2));
    setup.until_heard("c3", "short").await;
    setup.until_heard("b2", "x").await;
    assert_eq!(setup.count("weft_agent_container_engine_connected"), 1);
    assert_eq!(setup.count("weft_agent_container_engine_unreadable_total"), 1);
    setup.listening.abort();
}

#[tokio::test]
async fn a_stream_in_pieces_with_garbage_in_it_names_all_the_same() {
    let mut setup = Setup::new(true);
    let engine = setup.engine.take().unwrap();
    crate::testing::eventually("a listener", || engine.listeners() == 1).await;
    let line = event("start", &id("a1"), "é-1", 1);
    for byte in line.as_bytes() {
        engine.send([*byte]);
        tokio::task::yield_now().await;
    }
    setup.until_heard("a1", "é-1").await;
    engine.send("garbage\n{\"Action\":\"start\",\n\n[1,2\n{}\n\u{1e}");
    engine.send(event("start", &id("b2"), "web", 1));
    setup.until_heard("b2", "web").await;
    assert_eq!(setup.count("weft_agent_container_engine_unreadable_total"), 4);
    setup.listening.abort();
}

#[tokio::test]
async fn after_a_break_nothing_is_missed() {
    let mut setup = Setup::new(true);
    setup.engine().state().running = vec![listed(&id("a1"), "db")];
    setup.until_heard("a1", "db").await;
    setup.engine().send(event("start", &id("b2"), "web", 1_000));
    setup.until_heard("b2", "web").await;
    // In the middle of a line.
    setup.engine().send(&event("start", &id("b2"), "other", 1_001)[..200]);
    setup.engine().cut();
    setup.engine().state().running.push(listed(&id("c3"), "new"));
    setup.until_heard("c3", "new").await;
    let asked = setup.engine().state().asked.clone();
    let events = asked.iter().rfind(|path| path.starts_with("/events")).unwrap();
    assert!(events.starts_with("/events?since=998&"), "from the last event on: {events}");
    // An engine that is restarted, and one that is in trouble.
    setup.engine = None;
    setup.start_engine();
    setup.engine().state().refuses = true;
    let refused = |setup: &Setup| !setup.engine().state().asked.is_empty();
    crate::testing::eventually("it to be asked", || refused(&setup)).await;
    {
        let mut state = setup.engine().state();
        state.refuses = false;
        state.running = vec![listed(&id("d4"), "late")];
    }
    setup.until_heard("d4", "late").await;
    assert!(setup.count("weft_agent_container_engine_failures_total") >= 3);
    setup.listening.abort();
}

#[tokio::test]
async fn an_engine_may_say_nothing_until_something_happens() {
    let mut setup = Setup::new(false);
    setup.start_engine();
    setup.engine().state().is_late = true;
    setup.engine().state().running = vec![listed(&id("a1"), "db")];
    setup.until_heard("a1", "db").await;
    setup.engine().send(event("start", &id("b2"), "web", 1));
    setup.until_heard("b2", "web").await;
    setup.listening.abort();
}

#[tokio::test]
async fn an_engine_may_come_later() {
    let mut setup = Setup::new(false);
    let failures = "weft_agent_container_engine_failures_total";
    crate::testing::eventually("a failure", || setup.count(failures) > 0).await;
    setup.start_engine();
    setup.engine().state().running = vec![listed(&id("a1"), "db")];
    setup.until_heard("a1", "db").await;
    setup.listening.abort();
}

#[tokio::test]
async fn an_engine_that_nobody_has_named_may_be_absent() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let (told, mut news) = mpsc::channel(1);
    let metrics = Metrics::new().unwrap();
    let engine = |expected| Engine { socket: socket.clone(), expected, labels: Labels::default() };
    let failures = |expected| {
        let (engines, told, metrics) = (vec![engine(expected)], told.clone(), metrics.clone());
        let enough = tokio::time::sleep(Duration::from_millis(300));
        let name = socket.display().to_string();
        async move {
            Runtimes { engines, kubernetes: None }.run(told, metrics.clone(), enough).await;
            metrics.engine_failures.with_label_values(&[&name]).get()
        }
    };
    assert_eq!(failures(false).await, 0);
    assert!(failures(true).await > 0);
    assert!(news.try_recv().is_err());
}

#[tokio::test]
async fn without_an_engine_nobody_is_waited_for() {
    let (told, mut news) = mpsc::channel(1);
    let never = std::future::pending();
    Runtimes::default().run(told, Metrics::new().unwrap(), never).await;
    assert!(news.recv().await.is_none());
}
