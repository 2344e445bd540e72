//! Forgetting: what ended long ago makes room.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::Graph;
use crate::{
    base::{time::Timestamp, totals::EdgeTotals},
    count::{
        former::Counted,
        half::{End, Half, HalfIx, Whose},
        link::{Link, LinkIx, Row},
        parts::Ends,
    },
    model::Role,
    nodes::{Node, NodeIx},
    who::{
        evidence::Change,
        services::{ServiceIx, WorkloadIx},
    },
};

/// How long halves of an earlier map generation are remembered, in case it comes back.
const OLD_LIFE: Duration = Duration::from_secs(600);

/// Rows of a link that it feeds no more.
const ROWS: usize = 64;

/// Ended halves by the time at which they are forgotten.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Forgetting(BinaryHeap<Reverse<(Timestamp, HalfIx)>>);

impl Forgetting {
    pub(crate) fn add(&mut self, at: Timestamp, half: HalfIx) {
        self.0.push(Reverse((at, half)));
    }

    fn due(&mut self, now: Timestamp) -> Option<HalfIx> {
        let Reverse((at, _)) = self.0.peek()?;
        if *at > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, half))| half)
    }
}

impl Graph {
    /// Once per step: forgets what has been over for long enough.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        self.end_what_streams_left_out(now);
        self.end_what_nodes_left_behind(now);
        while let Some(ix) = self.forgetting.due(now) {
            // It may have come again, or been ended again for longer.
            let due = |end: End| end.forget_at <= now;
            if self.halves.get(ix).and_then(|half| half.ended).is_some_and(due) {
                self.forget(ix);
            }
        }
        self.edges.series.hide_idle_since(now.minus(self.config.edge_idle_expiry));
        self.edges.forget_idle_since(now.minus(self.history.reach()));
        self.edges.series.make_room();
        self.questions.forget(&self.halves);
        self.sweep_services();
    }

    /// A node came back, perhaps in another life: what the former one counted stays, but ends.
    pub(crate) fn leave_older_lives(&mut self, ix: NodeIx, now: Timestamp) {
        let Some(node) = self.nodes.get(ix) else { return };
        let epoch = node.life.epoch;
        self.end_halves_of(ix, now.plus(OLD_LIFE), |half| half.id.1 != epoch);
    }

    /// A stream begins with every half there is. What it has not opened within
    /// [`crate::Config::half_linger`] is gone.
    fn end_what_streams_left_out(&mut self, now: Timestamp) {
        let linger = self.config.half_linger;
        let ready =
            |node: &Node| node.connected() && !node.swept && now.since(node.connected_at) >= linger;
        let nodes: Vec<_> =
            self.nodes.iter().filter(|(_, node)| ready(node)).map(|(ix, _)| ix).collect();
        for ix in nodes {
            let Some(node) = self.nodes.get_mut(ix) else { continue };
            node.swept = true;
            let stream = node.last_stream;
            self.end_halves_of(ix, now.plus(OLD_LIFE), |half| half.by.stream != stream);
        }
    }

    /// Nodes that nobody expects any more leave nothing behind.
    fn end_what_nodes_left_behind(&mut self, now: Timestamp) {
        let oldest = now.minus(self.config.node_memory);
        let gone = |node: &Node| {
            !node.connected()
                && node.left_at < oldest
                && !(node.halves.is_empty() && node.addresses.is_empty())
        };
        let nodes: Vec<_> =
            self.nodes.iter().filter(|(_, node)| gone(node)).map(|(ix, _)| ix).collect();
        for ix in nodes {
            self.end_halves_of(ix, now, |_| true);
            self.set_addresses(ix, Vec::new());
            self.set_listeners(ix, []);
            self.services.names.forget(ix);
        }
    }

    fn end_halves_of(
        &mut self,
        ix: NodeIx,
        forget_at: Timestamp,
        which: impl Fn(&crate::count::half::Half) -> bool,
    ) {
        self.prune_halves_of(ix);
        let halves = &self.halves;
        let Some(node) = self.nodes.get(ix) else { return };
        let ending: Vec<_> = node
            .halves
            .iter()
            .copied()
            .filter(|ix| halves.get(*ix).is_some_and(|half| half.ended.is_none() && which(half)))
            .collect();
        for half in ending {
            self.end_half(half, End { forget_at, by_agent: false });
        }
    }

    /// Forgets which halves a node had that are gone by now.
    pub(crate) fn prune_halves_of(&mut self, ix: NodeIx) {
        let halves = &self.halves;
        if let Some(node) = self.nodes.get_mut(ix) {
            node.halves.retain(|half| halves.get(*half).is_some());
            node.halves_before_pruning = 2 * node.halves.len() + 64;
        }
    }

    /// Forgets a half. What it counted stays with its link, as long as that has other halves.
    pub(super) fn forget(&mut self, ix: HalfIx) {
        let Some(half) = self.halves.get(ix) else { return };
        let counted = self.counted_for(ix, half);
        let Some(half) = self.halves.remove(ix) else { return };
        self.halves.translations.give(half.node(), self.links.told(half.link, ix).len());
        let served = (half.role() == Role::Server).then_some(half.id.2.server_port);
        self.evidence.half(half.place, served, half.service, Change::Forgotten);
        let Some(link) = self.links.get_mut(half.link) else { return };
        for row in &link.rows {
            self.edges.remember(row.edge, &half);
        }
        link.halves.retain(|other| *other != ix);
        if !link.halves.is_empty() {
            link.keep(ix, &half, counted);
            let (crowded, let_go) = (link.is_crowded(), link.has_let_go());
            if let_go {
                self.links.let_go(half.link, &self.halves);
            }
            if crowded {
                self.fold_rests(half.link);
            }
            return;
        }
        if let Some(link) = self.links.remove(half.link) {
            for row in link.rows {
                self.edges.release(&row);
            }
        }
    }

    /// What a half has counted, by whose connections that was, where it was in question and answered.
    fn counted_for(&self, ix: HalfIx, half: &Half) -> Vec<(Option<ServiceIx>, EdgeTotals)> {
        let mut now = EdgeTotals::default();
        if half.role() == Role::Client {
            now.add_half(Role::Client, &half.counters, &half.histograms);
            return vec![(None, now)];
        }
        let Counted { before: mut counted, last, now } = self.halves.counted(ix, half);
        counted.extend(last);
        let client = match half.whose {
            Whose::Of(client) if !self.halves.has_several(ix, half) => Some(client),
            Whose::Of(_) | Whose::Nobody | Whose::Unknown { .. } => None,
        };
        counted.push((client, now));
        counted
    }

    /// Behind an address there were many services, one after the other: those that are gone are told apart no more. What
    /// was published for their edges stays there, and is taken to have been published for those of `other`.
    fn fold_rests(&mut self, ix: LinkIx) {
        let other = self.services.other();
        let Some(mut link) = self.links.take(ix) else { return };
        let side = |half: &Half| (half.role(), half.service);
        let halves = || link.halves.iter().filter_map(|ix| self.halves.get(*ix));
        let present: HashSet<_> = halves().map(side).collect();
        let asked = halves().filter_map(|half| match half.whose {
            Whose::Of(client) => Some((Role::Client, client)),
            Whose::Nobody | Whose::Unknown { .. } => None,
        });
        let formers = link.halves.iter().filter_map(|ix| self.halves.former(*ix));
        let formers = formers.flat_map(|former| former.clients());
        let asked = asked.chain(formers.map(|client| (Role::Client, client)));
        let kept: HashSet<_> = present.into_iter().chain(asked).collect();
        let rests = link.rests.iter().map(|rest| (rest.role, rest.service));
        let gone: HashSet<_> = rests.filter(|side| !kept.contains(side)).collect();
        link.fold_rests(&gone, other);
        let name = |role, service| if gone.contains(&(role, service)) { other } else { service };
        self.rename_rows(&mut link, name);
        self.links.put_back(ix, link);
        self.links.enqueue(ix);
    }

    /// What a link has published for the edges of services is taken to have been published for those of others.
    pub(super) fn rename_rows(
        &mut self,
        link: &mut Link,
        name: impl Fn(Role, ServiceIx) -> ServiceIx,
    ) {
        let node = self.node_of(link).unwrap_or_default();
        let mut rows: Vec<Row> = Vec::new();
        for mut row in std::mem::take(&mut link.rows) {
            let key = self.edges.get(row.edge).map(|edge| edge.key);
            let renamed = key.map(|(client, server, port)| {
                (name(Role::Client, client), name(Role::Server, server), port)
            });
            if let Some(renamed) = renamed.filter(|renamed| Some(*renamed) != key)
                && let Some(mut new) =
                    self.edges.refer((renamed, Ends::default()), &self.services, node, self.clock)
            {
                self.edges.take_over(&mut new, row);
                row = new;
            }
            match rows.iter_mut().find(|known| known.edge == row.edge) {
                Some(known) => {
                    let (was, more) = (known.open, row.open);
                    self.edges.take_over(known, row);
                    known.open = was.saturating_add(more);
                    self.edges.set_open(known, was, known.open);
                }
                None => rows.push(row),
            }
        }
        link.rows = rows;
    }

    /// What a link has published is kept apart for so many edges only that it feeds no more: behind it, services may move
    /// to other names without end. What was published stays where it is; how much that was is kept in one sum for all
    /// that have the same end left. `feeds` says which rows the link feeds still.
    pub(super) fn fold_rows(&mut self, link: &mut Link, feeds: &[bool]) {
        if feeds.iter().filter(|feeds| !**feeds).count() <= ROWS {
            return;
        }
        let edges = &self.edges;
        let ends = |row: &Row| edges.get(row.edge).map(|edge| (edge.key.0, edge.key.1));
        let fed = link.rows.iter().zip(feeds).filter(|(_, feeds)| **feeds);
        let fed: Vec<_> = fed.filter_map(|(row, _)| ends(row)).collect();
        let left_of = |row: &Row| {
            let (client, server) = ends(row)?;
            let client = fed.iter().any(|fed| fed.0 == client).then_some(client);
            let server = fed.iter().any(|fed| fed.1 == server).then_some(server);
            Some((client, server))
        };
        let left = link.rows.iter().zip(feeds);
        let left: Vec<_> = left.map(|(row, feeds)| left_of(row).filter(|_| !feeds)).collect();
        let mut rows: Vec<Row> = Vec::new();
        let mut sums = HashMap::new();
        for (row, left) in std::mem::take(&mut link.rows).into_iter().zip(left) {
            let sum = left.map(|left| *sums.entry(left).or_insert(rows.len()));
            match sum.and_then(|at| rows.get_mut(at)) {
                Some(sum) => self.edges.take_over(sum, row),
                None => rows.push(row),
            }
        }
        link.rows = rows;
    }

    /// Forgets workloads that no half or listener is of, and that no stream has a number for.
    pub fn forget_workloads(&mut self, numbered: &HashSet<WorkloadIx>) {
        let halves = self.halves.iter().map(|half| half.id.2.workload);
        let nodes = self.nodes.iter();
        let listeners = nodes.flat_map(|(_, node)| &node.listeners);
        let used = halves.chain(listeners.map(|listener| listener.workload));
        let used = used.chain(numbered.iter().copied()).chain(self.edges.workloads()).collect();
        self.services.forget_workloads(&used);
    }

    fn sweep_services(&mut self) {
        let mut services: HashSet<ServiceIx> = HashSet::new();
        for half in self.halves.iter() {
            services.insert(half.service);
            if let Whose::Of(client) = half.whose {
                services.insert(client);
            }
        }
        services.extend(self.halves.former_clients());
        for link in self.links.iter() {
            for rest in &link.rests {
                services.insert(rest.service);
                services.extend(rest.client);
            }
        }
        for (_, node) in self.nodes.iter() {
            services.insert(node.host);
        }
        for (_, edge) in self.edges.iter() {
            services.extend([edge.key.0, edge.key.1]);
        }
        self.services.sweep(services);
    }
}
