//! The columns of the two frames: name, type, and how to get there.

use std::{sync::Arc, time::Duration};

use common::HistogramKind;
use serde::Serialize;
use serde_json::Value;
use topology::{Measure, ViewEdge, ViewNode};
use utoipa::ToSchema;

use crate::http::human::{bytes_per_second, per_second, seconds};

/// A column as `/api/graph/fields` describes it.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(super) struct Field {
    pub(super) field_name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    color: Option<&'static str>,
    #[serde(rename = "displayName", skip_serializing_if = "Option::is_none")]
    display_name: Option<&'static str>,
}

/// A column: its description, and its value for a row.
pub(super) struct Column<F> {
    pub(super) field: Field,
    pub(super) value: fn(&F) -> Value,
}

/// What the edges of a node add up to.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    pub(super) connections: u64,
    pub(super) failed: u64,
}

impl Sum {
    /// Share of attempts that failed, between 0 and 1.
    fn failed_share(self) -> f64 {
        let attempts = self.connections.saturating_add(self.failed);
        if attempts == 0 { 0.0 } else { self.failed as f64 / attempts as f64 }
    }
}

/// What a row of the nodes frame is made of.
pub(super) struct NodeFacts {
    pub(super) node: Arc<ViewNode>,
    pub(super) sum: Sum,
    pub(super) span: Duration,
}

/// What a row of the edges frame is made of.
pub(super) struct EdgeFacts {
    pub(super) edge: ViewEdge,
    pub(super) span: Duration,
    /// Bytes of the busiest edge.
    pub(super) busiest: u64,
}

const fn text<F>(field_name: &'static str, value: fn(&F) -> Value) -> Column<F> {
    Column { field: Field { field_name, kind: "string", color: None, display_name: None }, value }
}

const fn named<F>(
    field_name: &'static str,
    display_name: &'static str,
    value: fn(&F) -> Value,
) -> Column<F> {
    let display_name = Some(display_name);
    Column { field: Field { field_name, kind: "string", color: None, display_name }, value }
}

const fn number<F>(
    field_name: &'static str,
    display_name: &'static str,
    color: Option<&'static str>,
    value: fn(&F) -> Value,
) -> Column<F> {
    let display_name = Some(display_name);
    Column { field: Field { field_name, kind: "number", color, display_name }, value }
}

/// The nodes frame. The arcs of a node sum to 1.
pub(super) const NODES: &[Column<NodeFacts>] = &[
    text("id", |facts| facts.node.id.as_str().into()),
    text("title", |facts| facts.node.name.as_str().into()),
    text("subtitle", |facts| match facts.node.namespace.as_str() {
        "" => facts.node.kind.name().into(),
        namespace => namespace.into(),
    }),
    named("mainstat", "Bytes", |facts| bytes_per_second(facts.sum.bytes, facts.span).into()),
    named("secondarystat", "Connections", |facts| {
        per_second(facts.sum.connections, "conn", facts.span).into()
    }),
    number("arc__ok", "Connected", Some("green"), |facts| (1.0 - facts.sum.failed_share()).into()),
    number("arc__failed", "Failed", Some("red"), |facts| facts.sum.failed_share().into()),
    named("detail__kind", "Kind", |facts| facts.node.kind.name().into()),
    named("detail__namespace", "Namespace", |facts| facts.node.namespace.as_str().into()),
    named("detail__hosts", "Hosts", |facts| facts.node.hosts.join(", ").into()),
];

/// The edges frame.
pub(super) const EDGES: &[Column<EdgeFacts>] =
    &[
        text("id", |facts| facts.edge.id.as_str().into()),
        text("source", |facts| facts.edge.source.as_str().into()),
        text("target", |facts| facts.edge.target.as_str().into()),
        named("mainstat", "Bytes", |facts| {
            bytes_per_second(facts.edge.totals.bytes(), facts.span).into()
        }),
        named("secondarystat", "Round trip", |facts| rtt(facts, 0.5)),
        number("thickness", "Thickness", None, |facts| {
            let share = facts.edge.totals.bytes() as f64 / facts.busiest.max(1) as f64;
            (1.0 + (share * 5.0).round()).into()
        }),
        named("detail__port", "Port", |facts| count(facts.edge.server_port.into())),
        named("detail__protocol", "Protocol", |facts| facts.edge.protocol.into()),
        named("detail__seen_by", "Seen by", |facts| facts.edge.seen_by.name().into()),
        named("detail__resolved_by", "Known by", |facts| facts.edge.resolved_by.name().into()),
        named("detail__connections", "Connections", |facts| {
            count(facts.edge.totals.get(Measure::Connections))
        }),
        named("detail__open", "Open now", |facts| count(facts.edge.connections_open)),
        named("detail__failed", "Failed attempts", |facts| count(facts.edge.totals.failures())),
        named("detail__retransmits", "Retransmits", |facts| {
            count(facts.edge.totals.get(Measure::Retransmits))
        }),
        named("detail__rtt_p99", "Round trip, p99", |facts| rtt(facts, 0.99)),
        named("detail__state", "State", |facts| {
            if facts.edge.pending { "pending".into() } else { "".into() }
        }),
    ];

/// The panel hides a detail that is empty, which is what is wanted of most zeros.
fn count(count: u64) -> Value {
    if count == 0 { "".into() } else { count.to_string().into() }
}

fn rtt(facts: &EdgeFacts, q: f64) -> Value {
    let quantile = facts.edge.totals.histogram(HistogramKind::Rtt).quantile(q);
    quantile.map(seconds).unwrap_or_default().into()
}
