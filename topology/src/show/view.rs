//! The graph over a window of time.

use std::{collections::BTreeMap, sync::Arc};

use super::{coverage::Coverage, sums::Sums};
use crate::{
    Graph,
    base::{
        id::Id,
        time::{Timestamp, Window},
        totals::EdgeTotals,
    },
    count::edges::{PROTOCOL, Seen},
    model::WorkloadKind,
    who::basis::Basis,
};

/// The graph over a window of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The window, snapped outward to what is stored.
    pub window: Window,
    /// What may be missing.
    pub coverage: Coverage,
    /// The ends of all edges, by id.
    pub nodes: Vec<Arc<ViewNode>>,
    /// Edges that moved something in the window or have a connection open at its end, by id.
    pub edges: Vec<ViewEdge>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewNode {
    /// Stable id.
    pub id: Id,
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its namespace, empty unless known.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Names of the nodes it was seen on, in order.
    pub hosts: Vec<String>,
    /// The zone of its host, where it is a workload on one whose zone is known; else empty.
    pub zone: String,
    /// Whatever else is known.
    pub labels: BTreeMap<String, String>,
}

/// Who reported an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeenBy {
    /// The client's host only.
    Client,
    /// The server's host only.
    Server,
    /// Both.
    Both,
}

impl SeenBy {
    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SeenBy::Client => "client",
            SeenBy::Server => "server",
            SeenBy::Both => "both",
        }
    }

    /// What it is by the sides that reported.
    #[must_use]
    pub const fn of(seen: Seen) -> Self {
        match (seen.client, seen.server) {
            (true, true) => SeenBy::Both,
            (_, false) => SeenBy::Client,
            (false, true) => SeenBy::Server,
        }
    }

    pub(crate) fn merge(self, other: SeenBy) -> Self {
        if self == other { self } else { SeenBy::Both }
    }
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewEdge {
    /// Stable id.
    pub id: Id,
    /// The client.
    pub source: Id,
    /// The server.
    pub target: Id,
    /// The port the server listens on; 0 for edges to several ports that were folded.
    pub server_port: u16,
    /// The protocol: `tcp`.
    pub protocol: &'static str,
    /// Who reported it.
    pub seen_by: SeenBy,
    /// By what evidence its ends are known: the best there was in the window.
    pub resolved_by: Basis,
    /// Nothing of it has settled yet: its other half may still change what it is.
    pub pending: bool,
    /// Connections open at the end of the window.
    pub connections_open: u64,
    /// What it moved in the window.
    pub totals: EdgeTotals,
}

impl ViewEdge {
    /// An edge from one node to another at a port of the server, which has not moved anything yet and has nothing open.
    /// Its id follows from its ends, if it is not known.
    pub(super) fn new(
        (source, target, server_port): (Id, Id, u16),
        id: Option<Id>,
        seen: Seen,
        published: bool,
    ) -> Self {
        ViewEdge {
            id: id.unwrap_or_else(|| Id::of_edge(source, target, server_port, PROTOCOL)),
            source,
            target,
            server_port,
            protocol: PROTOCOL,
            seen_by: SeenBy::of(seen),
            resolved_by: seen.by,
            pending: !published,
            connections_open: 0,
            totals: EdgeTotals::default(),
        }
    }
}

impl Graph {
    /// The graph over a window of time, as of `now`. Ticks first.
    pub fn view(&mut self, asked: Window, now: Timestamp) -> View {
        self.slice(asked, now).view(&Sums::default())
    }
}
