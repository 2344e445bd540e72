//! Pods of this node, as the API server of Kubernetes tells of them.
//!
//! Only those of the node are asked for, by `spec.nodeName`: a list, then a watch. A container's name is known by the id
//! in the pod's status, and before that by the pod's own id, which is in the path of the container's cgroup.

mod owner;
pub(super) mod pod;
mod pods;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kubernetes::{Access, Collection, Event, RequestError, Watch, WatchError};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{interval, timeout},
};

use super::{Labels, Source, Told};
use crate::{
    metrics::Metrics,
    source::{Program, ProgramState},
};
pub(super) use owner::Owner;
use pod::Pod;
use pods::{MOST_PODS, Pods};

/// Containers that are asked for and not looked for yet; the collector asks again for what has no place.
const ASKED_WAITING: usize = 256;

/// What the server has said and is not taken in yet.
const HEARD_WAITING: usize = 16;

/// Pods to a page: one is some ten thousand bytes, nearly all of which is not read, and the agent is to stay small.
const PAGE: u32 = 100;

/// How often it is looked who has been gone for long.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// What is lost without it.
const LOST: &str = "names of pods and of their owners";

/// Where pods are asked for, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// The API server.
    pub access: Access,
    /// What this node is called there.
    pub node: String,
    /// Labels that are told besides ours.
    pub labels: Labels,
}

/// A container in the cgroup of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPod {
    /// As the kernel's view names it.
    pub container: String,
    /// The pod's id, as in the cgroup's path.
    pub pod: String,
}

/// How to reach whoever listens to the server.
#[derive(Clone, Debug)]
pub struct PodNames {
    ask: mpsc::Sender<InPod>,
    state: Arc<Mutex<Program>>,
}

