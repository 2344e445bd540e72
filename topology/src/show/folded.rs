//! A view that is folded while it is made: samples are added up only for what is shown.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use super::{
    adding::{Added, Place},
    rank::Rank,
    slice::{Rest, Slice},
    sums::Sums,
    view::{View, ViewEdge, ViewNode},
};
use crate::{
    base::{arena::Arena, id::Id, sheet::Sheet},
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
        let (added, rest) = self.add_up(rank, sums);
        match Ends::of(&added, &rest.services, limit) {
            Some(ends) => fold(added, rest, &ends),
            None => rest.show(added),
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
    fn of(added: &Added, services: &Arena<Service>, limit: usize) -> Option<Self> {
        let mut ranks: Vec<Option<(ServiceIx, u64)>> = vec![None; services.places()];
        for (_, outline) in added.shown() {
            let ends = [outline.key.0, outline.key.1];
            if ends.iter().any(|end| services.get(*end).is_none()) {
                continue;
            }
            for end in ends {
                if let Some(known) = ranks.get_mut(end.index()) {
                    let (_, sum) = known.get_or_insert((end, 0));
                    *sum = sum.saturating_add(outline.high);
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

/// What became of the outlines.
struct Folding {
    edges: Vec<ViewEdge>,
    /// By the place of an outline: what it is shown as.
    places: Vec<Option<Place>>,
    /// Edges of folded services, and which pair of ends each is of.
    folded: Vec<ViewEdge>,
}

impl Folding {
    /// Folds everything that outlines tell.
    fn of(added: &Added, rest: &Rest, ends: &Ends) -> Self {
        let (edges, folded) = (Vec::new(), Vec::new());
        let mut folding = Folding { edges, places: vec![None; added.places()], folded };
        let mut pairs: Vec<Option<u32>> = vec![None; ends.pairs()];
        for (place, outline) in added.shown() {
            let (client, server, _) = outline.key;
            let Some(mut edge) = rest.edge(outline) else { continue };
            if !ends.is_folded(client, edge.source) && !ends.is_folded(server, edge.target) {
                folding.places[place] = Some(Place::Own(folding.edges.len() as u32));
                folding.edges.push(edge);
                continue;
            }
            let Some(pair) = pairs.get_mut(ends.pair(client, server)) else { continue };
            let at = *pair.get_or_insert(folding.folded.len() as u32);
            folding.places[place] = Some(Place::Shared(at));
            match folding.folded.get_mut(at as usize) {
                Some(known) => known.fold_in(&edge),
                None => {
                    for (end, ix) in [(&mut edge.source, client), (&mut edge.target, server)] {
                        *end = ends.kept(ix).map_or(ends.other, |_| *end);
                    }
                    folding.folded.push(edge);
                }
            }
        }
        folding
    }
}

fn fold(added: Added, rest: Rest, ends: &Ends) -> View {
    let one_sided = rest.one_sided(&added);
    let Folding { mut edges, places, mut folded } = Folding::of(&added, &rest, ends);
    let mut sheets: Vec<Sheet> = folded.iter().map(|_| Sheet::default()).collect();
    added.pour(&places, (&mut edges, |edge: &mut ViewEdge| &mut edge.totals), &mut sheets);
    for (edge, sheet) in folded.iter_mut().zip(&mut sheets) {
        edge.totals = sheet.take();
        edge.id = Id::of_edge(edge.source, edge.target, edge.server_port, PROTOCOL);
    }
    edges.append(&mut folded);
    let [kept, folded] = &ends.services;
    let folded = folded.iter().filter_map(|ix| rest.services.get(*ix)?.told());
    let hosts: BTreeSet<&str> = folded.flat_map(|node| &node.hosts).map(String::as_str).collect();
    let mut nodes: Vec<_> = kept.iter().filter_map(|ix| rest.node(*ix)).collect();
    let hosts = hosts.into_iter().map(str::to_owned).collect();
    nodes.push(Arc::new(ViewNode::other(hosts)));
    rest.view(nodes, edges, one_sided)
}
