//! `/api/v1/nodes`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use serde::Serialize;
use topology::Node;
use utoipa::ToSchema;

use super::{
    problem::Problem,
    time::{rfc3339, rfc3339_seconds},
};
use crate::state::Shared;

/// The answer.
#[derive(Serialize, ToSchema)]
pub(super) struct Nodes {
    nodes: Vec<NodeJson>,
}

/// A host with an agent.
#[derive(Serialize, ToSchema)]
#[schema(as = Host)]
struct NodeJson {
    name: String,
    version: String,
    kernel: String,
    connected: bool,
    last_seen: String,
    programs: Vec<ProgramJson>,
    losses: BTreeMap<String, u64>,
    clock_skew_seconds: f64,
    certificate_expires: Option<String>,
}

/// A kernel program of its agent.
#[derive(Serialize, ToSchema)]
#[schema(as = Program)]
struct ProgramJson {
    name: String,
    state: &'static str,
    reason: String,
}

/// Every node that is connected or was of late, by name.
#[utoipa::path(
    get,
    path = "/api/v1/nodes",
    responses(
        (status = 200, description = "the hosts", body = Nodes),
        (status = "4XX", response = Problem),
        (status = "5XX", response = Problem),
    ),
)]
pub(super) async fn nodes(State(shared): State<Arc<Shared>>) -> Json<Nodes> {
    let mut nodes: Vec<_> = shared.core().graph().nodes().map(NodeJson::from).collect();
    nodes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Json(Nodes { nodes })
}

impl From<&Node> for NodeJson {
    fn from(node: &Node) -> Self {
        let programs = node.programs().iter().map(|program| ProgramJson {
            name: program.name.clone(),
            state: program.state.name(),
            reason: program.reason.clone(),
        });
        Self {
            name: node.name().to_owned(),
            version: node.facts().version.clone(),
            kernel: node.facts().kernel.clone(),
            connected: node.connected(),
            last_seen: rfc3339(node.last_seen()),
            programs: programs.collect(),
            losses: node.losses().map(|(cause, count)| (cause.to_owned(), count)).collect(),
            clock_skew_seconds: node.clock_skew_seconds(),
            certificate_expires: node.certificate_expires_unix_s().and_then(rfc3339_seconds),
        }
    }
}
