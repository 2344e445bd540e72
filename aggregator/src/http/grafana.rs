//! The node graph for Grafana: `/api/graph/fields` and `/api/graph/data`.
//!
//! Every endpoint of an edge is a node (the panel crashes otherwise), arcs sum to 1, and what is
//! shown with a unit is sent as text. `columns` says what there is, for both routes.

mod columns;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Extension, Query, State},
    response::Response,
};
use serde::Serialize;
use serde_json::{Map, Value};
use topology::{Id, Measure, View};
use utoipa::ToSchema;

use self::columns::{Column, EDGES, EdgeFacts, Field, NODES, NodeFacts, Sum};
use super::{
    kept::{self, Key},
    part::{Part, PartQuery},
    problem::Problem,
    window::WindowQuery,
};
use crate::{config::Grant, state::Shared};

/// Nodes shown unless asked otherwise; the panel shows 200 at first.
const DEFAULT_LIMIT: usize = 200;

/// The columns of both frames.
#[derive(Serialize, ToSchema)]
pub(super) struct Fields {
    nodes_fields: Vec<Field>,
    edges_fields: Vec<Field>,
}

/// Both frames.
#[derive(Serialize, ToSchema)]
struct Data {
    #[schema(value_type = Vec<Object>)]
    nodes: Vec<Map<String, Value>>,
    #[schema(value_type = Vec<Object>)]
    edges: Vec<Map<String, Value>>,
}

/// Which columns there are.
#[utoipa::path(
    get,
    path = "/api/graph/fields",
    responses(
        (status = 200, description = "the columns", body = Fields),
        (status = "4XX", response = Problem),
        (status = "5XX", response = Problem),
    ),
)]
pub(super) async fn fields() -> Json<Fields> {
    Json(Fields {
        nodes_fields: NODES.iter().map(|column| column.field).collect(),
        edges_fields: EDGES.iter().map(|column| column.field).collect(),
    })
}

/// The graph over a window, its busiest nodes.
#[utoipa::path(
    get,
    path = "/api/graph/data",
    params(WindowQuery, PartQuery),
    responses(
        (status = 200, description = "both frames", body = Data),
        (status = "4XX", response = Problem),
        (status = "5XX", response = Problem),
    ),
)]
pub(super) async fn data(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Query(window): Query<WindowQuery>,
    Query(part): Query<PartQuery>,
) -> Result<Response, Problem> {
    let asked = window.window(shared.now())?;
    let (window, ends) = kept::shared_by_many(&shared, window);
    let key = Key::new("graph", format!("{window:?} {part:?}"), &grant);
    let part = Part::of(&part, grant, Some(DEFAULT_LIMIT))?;
    kept::json(shared, (key, ends), move |shared| {
        // Up to when it is made.
        let window = window.window(shared.now()).unwrap_or(asked);
        frames(part.view(shared, window))
    })
    .await
}

fn frames(view: View) -> Data {
    let span = view.window.to.since(view.window.from);
    let mut sums: HashMap<Id, Sum> = HashMap::new();
    for edge in &view.edges {
        // An edge of a node to itself is one of its edges, once.
        let ends = [Some(edge.source), (edge.target != edge.source).then_some(edge.target)];
        for end in ends.into_iter().flatten() {
            let sum = sums.entry(end).or_default();
            sum.bytes = sum.bytes.saturating_add(edge.totals.bytes());
            let connections = edge.totals.get(Measure::Connections);
            sum.connections = sum.connections.saturating_add(connections);
            sum.failed = sum.failed.saturating_add(edge.totals.failures());
        }
    }
    let busiest = view.edges.iter().map(|edge| edge.totals.bytes()).max().unwrap_or(0);
    let nodes = view.nodes.into_iter().map(|node| {
        let sum = sums.get(&node.id).copied().unwrap_or_default();
        row(NODES, &NodeFacts { node, sum, span })
    });
    let edges = view.edges.into_iter().map(|edge| row(EDGES, &EdgeFacts { edge, span, busiest }));
    Data { nodes: nodes.collect(), edges: edges.collect() }
}

fn row<F>(columns: &[Column<F>], facts: &F) -> Map<String, Value> {
    let cell = |column: &Column<F>| (column.field.field_name.to_owned(), (column.value)(facts));
    columns.iter().map(cell).collect()
}
