//! What containers are called: heard from their runtimes, and asked for.

use std::sync::mpsc::TrySendError;

use tokio::{sync::mpsc, time::Instant};

use super::Collector;
use crate::{runtimes::Told, source::Source};

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

    /// Asks for the names of containers that are new, and of which no source has said anything by itself.
    pub(super) fn ask_for_names(&mut self) {
        let Some(unnamed) = &self.unnamed else { return };
        let names = self.report.container_names();
        let mut unasked = std::mem::take(&mut self.unasked);
        unasked.extend(self.owners.take_containers());
        // When whoever looks is busy, at the next look.
        let is_full = |container: &String| {
            let sent = unnamed.try_send(container.clone());
            matches!(sent, Err(TrySendError::Full(_)))
        };
        unasked.retain(|container| !names.knows(container) && is_full(container));
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
