//! Watches one kind of objects. While that does not work, what was known holds, and says so.

use kubernetes::{Access, Collection, Event, Watch, WatchError};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use topology::ClusterChange;

use super::objects::Told;
use crate::state::Shared;

/// Watches objects of a kind until it is stopping.
pub(super) async fn run<T: Told + DeserializeOwned>(
    access: Access,
    shared: &Shared,
    mut stopping: watch::Receiver<bool>,
) {
    let mut watch = Watch::<T>::new(access, Collection::all(T::PATH));
    let mut failing = false;
    loop {
        let event = tokio::select! {
            event = watch.next() => event,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        take(shared, event, &mut failing);
    }
}

fn take<T: Told>(shared: &Shared, event: Result<Event<T>, WatchError>, failing: &mut bool) {
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
    match event {
        Ok(Event::Restarted(objects)) => {
            of(&metrics.lists).inc();
            let objects = objects.into_iter().filter_map(change).collect();
            let now = shared.now();
            shared.core().cluster_listed(kind, objects, now);
        }
        Ok(Event::Applied(object)) => one(change(object)),
        Ok(Event::Deleted(object)) => {
            one(change(object).map(|last| ClusterChange::gone(kind, last.name().clone())));
        }
        Ok(Event::Watching) => {}
        Err(WatchError::Unreadable(count)) => {
            tracing::warn!(kind = kind.name(), count, "objects of Kubernetes cannot be read");
            of(&metrics.unreadable).inc_by(count);
            return;
        }
        Err(error) => {
            of(&metrics.failures).inc();
            metrics.watching.with_label_values(&[kind.name()]).set(0);
            let now = shared.now();
            shared.core().cluster_lost(kind, now.minus(error.unheard()), now);
            if !std::mem::replace(failing, true) {
                let kind = kind.name();
                tracing::warn!(
                    kind,
                    "what Kubernetes says is not heard, and what it said last holds: {error}"
                );
            }
            return;
        }
    }
    let now = shared.now();
    shared.core().cluster_watched(kind, now);
    metrics.watching.with_label_values(&[kind.name()]).set(1);
    if std::mem::take(failing) {
        tracing::info!(kind = kind.name(), "what Kubernetes says is heard again");
    }
}
