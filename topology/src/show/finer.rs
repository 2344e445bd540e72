//! The graph between workloads on their hosts, over a window that is in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    coverage::one_sided,
    view::{SeenBy, View, ViewEdge, ViewNode},
};
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
        parts::{End, Ends},
    },
    model::WorkloadKind,
    who::services::ServiceIx,
};

/// A part of an edge while it is added up.
#[derive(Default)]
struct Sum {
    totals: EdgeTotals,
    seen: Seen,
    open: u64,
    published: bool,
}

type Sums = HashMap<(EdgeKey, Ends), Sum>;

impl Graph {
    /// The graph over a window of time, as of `now`, with a node for each workload and host instead of one for each
    /// service. It goes back as far as memory does. Ticks first. Who has seen an edge is told as of the edge
    /// between the services.
    pub fn view_finer(&mut self, asked: Window, now: Timestamp) -> View {
        let now = self.see(now);
        self.tick(now);
        let snapped = self.history.snap(asked, now);
        let mut edges: HashMap<usize, Sum> = HashMap::new();
        let lost = self.history.visit(snapped, &self.edges, |entry, last| {
            let sum = edges.entry(entry.index).or_default();
            sum.totals.merge(&entry.totals);
            sum.seen.merge(entry.seen);
            sum.open = if last { entry.open } else { sum.open };
        });
        let mut parts: HashMap<usize, Sum> = HashMap::new();
        self.history.visit_parts(snapped, &self.edges, |entry, last| {
            let sum = parts.entry(entry.index).or_default();
            sum.totals.merge(&entry.totals);
            sum.open = if last { entry.open } else { sum.open };
        });
        let mut sums = self.parted(edges, parts);
        if snapped.running {
            self.add_pending_parts(&mut sums, now);
        }
        let window = snapped.window;
        let (nodes, edges) = self.shown_parts(sums);
        let mut coverage = self.coverage(asked, window, lost, one_sided(&nodes, &edges));
        let (first, kept_from) = (self.history.first(), coverage.history_from);
        coverage.complete &= asked.from >= kept_from || kept_from <= first;
        View { window, coverage, nodes, edges }
    }

    /// Parts of edges: what is not of a part that was kept apart is the first ends'.
    fn parted(&self, mut edges: HashMap<usize, Sum>, parts: HashMap<usize, Sum>) -> Sums {
        let mut sums = Sums::new();
        let mut put = |key, ends, totals: &EdgeTotals, seen, open| {
            let sum = sums.entry((key, ends)).or_default();
            sum.totals.merge(totals);
            sum.seen.merge(seen);
            sum.open = sum.open.saturating_add(open);
            sum.published = true;
        };
        for (index, part) in parts {
            let Some(known) = self.edges.parts.at(index) else { continue };
            let edge = self.edges.get(known.edge).map(|edge| edge.key);
            let whole = edges.get_mut(&known.edge.index());
            let (Some(key), Some(whole)) = (edge, whole) else { continue };
            // A part is never more than the whole.
            let Some(rest) = whole.totals.less(&part.totals) else { continue };
            whole.totals = rest;
            let open = part.open.min(whole.open);
            whole.open -= open;
            put(key, known.ends, &part.totals, whole.seen, open);
        }
        for (index, rest) in edges {
            if let Some(edge) = self.edges.at(index) {
                put(edge.key, edge.ends, &rest.totals, rest.seen, rest.open);
            }
        }
        sums
    }

    /// Adds what unsettled links have so far, and what those that have just settled showed before.
    fn add_pending_parts(&mut self, sums: &mut Sums, now: Timestamp) {
        let mut put = |key, ends, totals: &EdgeTotals, seen, open: u64| {
            let sum = sums.entry((key, ends)).or_default();
            sum.totals.merge(totals);
            sum.seen.merge(seen);
            sum.open = sum.open.saturating_add(open);
        };
        for ix in self.links.queue.clone() {
            let Some(link) = self.links.get(ix) else { continue };
            if link.settled {
                for (key, totals, seen) in self.seen_before(ix, now) {
                    let ends = self.edges.ends_of(key).unwrap_or_default();
                    put(key, ends, &totals, seen, 0);
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
                put(key, ends, &pairing.totals, seen, pairing.open);
            }
        }
    }

    fn shown_parts(&mut self, sums: Sums) -> (Vec<Arc<ViewNode>>, Vec<ViewEdge>) {
        let mut nodes: BTreeMap<Id, Arc<ViewNode>> = BTreeMap::new();
        let mut edges: BTreeMap<Id, ViewEdge> = BTreeMap::new();
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.retain(|(_, sum)| sum.open > 0 || !sum.totals.is_zero());
        // Of nodes with one id, each answer tells the labels of the same one.
        let by = |end: End| (end.node, end.workload);
        sums.sort_by_cached_key(|((key, ends), _)| (*key, by(ends.0), by(ends.1)));
        // Most ends are of many parts.
        let mut known: HashMap<(ServiceIx, End), Option<Arc<ViewNode>>> = HashMap::new();
        for (((client, server, server_port), ends), sum) in sums {
            let mut shown = |service, end| {
                let node = known.entry((service, end));
                node.or_insert_with(|| self.end_node(service, end)).clone()
            };
            let (Some(source), Some(target)) = (shown(client, ends.0), shown(server, ends.1))
            else {
                continue;
            };
            let edge = ViewEdge {
                id: Id::of_edge(source.id, target.id, server_port, PROTOCOL),
                source: source.id,
                target: target.id,
                server_port,
                protocol: PROTOCOL,
                seen_by: SeenBy::of(sum.seen),
                resolved_by: sum.seen.by,
                pending: !sum.published,
                connections_open: sum.open,
                totals: sum.totals,
            };
            for node in [source, target] {
                nodes.entry(node.id).or_insert(node);
            }
            match edges.get_mut(&edge.id) {
                Some(known) => known.fold_in(&edge),
                None => drop(edges.insert(edge.id, edge)),
            }
        }
        (nodes.into_values().collect(), edges.into_values().collect())
    }

    /// What is told of one end: the workload on its host, as far as they are known.
    fn end_node(&mut self, service: ServiceIx, end: End) -> Option<Arc<ViewNode>> {
        let told = self.services.view_node(service, &self.nodes)?;
        if matches!(told.kind, WorkloadKind::External | WorkloadKind::Other) {
            return Some(told);
        }
        let host =
            end.node.and_then(|node| self.nodes.get(node)).map(|node| node.name().to_owned());
        let host = host.or_else(|| match told.hosts.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        });
        let (kind, name, labels) =
            match end.workload.and_then(|ix| self.services.workload_called(ix)) {
                Some(called) => (called.kind, called.name.clone(), called.labels.clone()),
                None => (told.kind, told.name.clone(), told.labels.clone()),
            };
        let id = match &host {
            // No name has this character.
            Some(host) => Id::of_node(kind, &told.namespace, &format!("{name}\0{host}")),
            None => Id::of_node(kind, &told.namespace, &name),
        };
        Some(Arc::new(ViewNode {
            id,
            kind,
            namespace: told.namespace.clone(),
            name,
            hosts: host.into_iter().collect(),
            labels,
        }))
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
                (node.hosts, node.labels) = Default::default();
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
