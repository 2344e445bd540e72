//! The graph over a window of time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::coverage::{Coverage, one_sided};
use crate::{
    Graph,
    base::{
        id::Id,
        time::{Timestamp, Window},
        totals::EdgeTotals,
    },
    count::{
        agreement::Lead,
        edges::{EdgeKey, PROTOCOL, Seen},
    },
    model::WorkloadKind,
    who::{basis::Basis, services::ServiceIx},
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

/// An edge while its parts are added up.
struct Sum {
    key: EdgeKey,
    id: Option<Id>,
    totals: EdgeTotals,
    seen: Seen,
    open: u64,
    pending: bool,
}

/// Adds to the sum of an edge, which is pending when nothing of it was published.
fn add<'a>(
    sums: &'a mut Vec<Sum>,
    by_key: &mut HashMap<EdgeKey, usize>,
    key: EdgeKey,
    totals: &EdgeTotals,
    seen: Seen,
) -> &'a mut Sum {
    let at = *by_key.entry(key).or_insert_with(|| {
        sums.push(Sum {
            key,
            id: None,
            totals: EdgeTotals::default(),
            seen: Seen::default(),
            open: 0,
            pending: true,
        });
        sums.len() - 1
    });
    let sum = &mut sums[at];
    sum.totals.merge(totals);
    sum.seen.merge(seen);
    sum
}

impl Graph {
    /// The graph over a window of time, as of `now`. Ticks first.
    pub fn view(&mut self, asked: Window, now: Timestamp) -> View {
        let now = self.see(now);
        self.tick(now);
        let snapped = self.history.snap(asked, now);
        let mut sums: Vec<Sum> = Vec::new();
        let mut by_index: Vec<Option<usize>> = vec![None; self.edges.places()];
        let edges = &self.edges;
        let lost = self.history.visit(snapped, edges, |entry, last| {
            let Some(edge) = edges.at(entry.index) else { return };
            let Some(place) = by_index.get_mut(entry.index) else { return };
            let at = *place.get_or_insert_with(|| {
                sums.push(Sum {
                    key: edge.key,
                    id: Some(edge.id),
                    totals: EdgeTotals::default(),
                    seen: Seen::default(),
                    open: 0,
                    pending: false,
                });
                sums.len() - 1
            });
            if let Some(sum) = sums.get_mut(at) {
                sum.totals.merge(&entry.totals);
                sum.seen.merge(entry.seen);
                sum.open = if last { entry.open } else { sum.open };
            }
        });
        if snapped.running {
            self.add_pending(&mut sums, now);
        }
        sums.retain(|sum| sum.open > 0 || !sum.totals.is_zero());
        let window = snapped.window;
        let mut edges: Vec<_> = sums.into_iter().filter_map(|sum| self.view_edge(sum)).collect();
        edges.sort_unstable_by_key(|(edge, ..)| edge.id);
        let ends = edges.iter().flat_map(|(_, client, server)| [*client, *server]);
        let ends: BTreeSet<ServiceIx> = ends.collect();
        let (services, all) = (&mut self.services, &self.nodes);
        let mut nodes: Vec<_> =
            ends.into_iter().filter_map(|ix| services.view_node(ix, all)).collect();
        nodes.sort_unstable_by_key(|node| node.id);
        let edges: Vec<_> = edges.into_iter().map(|(edge, ..)| edge).collect();
        let coverage = self.coverage(asked, window, lost, one_sided(&nodes, &edges));
        View { window, coverage, nodes, edges }
    }

    /// Adds what unsettled links have so far, and what those that have just settled showed before.
    fn add_pending(&mut self, sums: &mut Vec<Sum>, now: Timestamp) {
        let mut by_key: HashMap<EdgeKey, usize> =
            sums.iter().enumerate().map(|(at, sum)| (sum.key, at)).collect();
        for ix in self.links.queue.clone() {
            let Some(link) = self.links.get(ix) else { continue };
            if link.settled {
                for (key, totals, seen) in self.seen_before(ix, now) {
                    add(sums, &mut by_key, key, &totals, seen);
                }
                continue;
            }
            let asking = self.asking_anew(link);
            let mut sides = self.sides(link, now);
            sides.divide();
            for pairing in sides.pair(&Lead::UNLIMITED).pairings {
                let (key, seen) = self.edge_of(&asking, &sides, &pairing);
                let sum = add(sums, &mut by_key, key, &pairing.totals, seen);
                sum.open = sum.open.saturating_add(pairing.open);
            }
        }
    }

    fn view_edge(&self, sum: Sum) -> Option<(ViewEdge, ServiceIx, ServiceIx)> {
        let (client, server, server_port) = sum.key;
        let (source, target) = (self.services.get(client)?.id, self.services.get(server)?.id);
        let edge = ViewEdge {
            id: sum.id.unwrap_or_else(|| Id::of_edge(source, target, server_port, PROTOCOL)),
            source,
            target,
            server_port,
            protocol: PROTOCOL,
            seen_by: SeenBy::of(sum.seen),
            resolved_by: sum.seen.by,
            pending: sum.pending,
            connections_open: sum.open,
            totals: sum.totals,
        };
        Some((edge, client, server))
    }
}
