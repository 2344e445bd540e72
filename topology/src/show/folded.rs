//! A view that is folded while it is made: samples are added up only for what is shown.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use super::{
    adding::{Added, Sum},
    rank::Rank,
    slice::{Rest, Slice},
    sums::Sums,
    view::{View, ViewEdge, ViewNode},
};
use crate::{
    base::{arena::Arena, id::Id},
    count::edges::PROTOCOL,
    model::WorkloadKind,
    who::services::{OTHER, Service, ServiceIx},
};

impl Slice {
    /// The [view](Self::view), [folded](View::fold).
    #[must_use]
    pub fn folded(self, limit: usize, rank: Rank, sums: &Sums) -> View {
        if rank == Rank::Rtt || self.is_finer() {
            // By samples, of all edges; or of nodes that are not services.
            return self.view(sums).fold(limit, rank);
        }
        let (added, rest) = self.add_up(sums);
        match Ends::of(&added, &rest.services, limit, rank) {
            Some(ends) => fold(added, rest, &ends),
            None => rest.show(added.whole()),
        }
    }
}

/// Which services stay, and which are folded.
struct Ends {
    limit: usize,
    /// By the place of a service: which of those that stay it is.
    kept: Vec<Option<usize>>,
    /// Those that stay and those that do not.
    services: [Vec<ServiceIx>; 2],
    /// Id of what the rest is folded into, and of what was folded before.
    other: Id,
}

impl Ends {
    /// The highest stay; `None` when all of them do.
    fn of(added: &Added, services: &Arena<Service>, limit: usize, rank: Rank) -> Option<Self> {
        let mut ranks: Vec<Option<(ServiceIx, u64)>> = vec![None; services.places()];
        for sum in added.shown() {
            let ends = [sum.key.0, sum.key.1];
            if ends.iter().any(|end| services.get(*end).is_none()) {
                continue;
            }
            let high = rank.of_totals(&sum.totals);
            for end in ends {
                if let Some(known) = ranks.get_mut(end.index()) {
                    let (_, sum) = known.get_or_insert((end, 0));
                    *sum = sum.saturating_add(high);
                }
            }
        }
        let other = Id::of_node(WorkloadKind::Other, "", OTHER);
        let order = |(ix, high): (ServiceIx, u64)| {
            let id = services.get(ix)?.id;
            // What was folded before is part of the rest, however much it is.
            Some((id == other, Reverse(high), id, ix))
        };
        let mut order: Vec<_> = ranks.into_iter().flatten().filter_map(order).collect();
        if order.len() <= limit {
            return None;
        }
        order.sort_unstable();
        let mut all: Vec<ServiceIx> = order.into_iter().map(|(.., ix)| ix).collect();
        let folded = all.split_off(limit);
        let mut kept = vec![None; services.places()];
        for (at, ix) in all.iter().enumerate() {
            kept[ix.index()] = Some(at);
        }
        Some(Ends { limit, kept, services: [all, folded], other })
    }

    /// Which of those that stay a service is; of the rest, none.
    fn kept(&self, ix: ServiceIx) -> Option<usize> {
        self.kept.get(ix.index()).copied().flatten()
    }

    /// Whether an end is folded; what was folded before is what it is.
    fn is_folded(&self, ix: ServiceIx, id: Id) -> bool {
        self.kept(ix).is_none() && id != self.other
    }

    /// How many pairs of ends there are one of which is the rest.
    const fn pairs(&self) -> usize {
        2 * (self.limit + 1)
    }

    /// Which of these pairs that of an edge is.
    fn pair(&self, client: ServiceIx, server: ServiceIx) -> usize {
        match (self.kept(client), self.kept(server)) {
            (Some(client), _) => self.limit + 1 + client,
            (None, Some(server)) => server,
            (None, None) => self.limit,
        }
    }
}

/// What became of the sums.
struct Folding {
    edges: Vec<ViewEdge>,
    /// By sum: which edge it is, or is a part of.
    edge_of: Vec<Option<u32>>,
}

impl Folding {
    /// Folds everything but samples of steps.
    fn of(sums: Vec<Sum>, rest: &Rest, ends: &Ends) -> Self {
        let mut folding = Folding { edges: Vec::new(), edge_of: vec![None; sums.len()] };
        let mut folded: Vec<Option<u32>> = vec![None; ends.pairs()];
        for (sum, edge_of) in sums.into_iter().zip(&mut folding.edge_of) {
            let (client, server, _) = sum.key;
            let Some(mut edge) = sum.is_shown().then(|| rest.edge(sum)).flatten() else { continue };
            let next = folding.edges.len() as u32;
            if !ends.is_folded(client, edge.source) && !ends.is_folded(server, edge.target) {
                *edge_of = Some(next);
                folding.edges.push(edge);
                continue;
            }
            match folded.get_mut(ends.pair(client, server)) {
                Some(Some(at)) => {
                    *edge_of = Some(*at);
                    if let Some(known) = folding.edges.get_mut(*at as usize) {
                        known.fold_in(&edge);
                    }
                }
                Some(at) => {
                    (*at, *edge_of) = (Some(next), Some(next));
                    for (end, ix) in [(&mut edge.source, client), (&mut edge.target, server)] {
                        *end = ends.kept(ix).map_or(ends.other, |_| *end);
                    }
                    folding.edges.push(edge);
                }
                None => {}
            }
        }
        for at in folded.into_iter().flatten() {
            if let Some(edge) = folding.edges.get_mut(at as usize) {
                edge.id = Id::of_edge(edge.source, edge.target, edge.server_port, PROTOCOL);
            }
        }
        folding
    }
}

fn fold(mut added: Added, rest: Rest, ends: &Ends) -> View {
    let sums = std::mem::take(&mut added.sums);
    let one_sided = rest.one_sided(&sums);
    let Folding { mut edges, edge_of } = Folding::of(sums, &rest, ends);
    let place = |sum: usize| edge_of.get(sum).copied().flatten().map(|at| at as usize);
    added.add_samples(&mut edges, place, |edge| &mut edge.totals);
    let [kept, folded] = &ends.services;
    let folded = folded.iter().filter_map(|ix| rest.services.get(*ix)?.told());
    let hosts: BTreeSet<&str> = folded.flat_map(|node| &node.hosts).map(String::as_str).collect();
    let mut nodes: Vec<_> = kept.iter().filter_map(|ix| rest.node(*ix)).collect();
    let hosts = hosts.into_iter().map(str::to_owned).collect();
    nodes.push(Arc::new(ViewNode::other(hosts)));
    rest.view(nodes, edges, one_sided)
}
