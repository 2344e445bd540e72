//! `/api/v1/topology`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Extension, Query as Extract, State},
    response::Response,
};
use common::HistogramKind;
use serde::Serialize;
use topology::{Coverage, EdgeTotals, Hole, Measure, View, ViewEdge, ViewNode};

use super::{answer, problem::Problem, query, restrict::restrict, time::rfc3339};
use crate::{config::Grant, state::Shared};

/// The answer.
#[derive(Serialize)]
struct Topology {
    window: WindowJson,
    coverage: CoverageJson,
    nodes: Vec<NodeJson>,
    edges: Vec<EdgeJson>,
}

#[derive(Serialize)]
struct WindowJson {
    from: String,
    to: String,
}

#[derive(Serialize)]
struct CoverageJson {
    complete: bool,
    nodes_expected: usize,
    nodes_reporting: usize,
    nodes_silent: Vec<String>,
    events_lost: u64,
    batches_lost: u64,
    inserts_refused: u64,
    series_folded: u64,
    edges_one_sided: usize,
    history_from: String,
    holes: Vec<HoleJson>,
    holes_left_out: u64,
}

#[derive(Serialize)]
struct HoleJson {
    node: String,
    from: String,
    to: String,
    reason: &'static str,
}

#[derive(Serialize)]
struct NodeJson {
    id: String,
    name: String,
    namespace: String,
    kind: &'static str,
    hosts: Vec<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct EdgeJson {
    id: String,
    source: String,
    target: String,
    server_port: u16,
    protocol: &'static str,
    seen_by: &'static str,
    pending: bool,
    bytes_to_server: u64,
    bytes_to_client: u64,
    connections: u64,
    connections_open: u64,
    failed: FailedJson,
    resets: ResetsJson,
    segments: u64,
    retransmits: u64,
    rtt_seconds: QuantilesJson,
    connect_seconds: QuantilesJson,
    lifetime_seconds: QuantilesJson,
}

#[derive(Serialize)]
struct FailedJson {
    refused: u64,
    timeout: u64,
    unreachable: u64,
    aborted: u64,
    local: u64,
}

#[derive(Serialize)]
struct ResetsJson {
    by_client: u64,
    by_server: u64,
}

#[derive(Serialize)]
struct QuantilesJson {
    count: u64,
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
}

/// The graph over a window.
pub(super) async fn topology(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Extract(query): Extract<query::Query>,
) -> Result<Response, Problem> {
    let window = query::window(&query, shared.now())?;
    answer::document(shared, window, move |view| Topology::from(restrict(view, &grant))).await
}

impl From<View> for Topology {
    fn from(view: View) -> Self {
        Self {
            window: WindowJson { from: rfc3339(view.window.from), to: rfc3339(view.window.to) },
            coverage: view.coverage.into(),
            nodes: view.nodes.iter().map(|node| NodeJson::from(node.as_ref())).collect(),
            edges: view.edges.iter().map(EdgeJson::from).collect(),
        }
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
