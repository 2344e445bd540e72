//! The rows of a step, one after the other, with no more said of their ends than is asked for.

use std::{collections::HashMap, hash::BuildHasherDefault, iter::Peekable, slice, sync::Arc};

use super::{
    step::{EndedStep, KnownEdge, KnownEdges, StepEdge, StepPart, StepRow, StepTotals},
    view::ViewNode,
};
use crate::{
    base::{hasher::NumberHasher, id::Id},
    count::{
        edges::Seen,
        packed::Unpacker,
        parts::{End, Ends},
    },
    who::{directory::Directory, services::ServiceIx},
};

/// The rows of a step.
pub struct StepRows<'a>(Rows<'a>);

enum Rows<'a> {
    Written { finer: bool, edges: slice::Iter<'a, StepEdge>, ends: Vec<&'a Arc<ViewNode>> },
    Known(KnownRows<'a>),
}

impl EndedStep {
    /// Its rows: those between services, or the finer ones between workloads on their hosts, which add up to these. Of
    /// the finer ones, several may be between the same.
    #[must_use]
    pub fn rows(&self, finer: bool) -> StepRows<'_> {
        StepRows(match self.edges.written_out() {
            Ok((edges, on_hosts)) => {
                let edges = if finer { on_hosts } else { edges };
                Rows::Written { finer, edges: edges.iter(), ends: Vec::new() }
            }
            Err(known) => Rows::Known(KnownRows::of(known, finer)),
        })
    }
}

impl StepRows<'_> {
    /// What tells an end of a row from others: its id, or, between workloads on their hosts, one that also tells in which
    /// zone it is.
    #[must_use]
    pub fn key(&self, end: usize) -> Option<Id> {
        match &self.0 {
            Rows::Written { finer: false, ends, .. } => ends.get(end).map(|node| node.id),
            Rows::Written { ends, .. } => ends.get(end).map(|node| node.id_in_zone()),
            Rows::Known(known) => known.ends.key(end),
        }
    }

    /// What is told of an end of a row.
    #[must_use]
    pub fn node(&self, end: usize) -> Option<Arc<ViewNode>> {
        match &self.0 {
            Rows::Written { ends, .. } => ends.get(end).map(|node| Arc::clone(node)),
            Rows::Known(known) => known.ends.node(end),
        }
    }
}

impl<'a> Iterator for StepRows<'a> {
    type Item = StepRow<'a>;

    fn next(&mut self) -> Option<StepRow<'a>> {
        match &mut self.0 {
            Rows::Written { edges, ends, .. } => {
                let edge = edges.next()?;
                ends.extend([&edge.source, &edge.target]);
                Some(StepRow {
                    place: None,
                    ends: [ends.len() - 2, ends.len() - 1],
                    server_port: edge.server_port,
                    seen: edge.seen,
                    connections_open: edge.connections_open,
                    totals: StepTotals::All(&edge.totals),
                })
            }
            Rows::Known(known) => known.next(),
        }
    }
}

/// The rows of what the graph has packed.
struct KnownRows<'a> {
    ends: KnownEnds<'a>,
    edges: slice::Iter<'a, KnownEdge>,
    packed: Unpacker<'a>,
    /// None between services.
    parts: Peekable<slice::Iter<'a, StepPart>>,
    /// How many edges were begun.
    begun: usize,
    rest: Option<Rest<'a>>,
}

/// What is left of an edge.
struct Rest<'a> {
    edge: &'a KnownEdge,
    seen: Seen,
    totals: StepTotals<'a>,
    open: u64,
}

impl<'a> KnownRows<'a> {
    fn of(known: &'a KnownEdges, finer: bool) -> Self {
        let parts = if finer { known.parts.as_slice() } else { &[] };
        KnownRows {
            ends: KnownEnds::of(&known.directory, finer),
            edges: known.edges.iter(),
            packed: Unpacker::new(&known.packed),
            parts: parts.iter().peekable(),
            begun: 0,
            rest: None,
        }
    }

