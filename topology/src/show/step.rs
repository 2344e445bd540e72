//! A step that is over, for whoever keeps it longer than the graph does.

use std::{fmt, sync::Arc};

use super::view::ViewNode;
use crate::{
    base::{id::Id, time::Window, totals::EdgeTotals},
    count::{
        edges::{EdgeKey, Seen},
        history::Lost,
        packed::{Packer, Raw},
        parts::Ends,
    },
    who::directory::Directory,
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
    pub edges: StepEdges,
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

/// What edges had in a step, and that between workloads on their hosts. It is written out where nobody waits for the
/// graph, which shares what it has packed.
#[derive(Clone)]
pub struct StepEdges(Edges);

#[derive(Clone)]
enum Edges {
    Written { edges: Vec<StepEdge>, finer: Vec<StepEdge> },
    Known(Arc<KnownEdges>),
}

/// What is needed to write it out.
pub(crate) struct KnownEdges {
    pub(super) directory: Arc<Directory>,
    pub(super) edges: Vec<KnownEdge>,
    /// What they had, in the same order.
    pub(super) packed: Arc<[u8]>,
    /// What is kept apart, in the order of the edges.
    pub(super) parts: Vec<StepPart>,
}

/// An edge in a step.
pub(crate) struct KnownEdge {
    /// By which it is packed.
    pub(crate) index: usize,
    pub(crate) key: EdgeKey,
    /// Between whom what is not of a part is.
    pub(crate) ends: Ends,
}

/// A part of an edge in a step.
pub(super) struct StepPart {
    /// Which of the step's edges it is of.
    pub(super) edge: usize,
    pub(super) ends: Ends,
    pub(super) totals: EdgeTotals,
    pub(super) open: u64,
}

/// A row of a step, as it is to be kept.
#[derive(Debug)]
pub struct StepRow<'a> {
    /// Which edge it is of, by a number that it has as long as it is there, and another one may have after it: a hint. None
    /// where there is none, and of a part.
    pub place: Option<usize>,
    /// The client and the server, as [`StepRows`](super::rows::StepRows) has them.
    pub ends: [usize; 2],
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
    /// The same as it is packed, with who reported it and what is open.
    Packed(Raw<'a>),
    /// Something else.
    Own(Box<EdgeTotals>),
}

impl StepTotals<'_> {
    /// Adds it to a sum.
    pub fn add_to(&self, sum: &mut EdgeTotals) {
        match self {
            StepTotals::All(totals) => sum.merge(totals),
            StepTotals::Packed(raw) => raw.add_to(sum),
            StepTotals::Own(totals) => sum.merge(totals),
        }
    }

    /// Adds what another row gained.
    pub fn merge(&mut self, other: &StepTotals<'_>) {
        if let StepTotals::Own(totals) = self {
            return other.add_to(totals);
        }
        let mut totals = self.take();
        other.add_to(&mut totals);
        *self = StepTotals::Own(totals);
    }

    /// Adds it to a step that is written, as what an edge with this index, seen and open like the row, had.
    pub fn pack(&self, packer: &mut Packer, index: usize, seen: Seen, open: u64) {
        match self {
            StepTotals::All(totals) => packer.put(index, totals, seen, open),
            StepTotals::Packed(raw) => packer.put_raw(index, *raw),
            StepTotals::Own(totals) => packer.put(index, totals, seen, open),
        }
    }

    /// Unpacked; nothing is left.
    pub(super) fn take(&mut self) -> Box<EdgeTotals> {
        match std::mem::replace(self, StepTotals::Own(Box::default())) {
            StepTotals::Own(totals) => totals,
            shared => {
                let mut totals = Box::default();
                shared.add_to(&mut totals);
                totals
            }
        }
    }
}

impl StepEdges {
    /// These, and the same between workloads on their hosts.
    #[must_use]
    pub const fn written(edges: Vec<StepEdge>, finer: Vec<StepEdge>) -> Self {
        StepEdges(Edges::Written { edges, finer })
    }

    /// What is written out, or what is needed for it.
    pub(super) fn written_out(&self) -> Result<(&[StepEdge], &[StepEdge]), &KnownEdges> {
        match &self.0 {
            Edges::Written { edges, finer } => Ok((edges, finer)),
            Edges::Known(known) => Err(known),
        }
    }

    pub(crate) fn known(known: KnownEdges) -> Self {
        StepEdges(Edges::Known(Arc::new(known)))
    }

    /// How many rows there are between services.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.0 {
            Edges::Written { edges, .. } => edges.len(),
            Edges::Known(known) => known.edges.len(),
        }
    }
}

impl fmt::Debug for StepEdges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Edges::Written { edges, finer } => write!(f, "{edges:?}, {finer:?}"),
            Edges::Known(known) => {
                write!(f, "{} edges, {} parts", known.edges.len(), known.parts.len())
            }
        }
    }
}

impl KnownEdges {
    /// `edges` are in the order in which they are packed; parts tell the index of theirs.
    pub(crate) fn of(
        directory: Arc<Directory>,
        edges: Vec<KnownEdge>,
        packed: Arc<[u8]>,
        parts: Vec<(usize, Ends, EdgeTotals, u64)>,
    ) -> Self {
        let parts = parts.into_iter().filter_map(|(index, ends, totals, open)| {
            let edge = edges.binary_search_by_key(&index, |edge| edge.index).ok()?;
            Some(StepPart { edge, ends, totals, open })
        });
        let mut parts: Vec<_> = parts.collect();
        parts.sort_by_key(|part| part.edge);
        KnownEdges { directory, edges, packed, parts }
    }
}
