//! Watches one kind of objects. While that does not work, what was known holds, and says so.

use kubernetes::{Access, Collection, Event, Watch, WatchError};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use topology::ClusterChange;

use super::objects::Told;
use crate::state::Shared;

/// How well the API server is heard.
#[derive(Default)]
struct Hearing {
    /// It was said that it is not.
    failing: bool,
    /// What was missed while it was not, may still be to come.
    missed: bool,
}

/// Watches objects of a kind until it is stopping.
pub(super) async fn run<T: Told + DeserializeOwned>(
    access: Access,
    shared: &Shared,
    mut stopping: watch::Receiver<bool>,
) {
    let mut watch = Watch::<T>::new(access, Collection::all(T::PATH));
    let mut hearing = Hearing::default();
    loop {
        let event = tokio::select! {
            event = watch.next() => event,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        shared.held().soon().await;
        take(shared, event, &mut hearing);
    }
}

fn take<T: Told>(shared: &Shared, event: Result<Event<T>, WatchError>, hearing: &mut Hearing) {
    let (kind, metrics) = (T::KIND, &shared.metrics.kubernetes);
    let of = |vec: &prometheus::IntCounterVec| vec.with_label_values(&[kind.name()]);
    let change = |object: T| {
        let change = object.told();
        if change.is_none() {
            of(&metrics.unreadable).inc();
        }
        change
    };
    let one = |change: Option<ClusterChange>| {
        if let Some(change) = change {
            let now = shared.now();
            shared.core().cluster_changed(vec![change], now);
        }
    };
    let caught_up = match event {
        Ok(Event::Restarted(objects)) => {
            of(&metrics.lists).inc();
            let objects = objects.into_iter().filter_map(change).collect();
            let now = shared.now();
            shared.core().cluster_listed(kind, objects, now);
            true
        }
        Ok(Event::Applied(object)) => {
            one(change(object));
            false
        }
        Ok(Event::Deleted(object)) => {
            one(change(object).map(|last| ClusterChange::gone(kind, last.name().clone())));
            false
        }
        Ok(Event::Bookmark) => true,
        // A watch that came to its end has told what was missed before it, whether or not it had bookmarks.
        Ok(Event::Watching) => !std::mem::take(&mut hearing.missed),
        Err(WatchError::Unreadable(count)) => {
            tracing::warn!(kind = kind.name(), count, "objects of Kubernetes cannot be read");
            of(&metrics.unreadable).inc_by(count);
            return;
        }
        Err(error) => {
            of(&metrics.failures).inc();
            metrics.watching.with_label_values(&[kind.name()]).set(0);
            let now = shared.now();
            hearing.missed = true;
            shared.core().cluster_lost(kind, now.minus(error.unheard()), now);
            if !std::mem::replace(&mut hearing.failing, true) {
                let kind = kind.name();
                tracing::warn!(
                    kind,
                    "what Kubernetes says is not heard, and what it said last holds: {error}"
                );
            }
            return;
        }
    };
    if caught_up {
        hearing.missed = false;
        let now = shared.now();
        shared.core().cluster_watched(kind, now);
    }
    metrics.watching.with_label_values(&[kind.name()]).set(1);
    if std::mem::take(&mut hearing.failing) {
        tracing::info!(kind = kind.name(), "what Kubernetes says is heard again");
    }
}
