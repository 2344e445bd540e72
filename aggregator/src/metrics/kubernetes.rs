//! What is known of a cluster of Kubernetes.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};
use topology::{ClusterKind, Graph, Timestamp};

use super::Make;

/// How the watch of a cluster goes, by kind of object.
pub struct KubernetesMetrics {
    /// 1 while it is listened to.
    pub watching: IntGaugeVec,
    /// Objects that are known.
    objects: IntGaugeVec,
    /// For how long nobody has listened.
    unheard_seconds: IntGaugeVec,
    /// How often it did not go on.
    pub failures: IntCounterVec,
    /// How often everything was listed.
    pub lists: IntCounterVec,
    /// Objects that could not be read.
    pub unreadable: IntCounterVec,
    /// Objects that there was no room for.
    refused: IntCounter,
}

impl KubernetesMetrics {
    pub(super) fn new(made: &Make<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            watching: made.gauges(
                "kubernetes_watching",
                "1 while objects of the kind are watched; else what was said last holds.",
                &["kind"],
            )?,
            objects: made.gauges(
                "kubernetes_objects",
                "Objects of Kubernetes that are known.",
                &["kind"],
            )?,
            unheard_seconds: made.gauges(
                "kubernetes_unheard_seconds",
                "For how long it has not been known what becomes of objects of the kind.",
                &["kind"],
            )?,
            failures: made.counters(
                "kubernetes_failures_total",
                "Times that a list or a watch failed.",
                &["kind"],
            )?,
            lists: made.counters(
                "kubernetes_lists_total",
                "Times that all objects of the kind were listed.",
                &["kind"],
            )?,
            unreadable: made.counters(
                "kubernetes_unreadable_total",
                "Objects and events that could not be read, or were too many.",
                &["kind"],
            )?,
            refused: made.counter(
                "kubernetes_refused_total",
                "Times that an object was not taken in for lack of room.",
            )?,
        })
    }

    /// Takes over what the graph knows.
    pub fn set(&self, graph: &Graph, now: Timestamp) {
        for kind in ClusterKind::ALL {
            let (objects, lost) = graph.cluster_state(kind);
            let seconds = lost.map_or(0, |lost| now.since(lost).as_secs());
            for (gauge, value) in
                [(&self.objects, objects as u64), (&self.unheard_seconds, seconds)]
            {
                let gauge = gauge.with_label_values(&[kind.name()]);
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
        self.refused.inc_by(graph.cluster_refused().saturating_sub(self.refused.get()));
    }
}
