//! Forgetting: what ended long ago makes room.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::Graph;
use crate::{
    base::time::Timestamp,
    count::half::{End, HalfIx, Whose},
    model::Role,
    nodes::{Node, NodeIx},
    who::{evidence::Change, services::ServiceIx},
};

/// How long halves of an earlier map generation are remembered, in case it comes back.
const OLD_LIFE: Duration = Duration::from_secs(600);

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
    fn forget(&mut self, ix: HalfIx) {
        let Some(half) = self.halves.remove(ix) else { return };
        let served = (half.role() == Role::Server).then_some(half.id.2.server_port);
        self.evidence.half(half.place, served, half.service, Change::Forgotten);
        let client = match half.whose {
            Whose::Of(client) => Some(client),
            Whose::Nobody | Whose::Unknown { .. } => None,
        };
        let Some(link) = self.links.get_mut(half.link) else { return };
        link.halves.retain(|other| *other != ix);
        if !link.halves.is_empty() {
            link.keep(&half, client);
            return;
        }
        if let Some(link) = self.links.remove(half.link) {
            for row in link.rows {
                self.edges.release(row.edge, row.open);
            }
        }
    }

    fn sweep_services(&mut self) {
        let mut workloads = HashSet::new();
        let mut services: HashSet<ServiceIx> = HashSet::new();
        for half in self.halves.iter() {
            workloads.insert(half.id.2.workload);
            services.insert(half.service);
            if let Whose::Of(client) = half.whose {
                services.insert(client);
            }
        }
        for link in self.links.iter() {
            for rest in &link.rests {
                services.insert(rest.service);
                services.extend(rest.client);
            }
        }
        for (_, node) in self.nodes.iter() {
            services.insert(node.host);
            workloads.extend(node.listeners.iter().map(|listener| listener.workload));
        }
        for (_, edge) in self.edges.iter() {
            services.extend([edge.key.0, edge.key.1]);
        }
        let nodes = &self.nodes;
        let stream_of = |ix| nodes.get(ix).map_or(crate::StreamId(0), |node| node.last_stream);
        self.services.sweep(&workloads, services, stream_of);
    }
}
