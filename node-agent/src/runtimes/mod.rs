//! What the runtimes of containers call them.
//!
//! The kernel's view knows a container by its id. Who made it knows more: a name, an image, a place in a project. Each
//! source of such names is a task beside the uplink that tells the collector what it learns, over one bounded
//! channel; [`Names`] holds what is known together, and the report tells it. A name never holds up a number: halves
//! are told by id, and what the id is called comes when it comes.

mod called;
pub mod engine;
pub mod files;
pub(crate) mod fuzzing;
pub mod kubernetes;
mod names;

use proto::convert::ContainerName;
use tokio::{sync::mpsc, task::JoinSet};

use crate::metrics::Metrics;
pub use called::Labels;
use engine::Engine;
pub use names::Names;

/// News waiting for the collector. When it is busy, sources wait.
pub const NEWS_WAITING: usize = 64;

/// Digits of a container's id that name it in the kernel's view.
pub const ID_DIGITS: usize = 12;

/// Who says what a container is called. Where several do, the greatest is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Files of runtimes that have no engine to ask.
    Files,
    /// An engine that answers as Docker does, by its place among those that are asked.
    Engine(usize),
    /// The API server of Kubernetes, which alone knows whose a pod is.
    Kubernetes,
}

/// What a source has learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A container that is there, or is about to be.
    Called(ContainerName),
    /// One that has ended. It may have been so short that this is the first that is heard of it.
    Ended(ContainerName),
    /// All that are there: what the source has told of and is not among them has ended.
    Running(Vec<ContainerName>),
}

/// News, and who has them.
#[derive(Clone, Debug)]
pub struct Told {
    /// Who.
    pub source: Source,
    /// What.
    pub news: News,
}

/// The sources of a node.
#[derive(Debug, Default)]
pub struct Runtimes {
    /// Engines to ask.
    pub engines: Vec<Engine>,
    /// The API server to listen to.
    pub kubernetes: Option<kubernetes::Listening>,
}

impl Runtimes {
    /// Listens to all of them until `shutdown` resolves or the collector is gone.
    pub async fn run(
        self,
        told: mpsc::Sender<Told>,
        metrics: Metrics,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut sources = JoinSet::new();
        for (number, engine) in self.engines.into_iter().enumerate() {
            let (told, metrics) = (told.clone(), metrics.clone());
            sources.spawn(async move {
                engine.listen(Source::Engine(number), told, metrics).await;
            });
        }
        if let Some(kubernetes) = self.kubernetes {
            sources.spawn(kubernetes.listen(told.clone(), metrics));
        }
        // Theirs alone keep the channel open, so that a node without any is not listened to.
        drop(told);
        let ended = async { while sources.join_next().await.is_some() {} };
        tokio::select! {
            () = ended => {}
            () = shutdown => {}
        }
    }
}

/// The name that a container has in the kernel's view, by its whole id.
fn short(id: &str) -> Option<&str> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    id.get(..ID_DIGITS).filter(|_| id.bytes().all(hex))
}

#[cfg(test)]
mod tests;
