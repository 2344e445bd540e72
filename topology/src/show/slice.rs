//! What a view is made of, taken out of the graph: it is added up while the graph goes on.

use std::sync::Arc;

use super::{
    adding::{Added, Outline, Place},
    coverage::Coverage,
    finer::Finer,
    group::Grouping,
    pending::Pending,
    rank::Rank,
    sums::Sums,
    view::{View, ViewEdge, ViewNode},
};
use crate::{
    Graph,
    base::{
        arena::Arena,
        time::{Timestamp, Window},
    },
    count::{edges::Edge, history::Ended},
    who::services::{Service, ServiceIx},
};

/// What a view over a window of time is made of, as of one moment. It shares its memory with the graph, so taking
/// it costs little, however much there is to add up. As long as the edges in it are not added up, the next tick copies
/// those that it changes.
pub struct Slice {
    pub(super) asked: Window,
    pub(super) window: Window,
    /// But for what edges tell.
    pub(super) coverage: Coverage,
    pub(super) ended: Ended,
    /// Every edge; and whether the window has what they gained in the running step.
    pub(super) edges: Arena<Edge>,
    pub(super) running: bool,
    services: Arena<Service>,
    pending: Vec<Pending>,
    /// What there is besides where the view is to be between workloads on their hosts.
    finer: Option<Box<Finer>>,
}

impl Graph {
    /// What the [view](Self::view) over a window of time is made of, as of `now`. Ticks first.
    pub fn slice(&mut self, asked: Window, now: Timestamp) -> Slice {
        self.tick(now);
        self.slice_as_ticked(asked)
    }

    /// The same as of the last tick: a window that goes on with time ends when anything was [looked at](Self::looked_at)
    /// the last time.
    pub fn slice_as_ticked(&mut self, asked: Window) -> Slice {
        let now = self.looked_at();
        let snapped = self.history.snap(asked, now);
        let pending = if snapped.running { self.pending(now) } else { Vec::new() };
        let ended = self.history.ended(snapped);
        let window = snapped.window;
        Slice {
            asked,
            window,
            coverage: self.coverage(asked, window, ended.lost, 0),
            ended,
            edges: self.edges.freeze(),
            running: snapped.running,
            // Links that are not settled may have made some known.
            services: self.services.freeze(&self.nodes),
            pending,
            finer: None,
        }
    }

    /// What a view between workloads on their hosts is made of, to be grouped as said; else as [`slice`](Self::slice).
    pub fn slice_finer(&mut self, asked: Window, by: Grouping, now: Timestamp) -> Slice {
        self.tick(now);
        self.slice_finer_as_ticked(asked, by)
    }

    /// The same as of the last tick.
    pub fn slice_finer_as_ticked(&mut self, asked: Window, by: Grouping) -> Slice {
        let now = self.looked_at();
        let snapped = self.history.snap(asked, now);
        let finer = self.finer(snapped, by, now);
        let ended = self.history.ended(snapped);
        let window = snapped.window;
        let coverage = self.coverage(asked, window, ended.lost, 0);
        Slice {
            asked,
            window,
            coverage: Coverage { begun: Some(self.history.first()), ..coverage },
            ended,
            edges: self.edges.freeze(),
            running: snapped.running,
            services: Arena::default(),
            pending: Vec::new(),
            finer: Some(Box::new(finer)),
        }
    }
}

impl Slice {
    /// What it is of, which is what was asked for as far as there are steps.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// The graph over the window. What steps that are over add up to is taken from `sums`, and left there.
    #[must_use]
    pub fn view(mut self, sums: &Sums) -> View {
        if let Some(finer) = self.finer.take() {
            return finer.view(self, sums);
        }
        let (added, rest) = self.add_up(Rank::default(), sums);
        rest.show(added)
    }

    /// Whether the view is to be between workloads on their hosts.
    pub(super) const fn is_finer(&self) -> bool {
        self.finer.is_some()
    }

    /// Adds up outlines.
    pub(super) fn add_up(self, rank: Rank, sums: &Sums) -> (Added, Rest) {
        let Slice { asked, window, coverage, ended, edges, running, services, pending, .. } = self;
        let mut added = Added::new(&edges, running, rank);
        // From here on the graph may change them without copying.
        drop(edges);
        added.add(sums.of(&ended.before), ended.last);
        added.add_pending(pending);
        (added, Rest { asked, window, coverage, services })
    }
}

/// What there is besides what is added up.
pub(super) struct Rest {
    asked: Window,
    window: Window,
    coverage: Coverage,
    pub(super) services: Arena<Service>,
}

impl Rest {
    /// Shows edges as they are, with their ends.
    pub(super) fn show(self, added: Added) -> View {
        let one_sided = self.one_sided(&added);
        let mut nodes: Vec<Option<Arc<ViewNode>>> = vec![None; self.services.places()];
        let mut edges = Vec::new();
        let mut places = vec![None; added.places()];
        for (place, outline) in added.shown() {
            let (client, server, _) = outline.key;
            let Some(edge) = self.edge(outline) else { continue };
            for end in [client, server] {
                if let Some(node) = nodes.get_mut(end.index()).filter(|node| node.is_none()) {
                    *node = self.node(end);
                }
            }
            places[place] = Some(Place::Own(edges.len() as u32));
            edges.push(edge);
        }
        added.pour(&places, (&mut edges, |edge: &mut ViewEdge| &mut edge.totals), &mut []);
        self.view(nodes.into_iter().flatten().collect(), edges, one_sided)
    }

    /// How many only one side has seen, although the other is covered.
    pub(super) fn one_sided(&self, added: &Added) -> usize {
        added.shown().filter(|(_, outline)| outline.is_one_sided(&self.services)).count()
    }

    /// The view that has these nodes and edges, in whatever order.
    pub(super) fn view(
        mut self,
        mut nodes: Vec<Arc<ViewNode>>,
        mut edges: Vec<ViewEdge>,
        edges_one_sided: usize,
    ) -> View {
        nodes.sort_unstable_by_key(|node| node.id);
        edges.sort_by_key(|edge| edge.id);
        self.coverage.edges_one_sided = edges_one_sided;
        self.coverage.conclude(self.asked, self.window);
        View { window: self.window, coverage: self.coverage, nodes, edges }
    }

    /// What is told of a service.
    pub(super) fn node(&self, ix: ServiceIx) -> Option<Arc<ViewNode>> {
        self.services.get(ix).and_then(|service| service.told().cloned())
    }

    /// What an outline tells of an edge, without what it moved; `None` when one of its ends is gone.
    pub(super) fn edge(&self, outline: &Outline) -> Option<ViewEdge> {
        let (client, server, server_port) = outline.key;
        let ends = (self.services.get(client)?.id, self.services.get(server)?.id, server_port);
        let edge = ViewEdge::new(ends, outline.id, outline.seen, outline.published);
        Some(ViewEdge { connections_open: outline.open, ..edge })
    }
}