    fn begin(&mut self) -> Option<Rest<'a>> {
        let edge = self.edges.next()?;
        let (head, raw) = self.packed.raw()?;
        self.begun += 1;
        Some(Rest { edge, seen: head.seen, totals: StepTotals::Packed(raw), open: head.open })
    }

    fn next(&mut self) -> Option<StepRow<'a>> {
        loop {
            let mut rest = match self.rest.take() {
                Some(rest) => rest,
                None => self.begin()?,
            };
            let at = self.begun - 1;
            if let Some(part) = self.parts.next_if(|part| part.edge == at) {
                let row = self.part(&mut rest, part);
                self.rest = Some(rest);
                if row.is_some() {
                    return row;
                }
                continue;
            }
            if rest.is_nothing() {
                continue;
            }
            if let Some(ends) = self.ends.of_edge(rest.edge, rest.edge.ends) {
                let place = Some(rest.edge.index);
                return Some(rest.edge.row(place, ends, (rest.totals, rest.seen, rest.open)));
            }
        }
    }

    /// Takes a part, which is never more than the whole; both its ends are known as long as it is.
    fn part(&mut self, rest: &mut Rest<'a>, part: &StepPart) -> Option<StepRow<'a>> {
        let ends = self.ends.of_edge(rest.edge, part.ends)?;
        let whole = rest.totals.take();
        let Some(less) = whole.less(&part.totals) else {
            rest.totals = StepTotals::Own(whole);
            return None;
        };
        rest.totals = StepTotals::Own(Box::new(less));
        let open = part.open.min(rest.open);
        rest.open -= open;
        let totals = StepTotals::Own(Box::new(part.totals.clone()));
        Some(rest.edge.row(None, ends, (totals, rest.seen, open)))
    }
}

impl Rest<'_> {
    fn is_nothing(&self) -> bool {
        self.open == 0 && matches!(&self.totals, StepTotals::Own(totals) if totals.is_zero())
    }
}

impl KnownEdge {
    fn row<'a>(
        &self,
        place: Option<usize>,
        ends: [usize; 2],
        (totals, seen, connections_open): (StepTotals<'a>, Seen, u64),
    ) -> StepRow<'a> {
        let server_port = self.key.2;
        StepRow { place, ends, server_port, seen, connections_open, totals }
    }
}

/// Ends of rows: most are of many edges.
struct KnownEnds<'a> {
    directory: &'a Directory,
    finer: bool,
    numbers: HashMap<(ServiceIx, End), Option<usize>, BuildHasherDefault<NumberHasher>>,
    /// By their numbers.
    ends: Vec<(ServiceIx, End)>,
}

impl<'a> KnownEnds<'a> {
    fn of(directory: &'a Directory, finer: bool) -> Self {
        KnownEnds { directory, finer, numbers: HashMap::default(), ends: Vec::new() }
    }

    fn of_edge(&mut self, edge: &KnownEdge, (ours, theirs): Ends) -> Option<[usize; 2]> {
        let (client, server, _) = edge.key;
        Some([self.number(client, ours)?, self.number(server, theirs)?])
    }

    fn number(&mut self, service: ServiceIx, end: End) -> Option<usize> {
        let end = if self.finer { end } else { End::default() };
        *self.numbers.entry((service, end)).or_insert_with(|| {
            self.directory.services.get(service)?.told()?;
            self.ends.push((service, end));
            Some(self.ends.len() - 1)
        })
    }

    fn key(&self, number: usize) -> Option<Id> {
        let (service, end) = *self.ends.get(number)?;
        match self.finer {
            true => self.directory.id_in_zone(service, end),
            false => Some(self.directory.services.get(service)?.told()?.id),
        }
    }

    fn node(&self, number: usize) -> Option<Arc<ViewNode>> {
        let (service, end) = *self.ends.get(number)?;
        match self.finer {
            true => self.directory.look_up(service, end),
            false => self.directory.services.get(service)?.told().cloned(),
        }
    }
}
