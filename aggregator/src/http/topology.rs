//! `/api/v1/topology`.

use std::sync::Arc;

use axum::{
    extract::{Extension, Query, State},
    response::Response,
};
use serde::Serialize;
use topology::View;
use utoipa::ToSchema;

use super::{
    kept::{self, Key},
    part::{Part, PartQuery},
    problem::Problem,
    shapes::{CoverageJson, EdgeJson, NodeJson, WindowJson},
    window::WindowQuery,
};
use crate::{config::Grant, state::Shared};

/// The graph over a window of time.
#[derive(Serialize, ToSchema)]
pub(super) struct Topology {
    window: WindowJson,
    coverage: CoverageJson,
    /// Every end of an edge is one of them.
    nodes: Vec<NodeJson>,
    /// By id, or highest first when asked for with `sort`.
    edges: Vec<EdgeJson>,
}

/// The graph over a window of time, or a part of it.
#[utoipa::path(
    get,
    path = "/api/v1/topology",
    params(WindowQuery, PartQuery),
    responses(
        (status = 200, description = "the graph", body = Topology),
        (status = "4XX", response = Problem),
        (status = "5XX", response = Problem),
    ),
)]
pub(super) async fn topology(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Query(window): Query<WindowQuery>,
    Query(part): Query<PartQuery>,
) -> Result<Response, Problem> {
    let asked = window.window(shared.now())?;
    let (window, ends) = kept::shared_by_many(&shared, window);
    let key = Key::new("topology", format!("{window:?} {part:?}"), &grant);
    let part = Part::of(&part, grant, None)?;
    kept::json(shared, (key, ends), move |shared| {
        // Up to when it is made.
        let window = window.window(shared.now()).unwrap_or(asked);
        Topology::from(part.view(shared, window))
    })
    .await
}

impl From<View> for Topology {
    fn from(view: View) -> Self {
        Self {
            window: view.window.into(),
            coverage: view.coverage.into(),
            nodes: view.nodes.iter().map(|node| NodeJson::from(node.as_ref())).collect(),
            edges: view.edges.iter().map(EdgeJson::from).collect(),
        }
    }
}
