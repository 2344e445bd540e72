//! What containers are called: heard from their runtimes, and asked for.

use std::sync::mpsc::TrySendError;

use tokio::{sync::mpsc, time::Instant};

use super::Collector;
use crate::{
    owners::NewContainer,
    runtimes::{Told, kubernetes::InPod},
    source::Source,
};

/// Containers that wait to be asked for; a host runs a few hundred.
const MOST_UNASKED: usize = 2_048;

impl<S: Source> Collector<S> {
    /// Takes over what a runtime has told; `None` when none does any more.
    pub(super) fn hear_names(&mut self, news: Option<Told>) {
        let Some(news) = news else {
            self.runtimes = None;
            return;
        };
        let now = Instant::now();
        self.report.hear_names(news, now.into_std());
        self.early.arm(now);
    }

    /// Asks for the names of containers that are new: whoever knows pods of all that are in one, since only it knows whose
    /// that is, and whoever looks into files of those of which no source has said anything by itself.
    pub(super) fn ask_for_names(&mut self) {
        if self.unnamed.is_none() && self.pods.is_none() {
            return;
        }
        let names = self.report.container_names();
        let mut unasked = std::mem::take(&mut self.unasked);
        unasked.extend(self.owners.take_containers());
        // When whoever is asked is busy, at the next look.
        unasked.retain_mut(|NewContainer { name, pod }| {
            let is_answered = |pod: &mut String| {
                let asked = InPod { container: name.clone(), pod: pod.clone() };
                self.pods.as_ref().is_none_or(|pods| pods.ask(asked))
            };
            pod.take_if(is_answered);
            let is_full = self.unnamed.as_ref().is_some_and(|unnamed| {
                let sent = (!names.knows(name)).then(|| unnamed.try_send(name.clone()));
                matches!(sent, Some(Err(TrySendError::Full(_))))
            });
            pod.is_some() || is_full
        });
        unasked.truncate(MOST_UNASKED);
        self.unasked = unasked;
    }
}

/// What a runtime tells next, `None` when there is none any more; never ready when that is known.
pub(super) async fn news(runtimes: Option<&mut mpsc::Receiver<Told>>) -> Option<Told> {
    match runtimes {
        Some(runtimes) => runtimes.recv().await,
        None => std::future::pending().await,
    }
}
