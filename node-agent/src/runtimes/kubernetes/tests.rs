use testbed::apiserver::{ApiServer, Gone, recorded};
use tokio::task::JoinHandle;

use super::*;
use crate::runtimes::{NEWS_WAITING, Names, Runtimes};

/// As long as a busy machine may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A server, and who listens to it.
struct Setup {
    server: ApiServer,
    news: mpsc::Receiver<Told>,
    metrics: Metrics,
    names: Names,
    pods: PodNames,
    listening: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Setup {
    fn new(change: impl FnOnce(&ApiServer)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = ApiServer::start(None, dir.path(), "one").unwrap();
        change(&server);
        let access = Access::at(&server.url(), Some(&server.ca()), Some(&server.token())).unwrap();
        let (node, labels) = ("one".to_owned(), Labels::default());
        let (pods, listening) = Kubernetes { access, node, labels }.prepare();
        let (told, news) = mpsc::channel(NEWS_WAITING);
        let metrics = Metrics::new().unwrap();
        let runtimes = Runtimes { engines: Vec::new(), kubernetes: Some(listening) };
        let never = std::future::pending();
        let listening = tokio::spawn(runtimes.run(told, metrics.clone(), never));
        Self { server, news, metrics, names: Names::default(), pods, listening, _dir: dir }
    }

    /// Takes in news until a container is called so: its owner, and its name within the pod.
    async fn until_called(&mut self, digits: &str, owner: &str, container: &str) {
        let (id, expected) = (digits.repeat(6), (owner.to_owned(), container.to_owned()));
        while self.called(&id).as_ref() != Some(&expected) {
            let told = timeout(LIMIT, self.news.recv()).await;
            let told = told.unwrap_or_else(|_| panic!("{digits} is never {expected:?}"));
            self.names.take(told.expect("a source"), Instant::now());
        }
    }

    fn called(&self, id: &str) -> Option<(String, String)> {
        let found = self.names.all().find(|name| name.container == id)?;
        let label = |key| found.called.labels.get(key).cloned().unwrap_or_default();
        Some((label("owner"), label("container")))
    }

    /// Takes in news until something holds.
    async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds(self) {
            assert!(Instant::now() < deadline, "never: {what}; {:?}", self.pods.program());
            if let Ok(told) = timeout(Duration::from_millis(20), self.news.recv()).await {
                self.names.take(told.expect("a source"), Instant::now());
            }
        }
    }

    fn watches(&self) -> Vec<String> {
        let state = self.server.state();
        let watches = state.asked.iter().filter(|asked| asked.is_watch());
        watches.map(|asked| asked.of("resourceVersion").to_owned()).collect()
    }

