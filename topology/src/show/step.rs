//! A step that is over, for whoever keeps it longer than the graph does.

use std::{collections::HashMap, fmt, ops::Deref, sync::Arc};

use super::view::ViewNode;
use crate::{
    base::{id::Id, time::Window, totals::EdgeTotals},
    count::{
        edges::{PROTOCOL, Seen},
        history::Lost,
        parts::{End, Ends},
    },
    who::{directory::Directory, services::ServiceIx},
};

/// Steps that are given out, in order.
#[derive(Clone, Debug)]
pub struct Given {
    /// One more than that of what was given out before. What is done again after a restart has the number that it
    /// had the first time.
    pub number: u64,
    /// What.
    pub steps: GivenSteps,
}

/// What is given out.
#[derive(Clone, Debug)]
pub enum GivenSteps {
    /// A step is over.
    Ended(EndedStep),
    /// More of steps that are over: what came late. Nothing in them says which connections were open.
    Late(Vec<EndedStep>),
}

/// A step that is over.
#[derive(Clone, Debug)]
pub struct EndedStep {
    /// From when to when.
    pub window: Window,
    /// What was lost in it.
    pub lost: Lost,
    /// Every edge that gained something in it or has a connection open at its end.
    pub edges: Vec<StepEdge>,
    /// The same between workloads on their hosts.
    pub parts: StepParts,
}

/// What an edge had in a step.
#[derive(Clone, Debug)]
pub struct StepEdge {
    /// Stable id.
    pub id: Id,
    /// The client.
    pub source: Arc<ViewNode>,
    /// The server.
    pub target: Arc<ViewNode>,
    /// The port the server listens on.
    pub server_port: u16,
    /// Who reported it.
    pub seen: Seen,
    /// Connections open at the end of the step.
    pub connections_open: u64,
    /// What it gained.
    pub totals: EdgeTotals,
}

/// What edges had in a step between workloads on their hosts. It is written out where nobody waits for the graph.
#[derive(Clone)]
pub struct StepParts(Parts);

#[derive(Clone)]
enum Parts {
    Written(Vec<StepEdge>),
    Known(Arc<KnownParts>),
}

/// What is needed to write it out.
pub(crate) struct KnownParts {
    directory: Arc<Directory>,
    /// Of the edges of the step, in their order: client, server, and between whom what is not of a part is.
    edges: Vec<(ServiceIx, ServiceIx, Ends)>,
    /// What is kept apart, in the order of the edges.
    parts: Vec<StepPart>,
}

/// A part of an edge in a step.
struct StepPart {
    /// Which of the step's edges it is of.
    edge: usize,
    ends: Ends,
    totals: EdgeTotals,
    open: u64,
}

/// A row of a step, as it is to be kept.
#[derive(Debug)]
pub struct StepRow<'a> {
    /// What tells it from other rows: its stable id, or, between workloads on their hosts, that and the zones of these.
    pub key: Id,
    /// The client.
    pub source: Arc<ViewNode>,
    /// The server.
    pub target: Arc<ViewNode>,
    /// The port the server listens on.
    pub server_port: u16,
    /// Who reported it: of a part, who reported the edge.
    pub seen: Seen,
    /// Connections open at the end of the step.
    pub connections_open: u64,
    /// What it gained.
    pub totals: StepTotals<'a>,
}

/// What a row gained.
#[derive(Debug)]
pub enum StepTotals<'a> {
    /// All that its edge did.
    All(&'a EdgeTotals),
    /// Something else.
    Own(Box<EdgeTotals>),
}

impl Deref for StepTotals<'_> {
    type Target = EdgeTotals;

    fn deref(&self) -> &EdgeTotals {
        match self {
            StepTotals::All(totals) => totals,
            StepTotals::Own(totals) => totals,
        }
    }
}

impl StepTotals<'_> {
    /// Adds what another row gained.
    pub fn merge(&mut self, other: &EdgeTotals) {
        let mut totals = match std::mem::replace(self, StepTotals::Own(Box::default())) {
            StepTotals::All(totals) => Box::new(totals.clone()),
            StepTotals::Own(totals) => totals,
        };
        totals.merge(other);
        *self = StepTotals::Own(totals);
    }
}

impl StepParts {
    /// These.
    #[must_use]
    pub const fn written(edges: Vec<StepEdge>) -> Self {
        StepParts(Parts::Written(edges))
    }

