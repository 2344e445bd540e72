//! What answers are made of, as JSON.

use std::collections::BTreeMap;

use common::HistogramKind;
use serde::Serialize;
use topology::{Coverage, EdgeTotals, Hole, Measure, ViewEdge, ViewNode, Window};
use utoipa::ToSchema;

use super::time::rfc3339;

/// A stretch of time, snapped outward to what is stored.
#[derive(Serialize, ToSchema)]
#[schema(as = Window)]
pub(super) struct WindowJson {
    pub(super) from: String,
    pub(super) to: String,
}

/// What the answer may be missing.
#[derive(Serialize, ToSchema)]
#[schema(as = Coverage)]
pub(super) struct CoverageJson {
    pub(super) complete: bool,
    pub(super) nodes_expected: usize,
    pub(super) nodes_reporting: usize,
    pub(super) nodes_silent: Vec<String>,
    pub(super) events_lost: u64,
    pub(super) batches_lost: u64,
    pub(super) inserts_refused: u64,
    pub(super) series_folded: u64,
    pub(super) edges_one_sided: usize,
    pub(super) history_from: String,
    /// Of a cluster of Kubernetes that is watched: which objects (`services`, `endpointslices`, `nodes`) are not heard of
    /// now, or have not been listed yet. What was said of them last holds, and may not be so any more.
    pub(super) kubernetes_unheard: Vec<&'static str>,
    /// Stretches of the window that nodes have told nothing of, or only a sum; as many as fit.
    pub(super) holes: Vec<HoleJson>,
    /// How many more there are.
    pub(super) holes_left_out: u64,
}

/// A stretch of time of which a node has told nothing (`silent`), or only a sum (`folded`).
#[derive(Serialize, ToSchema)]
#[schema(as = Hole)]
pub(super) struct HoleJson {
    pub(super) node: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) reason: &'static str,
}

/// A service.
#[derive(Serialize, ToSchema)]
#[schema(as = Node)]
pub(super) struct NodeJson {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) kind: &'static str,
    pub(super) hosts: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// What a client and a server moved over a port in the window.
#[derive(Serialize, ToSchema)]
#[schema(as = Edge)]
pub(super) struct EdgeJson {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) server_port: u16,
    pub(super) protocol: &'static str,
    /// Which sides reported it: `client`, `server` or `both`.
    pub(super) seen_by: &'static str,
    /// By what its ends are known, best first: `both_halves`, `listener`, `served`, `nat`, `workload_address`,
    /// `kubernetes`, `host_address`, `cidr`, `address`, `folded`; `unknown` where that was not kept.
    pub(super) resolved_by: &'static str,
    pub(super) pending: bool,
    pub(super) bytes_to_server: u64,
    pub(super) bytes_to_client: u64,
    pub(super) connections: u64,
    pub(super) connections_open: u64,
    pub(super) failed: FailedJson,
    pub(super) resets: ResetsJson,
    pub(super) segments: u64,
    pub(super) retransmits: u64,
    pub(super) rtt_seconds: QuantilesJson,
    pub(super) connect_seconds: QuantilesJson,
    pub(super) lifetime_seconds: QuantilesJson,
}

/// Attempts that failed, by reason.
#[derive(Serialize, ToSchema)]
#[schema(as = Failed)]
pub(super) struct FailedJson {
    pub(super) refused: u64,
    pub(super) timeout: u64,
    pub(super) unreachable: u64,
    pub(super) aborted: u64,
    pub(super) local: u64,
}

/// Established connections that ended with a reset, by who sent it.
#[derive(Serialize, ToSchema)]
#[schema(as = Resets)]
pub(super) struct ResetsJson {
    pub(super) by_client: u64,
    pub(super) by_server: u64,
}

/// A distribution in seconds; quantiles are null without samples, else right to within a bucket (9 %).
#[derive(Serialize, ToSchema)]
#[schema(as = Quantiles)]
pub(super) struct QuantilesJson {
    pub(super) count: u64,
    pub(super) p50: Option<f64>,
    pub(super) p90: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl From<Window> for WindowJson {
    fn from(window: Window) -> Self {
        Self { from: rfc3339(window.from), to: rfc3339(window.to) }
    }
}

impl From<Coverage> for CoverageJson {
    fn from(coverage: Coverage) -> Self {
        Self {
            complete: coverage.complete,
            nodes_expected: coverage.nodes_expected,
            nodes_reporting: coverage.nodes_reporting,
            nodes_silent: coverage.nodes_silent,
            events_lost: coverage.events_lost,
            batches_lost: coverage.batches_lost,
            inserts_refused: coverage.inserts_refused,
            series_folded: coverage.series_folded,
            edges_one_sided: coverage.edges_one_sided,
            history_from: rfc3339(coverage.history_from),
            kubernetes_unheard: coverage
                .kubernetes_unheard
                .iter()
                .map(|kind| kind.name())
                .collect(),
            holes: coverage.holes.into_iter().map(HoleJson::from).collect(),
            holes_left_out: coverage.holes_left_out,
        }
    }
}

impl From<Hole> for HoleJson {
    fn from(hole: Hole) -> Self {
        Self {
            node: hole.node,
            from: rfc3339(hole.from),
            to: rfc3339(hole.to),
            reason: hole.reason.name(),
        }
    }
}

impl From<&ViewNode> for NodeJson {
    fn from(node: &ViewNode) -> Self {
        Self {
            id: node.id.to_string(),
            name: node.name.clone(),
            namespace: node.namespace.clone(),
            kind: node.kind.name(),
            hosts: node.hosts.clone(),
            labels: node.labels.clone(),
        }
    }
}

impl From<&ViewEdge> for EdgeJson {
    fn from(edge: &ViewEdge) -> Self {
        let totals = &edge.totals;
        let get = |measure| totals.get(measure);
        Self {
            id: edge.id.to_string(),
            source: edge.source.to_string(),
            target: edge.target.to_string(),
            server_port: edge.server_port,
            protocol: edge.protocol,
            seen_by: edge.seen_by.name(),
            resolved_by: edge.resolved_by.name(),
            pending: edge.pending,
            bytes_to_server: get(Measure::BytesToServer),
            bytes_to_client: get(Measure::BytesToClient),
            connections: get(Measure::Connections),
            connections_open: edge.connections_open,
            failed: FailedJson {
                refused: get(Measure::FailedRefused),
                timeout: get(Measure::FailedTimeout),
                unreachable: get(Measure::FailedUnreachable),
                aborted: get(Measure::FailedAborted),
                local: get(Measure::FailedLocal),
            },
            resets: ResetsJson {
                by_client: get(Measure::ResetsByClient),
                by_server: get(Measure::ResetsByServer),
            },
            segments: totals.segments(),
            retransmits: get(Measure::Retransmits),
            rtt_seconds: quantiles(totals, HistogramKind::Rtt),
            connect_seconds: quantiles(totals, HistogramKind::Connect),
            lifetime_seconds: quantiles(totals, HistogramKind::Lifetime),
        }
    }
}

fn quantiles(totals: &EdgeTotals, kind: HistogramKind) -> QuantilesJson {
    let histogram = totals.histogram(kind);
    QuantilesJson {
        count: histogram.count(),
        p50: histogram.quantile(0.5),
        p90: histogram.quantile(0.9),
        p99: histogram.quantile(0.99),
    }
}