    fn lists(&self) -> usize {
        self.server.state().asked.iter().filter(|asked| !asked.is_watch()).count()
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

#[tokio::test]
async fn pods_of_the_node_are_named_as_they_come_and_go() {
    let mut setup = Setup::new(|_| {});
    setup.until_called("a1", "web", "nginx").await;
    setup.until_called("c0", "db", "postgres").await;
    // Before its status says a word of it, by the pod's id; a question may come first.
    let asked = InPod { container: "f1".repeat(6), pod: recorded::pod(6) };
    assert!(setup.pods.ask(asked));
    setup.server.happen(recorded::JOB_ADDED);
    setup.until_called("f1", "report", "").await;
    setup.server.happen(recorded::JOB_RUNNING);
    setup.until_called("f1", "report", "report").await;
    setup.server.happen(recorded::JOB_ENDED);
    // One that takes the place of another, with its address.
    setup.server.happen(recorded::WEB_DELETED);
    setup.server.happen(recorded::WEB_REPLACED);
    setup.until_called("b7", "web", "nginx").await;
    setup.until_called("b1", "web", "nginx").await;
    assert_eq!(setup.pods.program().state, ProgramState::Attached);
    assert_eq!(setup.metrics.kubernetes_connected.get(), 1);
    assert_eq!(setup.metrics.kubernetes_pods.get(), 6);
    assert_eq!(setup.metrics.kubernetes_failures.get(), 0);
    assert_eq!(setup.watches(), ["49900"]);
}

#[tokio::test]
async fn what_is_missed_while_it_breaks_off_is_heard_afterwards() {
    let mut setup = Setup::new(|_| {});
    setup.until("a watch", |setup| setup.server.watching() == 1).await;
    setup.server.happen(recorded::BOOKMARK);
    setup.server.happen(recorded::WEB_REPLACED);
    setup.until_called("b7", "web", "nginx").await;
    // In the middle of a line, and of what is not JSON.
    setup.server.send(&recorded::JOB_RUNNING.as_bytes()[..900]);
    setup.server.cut();
    setup.until("another watch", |setup| setup.watches().len() == 2).await;
    setup.until("it to be known", |setup| setup.metrics.kubernetes_connected.get() == 1).await;
    setup.server.send(b"garbage\n{\"type\":\"ADDED\",\"object\":{\"metadata\":7}}\n");
    let later = recorded::JOB_RUNNING.replace("\"50020\"", "\"50220\"");
    setup.server.happen(&later);
    setup.until_called("f1", "report", "report").await;
    setup.server.end_watches();
    setup.until("a third watch", |setup| setup.watches().len() == 3).await;
    // The version of what came last, be it a bookmark or a pod.
    assert_eq!(setup.watches(), ["49900", "50110", "50220"]);
    assert_eq!(setup.lists(), 1);
    assert_eq!(setup.metrics.kubernetes_unreadable.get(), 2);
    assert!(setup.metrics.kubernetes_failures.get() >= 1);
}

#[tokio::test]
async fn what_the_server_has_forgotten_is_listed_anew() {
    for gone in [Gone::Event, Gone::Status] {
        let mut setup = Setup::new(|_| {});
        setup.until_called("b1", "web", "nginx").await;
        setup.until("a watch", |setup| setup.server.watching() == 1).await;
        {
            let mut state = setup.server.state();
            (state.oldest, state.gone) = (60_000, gone);
            let moved = |page: &String| page.replace("\"49900\"", "\"60000\"");
            let pages = &mut state.kinds[0].pages;
            *pages = pages.iter().map(moved).collect();
            // One has gone meanwhile, another has taken its place.
            pages[1] = pages[1].replace(&recorded::container("b1"), &recorded::container("b8"));
        }
        setup.server.cut();
        setup.until_called("b8", "web", "nginx").await;
        setup.until("another watch", |setup| setup.watches().last().unwrap() == "60000").await;
        assert_eq!(setup.lists(), 3, "at once, then in two pages");
        let asked = setup.server.state().asked.clone();
        let of_now = asked.iter().filter(|asked| asked.of("limit") == "100").nth(1).unwrap();
        assert_eq!(of_now.of("resourceVersion"), "", "not what it had in memory: {gone:?}");
    }
}

#[tokio::test]
async fn a_list_that_is_too_long_at_once_is_read_in_pages() {
    let mut setup = Setup::new(|server| {
        // Of which two fit into one answer no more.
        let long = format!("\"items\":[{{\"padding\":\"{}\"}},", "x".repeat(17 << 20));
        let pad = |page: &mut String| *page = page.replacen("\"items\":[", &long, 1);
        server.state().kinds[0].pages.iter_mut().for_each(pad);
    });
    setup.until_called("a1", "web", "nginx").await;
    setup.until_called("b1", "web", "nginx").await;
    setup.until("a watch", |setup| setup.server.watching() == 1).await;
    assert_eq!(setup.lists(), 3, "at once, then in two pages");
    assert_eq!(setup.pods.program().state, ProgramState::Attached);
}

#[tokio::test]
async fn a_token_that_changes_is_read_again() {
    let mut setup = Setup::new(|_| {});
    setup.until("a watch", |setup| setup.server.watching() == 1).await;
    setup.server.state().token = "second".to_owned();
    setup.server.cut();
    let refused = |setup: &Setup| setup.server.state().asked.iter().any(|one| one.status == 401);
    setup.until("a refusal", refused).await;
    let is_said = |setup: &Setup| setup.pods.program().reason.contains("(401)");
    setup.until("it to be said", is_said).await;
    setup.server.rotate_token("second").unwrap();
    setup.server.happen(recorded::WEB_REPLACED);
    setup.until_called("b7", "web", "nginx").await;
    assert_eq!(setup.lists(), 1, "it goes on where it was");
    assert_eq!(setup.pods.program().state, ProgramState::Attached);
}

#[tokio::test]
async fn who_may_not_ask_is_told_so_and_does_not_ask_without_end() {
    let mut setup = Setup::new(|server| {
        server.state().refuses = Some((403, recorded::FORBIDDEN.to_owned()));
    });
    setup.until("two refusals", |setup| setup.lists() >= 2).await;
    setup.until("it to be said", |setup| setup.pods.program().state == ProgramState::Failed).await;
    let program = setup.pods.program();
    assert!(program.reason.contains("pods is forbidden: User"), "{program:?}");
    assert_eq!(setup.metrics.kubernetes_connected.get(), 0);
    assert!(setup.metrics.kubernetes_failures.get() < 50);
    setup.server.state().refuses = None;
    setup.until_called("a1", "web", "nginx").await;
    assert_eq!(setup.pods.program().state, ProgramState::Attached);
}

#[test]
fn the_doctor_counts_pods_or_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = ApiServer::start(None, dir.path(), "one").unwrap();
    let access = Access::at(&server.url(), Some(&server.ca()), Some(&server.token())).unwrap();
    let asked = Kubernetes { access, node: "one".to_owned(), labels: Labels::default() };
    assert_eq!(asked.count(LIMIT).unwrap(), 5);
    server.state().token = "other".to_owned();
    assert!(asked.count(LIMIT).unwrap_err().to_string().contains("401"));
    // Somebody else's certificate.
    let other = tempfile::tempdir().unwrap();
    let stranger = ApiServer::start(None, other.path(), "one").unwrap();
    let access = Access::at(&server.url(), Some(&stranger.ca()), Some(&server.token())).unwrap();
    let error = Kubernetes { access, ..asked }.count(LIMIT).unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    assert!(stranger.state().asked.is_empty());
}

#[test]
fn what_is_recorded_goes_through_the_fuzz_target() {
    let events = [recorded::JOB_ADDED, recorded::JOB_ENDED, recorded::WEB_DELETED];
    for text in recorded::PODS.into_iter().chain([events.concat().as_str()]) {
        for cut in [1, 7, 250] {
            crate::fuzzing::kubernetes(&[&[cut], text.as_bytes()].concat());
        }
    }
}