    pub(crate) fn known(known: KnownParts) -> Self {
        StepParts(Parts::Known(Arc::new(known)))
    }
}

impl Default for StepParts {
    fn default() -> Self {
        StepParts::written(Vec::new())
    }
}

impl fmt::Debug for StepParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Parts::Written(edges) => edges.fmt(f),
            Parts::Known(known) => {
                write!(f, "{} edges, {} parts", known.edges.len(), known.parts.len())
            }
        }
    }
}

impl<'a> From<&'a StepEdge> for StepRow<'a> {
    fn from(edge: &'a StepEdge) -> Self {
        StepRow {
            key: edge.id,
            source: Arc::clone(&edge.source),
            target: Arc::clone(&edge.target),
            server_port: edge.server_port,
            seen: edge.seen,
            connections_open: edge.connections_open,
            totals: StepTotals::All(&edge.totals),
        }
    }
}

impl EndedStep {
    /// Goes through its rows: those between services, or the finer ones between workloads on their hosts, which add up
    /// to these. Of the finer ones, several may have one key.
    ///
    /// # Errors
    /// Those of `tell`.
    pub fn rows<'a, E>(
        &'a self,
        finer: bool,
        mut tell: impl FnMut(StepRow<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        match &self.parts.0 {
            _ if !finer => self.edges.iter().map(StepRow::from).try_for_each(tell),
            Parts::Written(edges) => edges.iter().try_for_each(|edge| {
                let row = StepRow::from(edge);
                let key = key(row.source.id_in_zone(), row.target.id_in_zone(), row.server_port);
                tell(StepRow { key, ..row })
            }),
            Parts::Known(known) => known.rows(&self.edges, &mut tell),
        }
    }
}

/// Ends with what tells them from others: most are of many edges.
type Keyed = HashMap<(ServiceIx, End), Option<(Arc<ViewNode>, Id)>>;

fn key(source: Id, target: Id, server_port: u16) -> Id {
    Id::of_edge(source, target, server_port, PROTOCOL)
}

impl KnownParts {
    /// `places` are those of the step's edges, in order; parts tell that of theirs.
    pub(crate) fn of(
        directory: Arc<Directory>,
        places: &[usize],
        edges: Vec<(ServiceIx, ServiceIx, Ends)>,
        parts: Vec<(usize, Ends, EdgeTotals, u64)>,
    ) -> Self {
        let parts = parts.into_iter().filter_map(|(place, ends, totals, open)| {
            let edge = places.binary_search(&place).ok()?;
            Some(StepPart { edge, ends, totals, open })
        });
        let mut parts: Vec<_> = parts.collect();
        parts.sort_by_key(|part| part.edge);
        KnownParts { directory, edges, parts }
    }

    fn rows<'a, E>(
        &'a self,
        edges: &'a [StepEdge],
        tell: &mut impl FnMut(StepRow<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut keyed = Keyed::new();
        let mut end = |service, end| {
            let known = keyed.entry((service, end)).or_insert_with(|| {
                let node = self.directory.look_up(service, end)?;
                let key = node.id_in_zone();
                Some((node, key))
            });
            known.clone()
        };
        let mut parts = self.parts.iter().peekable();
        for (at, (edge, (client, server, first))) in edges.iter().zip(&self.edges).enumerate() {
            let mut row = |(ours, theirs): Ends, totals, connections_open| {
                let (source, source_key) = end(*client, ours)?;
                let (target, target_key) = end(*server, theirs)?;
                let (server_port, seen) = (edge.server_port, edge.seen);
                let key = key(source_key, target_key, server_port);
                Some(StepRow { key, source, target, server_port, seen, connections_open, totals })
            };
            let mut rest = StepTotals::All(&edge.totals);
            let mut open = edge.connections_open;
            while let Some(part) = parts.next_if(|part| part.edge == at) {
                // A part is never more than the whole, and both its ends are known as long as it is.
                let Some(less) = rest.less(&part.totals) else { continue };
                let part_open = part.open.min(open);
                let totals = StepTotals::Own(Box::new(part.totals.clone()));
                if let Some(row) = row(part.ends, totals, part_open) {
                    tell(row)?;
                    rest = StepTotals::Own(Box::new(less));
                    open -= part_open;
                }
            }
            if (open > 0 || !rest.is_zero())
                && let Some(row) = row(*first, rest, open)
            {
                tell(row)?;
            }
        }
        Ok(())
    }
}
