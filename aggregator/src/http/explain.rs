//! `/api/v1/edges/{id}/explain`: why an edge is there.

#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Extension, Path, Query, State},
    http::StatusCode,
};
use serde::Serialize;
use topology::{
    Basis, Difference, Explanation, Grouping, Id, Measure, Meeting, SeenBy, SeenOn, Spot, View,
    ViewEdge, ViewNode, model::Role,
};
use utoipa::ToSchema;

use super::{
    answer,
    problem::Problem,
    restrict::restrict,
    shapes::{CoverageJson, EdgeJson, NodeJson, WindowJson},
    time::rfc3339,
    window::WindowQuery,
};
use crate::{config::Grant, state::Shared};

/// Why an edge is there.
#[derive(Serialize, ToSchema)]
pub(super) struct Why {
    /// In words, a sentence each.
    words: Vec<String>,
    window: WindowJson,
    coverage: CoverageJson,
    edge: EdgeJson,
    source: NodeJson,
    target: NodeJson,
    /// Hosts that saw it, as far as that is in memory; of the sides that the reader may see, 50 of each.
    hosts: Vec<SeenOnJson>,
    /// How many more there are.
    hosts_left_out: usize,
    /// Where its halves meet: those at which its sides disagree first, then the busiest.
    meetings: Vec<MeetingJson>,
    /// How many more there are, at most: of more than 10,000, not all are looked at.
    meetings_left_out: usize,
}

/// A host that saw a side of an edge.
#[derive(Serialize, ToSchema)]
#[schema(as = SeenOn)]
struct SeenOnJson {
    host: String,
    /// `client` or `server`.
    side: &'static str,
    /// When it first told of it, as far as that is in memory.
    first: String,
    /// When it last told of something new.
    last: String,
    /// Its agent is connected, and the sockets are not gone.
    watching: bool,
}

/// Two addresses and a port at which halves of the edge meet.
#[derive(Serialize, ToSchema)]
#[schema(as = Meeting)]
struct MeetingJson {
    client: Option<SpotJson>,
    server: Option<SpotJson>,
    server_port: u16,
    /// Who tells of it now; null when what is counted there now is another edge's.
    seen_by: Option<&'static str>,
    /// By what the edge's ends are known there now.
    resolved_by: Option<&'static str>,
    /// It has waited long enough for its other half.
    settled: bool,
    /// Several services are at one of its ends: `differences` are of the sums over all of them.
    shared: bool,
    /// What both sides counted, where they disagree; null where one side alone has counted, or what is counted is
    /// another edge's. Who may see some namespaces only is not told what others have a part in.
    differences: Option<Vec<DifferenceJson>>,
    /// Where addresses are translated, others that its ends are known by; 8 at most. Who may see some namespaces only is
    /// not told them.
    also: Vec<AlsoJson>,
}

/// An address; `host` where it means something on that host only.
#[derive(Serialize, ToSchema)]
#[schema(as = Spot)]
struct SpotJson {
    address: String,
    host: Option<String>,
}

/// Another address that an end is known by; `host` where it means something on that host only.
#[derive(Serialize, ToSchema)]
#[schema(as = Also)]
struct AlsoJson {
    /// Which end: `client` or `server`.
    side: &'static str,
    address: String,
    host: Option<String>,
    /// Of the server's.
    port: Option<u16>,
}

/// A number that both sides counted, each its own.
#[derive(Serialize, ToSchema)]
#[schema(as = Difference)]
struct DifferenceJson {
    what: &'static str,
    client: u64,
    server: u64,
}

/// Which evidence made an edge, which hosts saw it and when, and what both sides counted where they disagree.
#[utoipa::path(
    get,
    path = "/api/v1/edges/{id}/explain",
    params(
        ("id" = String, Path, description = "Of the edge", pattern = "^e[0-9a-z]{26}$"),
        WindowQuery,
    ),
    responses(
        (status = 200, description = "why it is there", body = Why),
        (status = "4XX", response = Problem),
        (status = "5XX", response = Problem),
    ),
)]
pub(super) async fn explain(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
    Query(window): Query<WindowQuery>,
) -> Result<Json<Why>, Problem> {
    let window = window.window(shared.now())?;
    let id = Id::parse(&id)
        .filter(|id| id.as_str().starts_with('e'))
        .ok_or_else(|| Problem::bad_request(format!("{id:?} is not the id of an edge")))?;
    let made = answer::blocking(shared, move |shared| {
        let now = shared.now();
        let view = restrict(shared.view(window, Grouping::Service, now), &grant);
        let found = Found::in_view(view, id)?;
        let explanation = shared.held().lock_for_long().explain(id, shared.now());
        Some(found.explain(explanation.unwrap_or_default(), &grant))
    });
    let (why, _turn) = made.await?;
    let missing = || Problem::new(StatusCode::NOT_FOUND, "no such edge in this window");
    why.map(Json).ok_or_else(missing)
}

