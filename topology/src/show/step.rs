//! A step that is over, for whoever keeps it longer than the graph does.

use std::{collections::HashMap, fmt, sync::Arc};

use super::view::ViewNode;
use crate::{
    base::{id::Id, time::Window, totals::EdgeTotals},
    count::{
        edges::{EdgeKey, PROTOCOL, Seen},
        history::Lost,
        packed::{Packer, Raw, Unpacker},
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
    directory: Arc<Directory>,
    edges: Vec<KnownEdge>,
    /// What they had, in the same order.
    packed: Arc<[u8]>,
    /// What is kept apart, in the order of the edges.
    parts: Vec<StepPart>,
}

/// An edge in a step.
pub(crate) struct KnownEdge {
    /// By which it is packed.
    pub(crate) index: usize,
    pub(crate) id: Id,
    pub(crate) key: EdgeKey,
    /// Between whom what is not of a part is.
    pub(crate) ends: Ends,
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
    fn take(&mut self) -> Box<EdgeTotals> {
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
        match &self.edges.0 {
            Edges::Written { edges, .. } if !finer => {
                edges.iter().map(StepRow::from).try_for_each(tell)
            }
            Edges::Written { finer, .. } => finer.iter().try_for_each(|edge| {
                let row = StepRow::from(edge);
                let key = key(row.source.id_in_zone(), row.target.id_in_zone(), row.server_port);
                tell(StepRow { key, ..row })
            }),
            Edges::Known(known) if !finer => known.rows(&mut tell),
            Edges::Known(known) => known.finer_rows(&mut tell),
        }
    }
}

/// Ends with what tells them from others: most are of many edges.
type Keyed = HashMap<(ServiceIx, End), Option<(Arc<ViewNode>, Id)>>;

fn key(source: Id, target: Id, server_port: u16) -> Id {
    Id::of_edge(source, target, server_port, PROTOCOL)
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

    fn rows<'a, E>(&'a self, tell: &mut impl FnMut(StepRow<'a>) -> Result<(), E>) -> Result<(), E> {
        let mut packed = Unpacker::new(&self.packed);
        for edge in &self.edges {
            let Some((head, raw)) = packed.raw() else { break };
            let (client, server, server_port) = edge.key;
            let service = |ix| self.directory.services.get(ix)?.told().cloned();
            let (Some(source), Some(target)) = (service(client), service(server)) else { continue };
            tell(StepRow {
                key: edge.id,
                source,
                target,
                server_port,
                seen: head.seen,
                connections_open: head.open,
                totals: StepTotals::Packed(raw),
            })?;
        }
        Ok(())
    }

    fn finer_rows<'a, E>(
        &'a self,
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
        let mut packed = Unpacker::new(&self.packed);
        let mut parts = self.parts.iter().peekable();
        for (at, edge) in self.edges.iter().enumerate() {
            let Some((head, raw)) = packed.raw() else { break };
            let (client, server, server_port) = edge.key;
            let mut row = |(ours, theirs): Ends, totals, connections_open| {
                let (source, source_key) = end(client, ours)?;
                let (target, target_key) = end(server, theirs)?;
                let key = key(source_key, target_key, server_port);
                let seen = head.seen;
                Some(StepRow { key, source, target, server_port, seen, connections_open, totals })
            };
            let (mut rest, mut open) = (StepTotals::Packed(raw), head.open);
            while let Some(part) = parts.next_if(|part| part.edge == at) {
                // A part is never more than the whole, and both its ends are known as long as it is.
                let whole = rest.take();
                let Some(less) = whole.less(&part.totals) else {
                    rest = StepTotals::Own(whole);
                    continue;
                };
                let part_open = part.open.min(open);
                let totals = StepTotals::Own(Box::new(part.totals.clone()));
                let Some(row) = row(part.ends, totals, part_open) else {
                    rest = StepTotals::Own(whole);
                    continue;
                };
                tell(row)?;
                rest = StepTotals::Own(Box::new(less));
                open -= part_open;
            }
            let is_nothing = open == 0 && matches!(&rest, StepTotals::Own(rest) if rest.is_zero());
            if !is_nothing && let Some(row) = row(edge.ends, rest, open) {
                tell(row)?;
            }
        }
        Ok(())
    }
}
