//! The graph between workloads on their hosts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    adding::{Added, Whole},
    coverage::one_sided,
    group::Grouping,
    rank::Rank,
    slice::Slice,
    sums::Sums,
    view::{View, ViewEdge, ViewNode},
};
use crate::{
    Graph,
    base::{
        arena::Arena,
        id::Id,
        time::{Timestamp, Window},
        totals::EdgeTotals,
    },
    count::{
        agreement::Lead,
        edges::{EdgeKey, Seen},
        history::{Packed, Snapped},
        packed::{Entry, Unpacker},
        parts::{End, Ends, Part},
    },
    who::{
        directory::{Directory, Looked},
        services::ServiceIx,
    },
};

/// What a view between workloads on their hosts is made of besides what one between services is.
pub(super) struct Finer {
    by: Grouping,
    /// What is kept apart of edges: in steps before the last of the window, in the last, and in the running one.
    before: Vec<Packed>,
    last: Vec<Packed>,
    parts: Arena<Part>,
    directory: Directory,
    pending: Vec<PendingPart>,
}

/// What a link has for a part of an edge beyond what is published.
struct PendingPart {
    key: EdgeKey,
    ends: Ends,
    totals: EdgeTotals,
    seen: Seen,
    open: u64,
}

/// A part of an edge while it is added up.
#[derive(Default)]
struct Sum {
    totals: EdgeTotals,
    seen: Seen,
    open: u64,
    published: bool,
}

type PartSums = HashMap<(EdgeKey, Ends), Sum>;

impl Graph {
    /// The graph over a window of time, as of `now`, with a node for each workload and host instead of one for each
    /// service; to be [grouped](View::group) as said. Who has seen an edge is told as of the edge between the
    /// services. Ticks first.
    pub fn view_finer(&mut self, asked: Window, by: Grouping, now: Timestamp) -> View {
        self.slice_finer(asked, by, now).view(&Sums::default())
    }

    /// Taken out of the graph, which has ticked.
    pub(super) fn finer(&mut self, snapped: Snapped, by: Grouping, now: Timestamp) -> Finer {
        let pending = if snapped.running { self.pending_parts(now) } else { Vec::new() };
        let (before, last) = self.history.ended_parts(snapped);
        // Links that are not settled may have made some known.
        self.services.freeze(&self.nodes);
        let parts = self.edges.parts.freeze();
        Finer { by, before, last, parts, directory: self.directory(), pending }
    }

    /// Who everybody is as it is now; of services, what was told since they changed.
    pub(crate) fn directory(&self) -> Directory {
        self.services.directory(&self.nodes, self.zones())
    }

    /// What unsettled links have so far, and what those that have just settled showed before.
    fn pending_parts(&mut self, now: Timestamp) -> Vec<PendingPart> {
        let mut pending = Vec::new();
        for ix in self.links_pending() {
            let Some(link) = self.links.get(ix) else { continue };
            if link.settled {
                for (key, totals, seen) in self.seen_before(ix, now) {
                    let ends = self.edges.ends_of(key).unwrap_or_default();
                    pending.push(PendingPart { key, ends, totals, seen, open: 0 });
                }
                continue;
            }
            let asking = self.asking_anew(link);
            let mut sides = self.sides(link, now);
            let known = self.known_ends(link);
            sides.divide();
            for pairing in sides.pair(&Lead::UNLIMITED).pairings {
                let ends = self.ends_of(&known, &sides, &pairing);
                let (key, seen) = self.edge_of(&asking, &sides, &pairing);
                let (totals, open) = (pairing.totals, pairing.open);
                pending.push(PendingPart { key, ends, totals, seen, open });
            }
        }
        pending
    }
}

impl Finer {
    /// The view that all of it makes.
    pub(super) fn view(self, slice: Slice, sums: &Sums) -> View {
        let Slice { asked, window, mut coverage, ended, edges, running, .. } = slice;
        let Finer { by, before, last, parts, directory, pending } = self;
        let mut added = Added::new(&edges, running, Rank::default());
        let mut first: Vec<Ends> = vec![Ends::default(); edges.places()];
        for (ix, edge) in edges.iter() {
            first[ix.index()] = edge.ends;
        }
        let parts = PartsAdded::of(&parts, [&before, &last], running);
        // From here on the graph may change them without copying.
        drop(edges);
        added.add(sums.of(&ended.before), ended.last);
        let mut sums = parts.parted(added.whole(), &first);
        for PendingPart { key, ends, totals, seen, open } in pending {
            let sum = sums.entry((key, ends)).or_default();
            sum.totals.merge(&totals);
            sum.seen.merge(seen);
            sum.open = sum.open.saturating_add(open);
        }
        let (nodes, edges) = shown(sums, &directory, by);
        coverage.edges_one_sided = one_sided(&nodes, &edges);
        coverage.conclude(asked, window);
        View { window, coverage, nodes, edges }
    }
}

/// Every part, by the place of its edge: between whom it is, what it gained in the window, and what is open.
struct PartsAdded(HashMap<usize, Vec<(Ends, EdgeTotals, u64)>>);