/// An edge, and what a view tells of it.
struct Found {
    edge: ViewEdge,
    ends: [Arc<ViewNode>; 2],
    view: View,
}

impl Found {
    fn in_view(view: View, id: Id) -> Option<Self> {
        let edge = view.edges.iter().find(|edge| edge.id == id)?.clone();
        let end = |id| view.nodes.iter().find(|node| node.id == id).cloned();
        Some(Self { ends: [end(edge.source)?, end(edge.target)?], edge, view })
    }

    /// Tells what somebody may see of it: of an end that is not theirs, neither hosts nor addresses, and nothing that
    /// others have a part in.
    fn explain(self, mut explanation: Explanation, grant: &Grant) -> Why {
        let Self { edge, ends: [source, target], view } = self;
        let theirs = |node: &ViewNode| match &grant.namespaces {
            Some(namespaces) => namespaces.contains(&node.namespace),
            None => true,
        };
        let (client, server) = (theirs(&source), theirs(&target));
        explanation.hosts.retain(|seen| match seen.role {
            Role::Client => client,
            Role::Server => server,
        });
        for (left_out, theirs) in explanation.hosts_left_out.iter_mut().zip([client, server]) {
            *left_out = if theirs { *left_out } else { 0 };
        }
        if grant.namespaces.is_some() {
            explanation.links.iter_mut().for_each(|meeting| narrow(meeting, client, server));
        }
        Why {
            words: words::of(&edge, [&source, &target], &explanation),
            window: view.window.into(),
            coverage: view.coverage.into(),
            edge: EdgeJson::from(&edge),
            source: NodeJson::from(source.as_ref()),
            target: NodeJson::from(target.as_ref()),
            hosts: explanation.hosts.iter().map(SeenOnJson::from).collect(),
            hosts_left_out: explanation.hosts_left_out.iter().sum(),
            meetings: explanation.links.into_iter().map(MeetingJson::from).collect(),
            meetings_left_out: explanation.links_left_out,
        }
    }
}

/// Leaves out what is not of the ends that somebody may see.
fn narrow(meeting: &mut Meeting, client: bool, server: bool) {
    // What is another edge's now may be at other addresses of the same translation.
    let told = meeting.told.is_some();
    meeting.client = meeting.client.take().filter(|_| client && told);
    meeting.server = meeting.server.take().filter(|_| server && told);
    meeting.also.clear();
    if meeting.shared || !told {
        meeting.both = false;
        meeting.differences.clear();
    }
}

const fn side(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Server => "server",
    }
}

const fn what(measure: Measure) -> &'static str {
    match measure {
        Measure::BytesToServer => "bytes_to_server",
        Measure::BytesToClient => "bytes_to_client",
        Measure::Connections => "connections",
        Measure::FailedRefused => "failed_refused",
        Measure::FailedTimeout => "failed_timeout",
        Measure::FailedUnreachable => "failed_unreachable",
        Measure::FailedAborted => "failed_aborted",
        Measure::FailedLocal => "failed_local",
        Measure::ResetsByClient => "resets_by_client",
        Measure::ResetsByServer => "resets_by_server",
        Measure::SegmentsToServer => "segments_to_server",
        Measure::SegmentsToClient => "segments_to_client",
        Measure::Retransmits => "retransmits",
    }
}

impl From<&SeenOn> for SeenOnJson {
    fn from(seen: &SeenOn) -> Self {
        Self {
            host: seen.host.clone(),
            side: side(seen.role),
            first: rfc3339(seen.first),
            last: rfc3339(seen.last),
            watching: seen.watching,
        }
    }
}

impl From<Meeting> for MeetingJson {
    fn from(meeting: Meeting) -> Self {
        let spot = |spot: Spot| SpotJson { address: spot.address, host: spot.within };
        let difference = |Difference { measure, client, server }| DifferenceJson {
            what: what(measure),
            client,
            server,
        };
        let differences = meeting.differences.into_iter().map(difference).collect();
        let also = |(role, spot, port): (Role, Spot, Option<u16>)| AlsoJson {
            side: side(role),
            address: spot.address,
            host: spot.within,
            port,
        };
        Self {
            client: meeting.client.map(spot),
            server: meeting.server.map(spot),
            server_port: meeting.server_port,
            seen_by: meeting.told.map(|(seen, _): (SeenBy, Basis)| seen.name()),
            resolved_by: meeting.told.map(|(_, basis)| basis.name()),
            settled: meeting.settled,
            shared: meeting.shared,
            differences: meeting.both.then_some(differences),
            also: meeting.also.into_iter().map(also).collect(),
        }
    }
}