impl PodNames {
    /// Asks whose a container is; whether there was room for the question, or nobody answers any more.
    #[must_use]
    pub fn ask(&self, asked: InPod) -> bool {
        !matches!(self.ask.try_send(asked), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Whether the server answers, as of a kernel program.
    #[must_use]
    pub fn program(&self) -> Program {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn program(state: ProgramState, reason: String) -> Program {
    Program { name: "kubernetes", state, reason, lost_without: LOST, essential: false }
}

/// What is needed to listen.
#[derive(Debug)]
pub struct Listening {
    settings: Kubernetes,
    asked: mpsc::Receiver<InPod>,
    state: Arc<Mutex<Program>>,
}

/// What was last said of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Up,
    Down,
    Forbidden,
}

impl Kubernetes {
    /// Both ends of it.
    #[must_use]
    pub fn prepare(self) -> (PodNames, Listening) {
        let (ask, asked) = mpsc::channel(ASKED_WAITING);
        let state = program(ProgramState::Off, "the server has not answered yet".to_owned());
        let state = Arc::new(Mutex::new(state));
        (PodNames { ask, state: Arc::clone(&state) }, Listening { settings: self, asked, state })
    }

    fn watch(&self) -> Watch<Pod> {
        let collection = Collection {
            path: "/api/v1/pods".to_owned(),
            field_selector: Some(format!("spec.nodeName={}", self.node)),
            page: PAGE,
            most: MOST_PODS,
        };
        Watch::new(self.access.clone(), collection)
    }

    /// How many pods the server knows of this node, for the doctor.
    ///
    /// # Errors
    /// When it does not say so.
    pub(crate) fn count(&self, limit: Duration) -> anyhow::Result<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listed = runtime.block_on(async { timeout(limit, self.watch().next()).await });
        match listed?? {
            Event::Restarted(pods) => Ok(pods.len()),
            other => Err(anyhow::anyhow!("it begins with {other:?}")),
        }
    }
}

impl Listening {
    /// Tells what it learns, for as long as the collector listens.
    pub(super) async fn listen(mut self, told: mpsc::Sender<Told>, metrics: Metrics) {
        let (heard, mut hearing) = mpsc::channel(HEARD_WAITING);
        let mut watch = self.settings.watch();
        // Ends with this: a task of its own, so that a question does not make it begin a list anew.
        let mut watching = JoinSet::new();
        watching.spawn(async move { while heard.send(watch.next().await).await.is_ok() {} });
        let mut pods = Pods::new(self.settings.labels.clone());
        let (mut said, mut tidy) = (Said::Nothing, interval(TIDY_EVERY));
        let mut is_asked = true;
        loop {
            let news = tokio::select! {
                next = hearing.recv() => match next {
                    Some(Ok(event)) => {
                        self.well(&mut said, &metrics);
                        pods.take(event, Instant::now())
                    }
                    Some(Err(error)) => {
                        self.say(&error, &mut said, &metrics);
                        Vec::new()
                    }
                    None => return,
                },
                asked = self.asked.recv(), if is_asked => match asked {
                    Some(InPod { container, pod }) => {
                        pods.ask(container, pod, Instant::now()).into_iter().collect()
                    }
                    None => {
                        is_asked = false;
                        Vec::new()
                    }
                },
                _ = tidy.tick() => {
                    pods.forget(Instant::now());
                    Vec::new()
                }
            };
            metrics.kubernetes_unreadable.inc_by(pods.take_refused());
            metrics.kubernetes_pods.set(pods.len() as i64);
            for news in news {
                let told = told.send(Told { source: Source::Kubernetes, news });
                if told.await.is_err() {
                    return;
                }
            }
        }
    }

    fn well(&self, said: &mut Said, metrics: &Metrics) {
        let before = std::mem::replace(said, Said::Up);
        let server = &self.settings.access;
        match before {
            Said::Up => return,
            Said::Nothing => {
                let node = &self.settings.node;
                tracing::info!(%server, node, "pods are named by the API server");
            }
            Said::Down | Said::Forbidden => tracing::info!(%server, "the API server answers again"),
        }
        metrics.kubernetes_connected.set(1);
        self.note(program(ProgramState::Attached, String::new()));
    }

    /// One line for each change. What is normal, or spoils one object only, is counted and no more.
    fn say(&self, error: &WatchError, said: &mut Said, metrics: &Metrics) {
        match error {
            WatchError::Unreadable(objects) => {
                metrics.kubernetes_unreadable.inc_by(*objects);
                return;
            }
            WatchError::Expired => return,
            _ => metrics.kubernetes_failures.inc(),
        }
        metrics.kubernetes_connected.set(0);
        self.note(program(ProgramState::Failed, error.to_string()));
        let is_forbidden = matches!(error, WatchError::Request(RequestError::Forbidden(_)));
        let now = if is_forbidden { Said::Forbidden } else { Said::Down };
        if *said == now || *said == Said::Forbidden {
            return;
        }
        *said = now;
        let server = &self.settings.access;
        if is_forbidden {
            tracing::warn!(
                %server, %error,
                "the agent's account may not list and watch pods: see the ClusterRole in \
                 deploy/kubernetes/agent.yaml; pods go by what else is known of them"
            );
        } else {
            tracing::warn!(%server, %error, "the API server does not answer: it names no new pods");
        }
    }

    fn note(&self, program: Program) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = program;
    }
}

/// What follows from pods that come in this order, one of three of which goes; each is asked for before and after.
pub(super) fn fuzzing(all: Vec<Pod>) -> Vec<super::News> {
    let (mut pods, now) = (Pods::new(Labels::new(vec!["*".to_owned()])), Instant::now());
    let mut news = Vec::new();
    for (number, pod) in all.into_iter().enumerate() {
        let (uid, container) = (pod.uid().to_owned(), format!("{number:012}"));
        news.extend(pods.ask(container.clone(), uid.clone(), now));
        news.extend(pods.take(
            match number % 3 {
                0 => Event::Applied(pod),
                1 => Event::Restarted(vec![pod]),
                _ => Event::Deleted(pod),
            },
            now,
        ));
        news.extend(pods.ask(container, uid, now));
    }
    news
}

#[cfg(test)]
mod tests;