impl PartsAdded {
    fn of(parts: &Arena<Part>, [before, last]: [&[Packed]; 2], running: bool) -> Self {
        let mut sums: HashMap<usize, (EdgeTotals, u64)> = HashMap::new();
        let mut entry = Entry::default();
        let steps = before.iter().map(|step| (step, false));
        for (step, is_last) in steps.chain(last.iter().map(|step| (step, true))) {
            let mut unpacker = Unpacker::new(&step.bytes);
            while unpacker.next(&mut entry).is_some() {
                let (totals, open) = sums.entry(entry.index).or_default();
                totals.merge(&entry.totals);
                *open = if is_last { entry.open } else { *open };
            }
        }
        for (ix, part) in parts.iter().filter(|(_, part)| running && part.is_running()) {
            let (totals, open) = sums.entry(ix.index()).or_default();
            totals.merge(&part.running);
            *open = part.open;
        }
        let mut added = PartsAdded(HashMap::new());
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_unstable_by_key(|(index, _)| *index);
        for (index, (totals, open)) in sums {
            if let Some(part) = parts.at(index) {
                let of_edge = added.0.entry(part.edge.index()).or_default();
                of_edge.push((part.ends, totals, open));
            }
        }
        added
    }

    /// What is not of a part that was kept apart is the first ends'.
    fn parted(mut self, edges: Vec<Whole>, first: &[Ends]) -> PartSums {
        let mut sums = PartSums::with_capacity(edges.len());
        let mut put = |key, ends, totals: EdgeTotals, seen, open| {
            let sum = sums.entry((key, ends)).or_default();
            if sum.totals.is_zero() {
                sum.totals = totals;
            } else {
                sum.totals.merge(&totals);
            }
            sum.seen.merge(seen);
            sum.open = sum.open.saturating_add(open);
            sum.published = true;
        };
        for mut edge in edges {
            for (ends, totals, open) in self.0.remove(&edge.place).unwrap_or_default() {
                // A part is never more than the whole.
                let Some(rest) = edge.totals.less(&totals) else { continue };
                edge.totals = rest;
                let open = open.min(edge.open);
                edge.open -= open;
                put(edge.key, ends, totals, edge.seen, open);
            }
            let ends = first.get(edge.place).copied().unwrap_or_default();
            put(edge.key, ends, edge.totals, edge.seen, edge.open);
        }
        sums
    }
}

fn shown(
    sums: PartSums,
    directory: &Directory,
    by: Grouping,
) -> (Vec<Arc<ViewNode>>, Vec<ViewEdge>) {
    let mut nodes: BTreeMap<Id, Arc<ViewNode>> = BTreeMap::new();
    let mut edges: BTreeMap<Id, ViewEdge> = BTreeMap::new();
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.retain(|(_, sum)| sum.open > 0 || !sum.totals.is_zero());
    // Of nodes with one id, each answer tells the labels of the same one.
    let order = |end: End| (end.node, end.workload);
    sums.sort_by_cached_key(|((key, ends), _)| (*key, order(ends.0), order(ends.1)));
    let mut looked = Looked::new();
    let mut end = |service: ServiceIx, end| {
        let node = directory.end(service, end, &mut looked)?;
        Some((by.id_of(&node), node))
    };
    for (((client, server, server_port), ends), sum) in sums {
        let (Some((source, client)), Some((target, server))) =
            (end(client, ends.0), end(server, ends.1))
        else {
            continue;
        };
        let edge = ViewEdge::new((source, target, server_port), None, sum.seen, sum.published);
        let edge = ViewEdge { connections_open: sum.open, totals: sum.totals, ..edge };
        for (id, node) in [(source, client), (target, server)] {
            nodes.entry(id).or_insert_with(|| node.called_by(id));
        }
        match edges.get_mut(&edge.id) {
            Some(known) => known.fold_in(&edge),
            None => drop(edges.insert(edge.id, edge)),
        }
    }
    (nodes.into_values().collect(), edges.into_values().collect())
}

impl Grouping {
    /// By what id a workload on its host goes in a view that is to be grouped so: one that was in two zones is two where
    /// zones are asked for.
    #[must_use]
    pub fn id_of(self, node: &ViewNode) -> Id {
        if self == Grouping::Zone { node.id_in_zone() } else { node.id }
    }
}

impl ViewNode {
    /// The same by another id.
    #[must_use]
    pub fn called_by(self: Arc<Self>, id: Id) -> Arc<Self> {
        if self.id == id { self } else { Arc::new(ViewNode { id, ..ViewNode::clone(&self) }) }
    }
}

impl View {
    /// Tells some nodes by their names alone: neither hosts nor labels, and by an id that no host can be guessed from.
    /// Those that have one name are one then.
    #[must_use]
    pub fn by_names_alone(self, hidden: impl Fn(&ViewNode) -> bool) -> View {
        let mut nodes: BTreeMap<Id, Arc<ViewNode>> = BTreeMap::new();
        let mut ids: HashMap<Id, Id> = HashMap::new();
        for mut node in self.nodes {
            if hidden(&node) {
                let node = Arc::make_mut(&mut node);
                let id = Id::of_node(node.kind, &node.namespace, &node.name);
                ids.insert(std::mem::replace(&mut node.id, id), id);
                (node.hosts, node.zone, node.labels) = Default::default();
            }
            nodes.entry(node.id).or_insert(node);
        }
        let mut edges: BTreeMap<Id, ViewEdge> = BTreeMap::new();
        for mut edge in self.edges {
            for end in [&mut edge.source, &mut edge.target] {
                *end = ids.get(end).copied().unwrap_or(*end);
            }
            edge.id = Id::of_edge(edge.source, edge.target, edge.server_port, edge.protocol);
            match edges.get_mut(&edge.id) {
                Some(known) => known.fold_in(&edge),
                None => drop(edges.insert(edge.id, edge)),
            }
        }
        let (nodes, edges) = (nodes.into_values().collect(), edges.into_values().collect());
        View { nodes, edges, ..self }
    }
}
