//! `/api/v1/nodes`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use serde::Serialize;
use topology::{Folded, Node};
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
    limits: LimitsJson,
}

/// What the node had no room for, and how long its streams were held up.
#[derive(Serialize, ToSchema)]
#[schema(as = Limits)]
struct LimitsJson {
    halves: usize,
    halves_folded: u64,
    edges_folded: u64,
    workloads_folded: u64,
    held_up_seconds: f64,
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
    shared.held().soon().await;
    let mut nodes: Vec<_> = {
        let core = shared.core();
        let graph = core.graph();
        graph.nodes_by_ix().map(|(ix, node)| NodeJson::new(node, graph.halves_of(ix))).collect()
    };
    for node in &mut nodes {
        node.limits.held_up_seconds = shared.streams.held_up(&node.name).as_secs_f64();
    }
    nodes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Json(Nodes { nodes })
}

impl NodeJson {
    fn new(node: &Node, halves: usize) -> Self {
        let programs = node.programs().iter().map(|program| ProgramJson {
            name: program.name.clone(),
            state: program.state.name(),
            reason: program.reason.clone(),
        });
        let Folded { halves: halves_folded, edges: edges_folded, workloads: workloads_folded } =
            node.folded();
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
            limits: LimitsJson {
                halves,
                halves_folded,
                edges_folded,
                workloads_folded,
                held_up_seconds: 0.0,
            },
        }
    }
}
