//! What agents define: workloads, halves, listeners.

use std::collections::HashSet;

use super::{Graph, room};
use crate::{
    base::time::Timestamp,
    count::{
        half::{Definition, End, HalfIx},
        history::Lost,
        link::{Link, LinkKey},
    },
    error::DefineError,
    model::{HalfKey, Listener, Role, Workload},
    nodes::NodeIx,
    who::{evidence::Change, place::Place, services::WorkloadIx},
};

/// Listeners of a node; an agent of ours knows 4,096 at most.
const MOST_LISTENERS: usize = 16_384;

/// The cause under which it is counted that there are more.
const NO_ROOM: &str = "aggregator_listeners_full";

impl Graph {
    /// Makes a workload of a node known; the same one always gets the same number, until it is
    /// forgotten by [`forget_workloads`](Self::forget_workloads). One that there is no room for is `other`.
    ///
    /// # Errors
    /// The node is not known.
    pub fn intern_workload(
        &mut self,
        ix: NodeIx,
        workload: Workload,
    ) -> Result<WorkloadIx, DefineError> {
        let node = self.nodes.get(ix).ok_or(DefineError::UnknownNode)?;
        let before = self.services.folded;
        let workload = self.services.intern(ix, &node.name, workload);
        let folded = self.services.folded - before;
        if folded > 0 {
            self.history.lose(Lost { folded, ..Lost::default() });
            if let Some(node) = self.nodes.get_mut(ix) {
                node.folded.workloads += folded;
            }
        }
        Ok(workload)
    }

    /// Opens a half. One that is there already, from an earlier stream of the same map
    /// generation, goes on where it was; of a new generation it is another half. `birth` tells halves of the
    /// same key apart within the agent's session: a later one begins at 0, on top of what is there. 0 when the agent
    /// does not say. Where the node has no room for another, it is folded: the half returned is that of many.
    ///
    /// # Errors
    /// The workload is another node's.
    pub fn open_half(
        &mut self,
        ix: NodeIx,
        mut key: HalfKey<WorkloadIx>,
        birth: u64,
        now: Timestamp,
    ) -> Result<HalfIx, DefineError> {
        if key.is_folded() {
            // Its agent folds by itself.
            key = HalfKey::folded(key.workload, key.role);
        } else {
            let epoch = self.nodes.get(ix).ok_or(DefineError::UnknownNode)?.life.epoch;
            let known = self.halves.find(&(ix, epoch, key)).is_some();
            let room = || self.halves.shares.has_room(ix) && self.has_room_at_link(ix, &key);
            if !known && !room() {
                return self.fold_half(ix, key.workload, key.role, now);
            }
        }
        self.open(ix, key, birth, now)
    }

    /// Whether the link that a half would be of is not too large already.
    fn has_room_at_link(&self, ix: NodeIx, key: &HalfKey<WorkloadIx>) -> bool {
        let Some(node) = self.nodes.get(ix) else { return true };
        let place = |address| Place::of(ix, node.life.boot, address);
        let (client, server) = match key.role {
            Role::Client => (place(key.local), place(key.peer)),
            Role::Server => (place(key.peer), place(key.local)),
        };
        let key = LinkKey { client, server, server_port: key.server_port };
        self.links.find(&key).is_none_or(Link::has_room)
    }

    /// Opens a half for which there is room.
    pub(super) fn open(
        &mut self,
        ix: NodeIx,
        key: HalfKey<WorkloadIx>,
        birth: u64,
        now: Timestamp,
    ) -> Result<HalfIx, DefineError> {
        let now = self.see(now);
        let node = self.nodes.get_mut(ix).ok_or(DefineError::UnknownNode)?;
        let workload = self.services.workload(key.workload).filter(|entry| entry.node == ix);
        let service = workload.ok_or(DefineError::UnknownWorkload)?.service;
        let id = (ix, node.life.epoch, key);
        let by = Definition { stream: node.last_stream, session: node.incarnation.session, birth };
        if let Some(half) = self.halves.find(&id) {
            self.reopen(half, by);
            return Ok(half);
        }
        let boot = node.life.boot;
        let (local, peer) = (Place::of(ix, boot, key.local), Place::of(ix, boot, key.peer));
        let (place, link) = match key.role {
            role if key.is_folded() => (Place::Other, room::link_of(ix, role)),
            Role::Client => {
                (local, LinkKey { client: local, server: peer, server_port: key.server_port })
            }
            Role::Server => {
                (local, LinkKey { client: peer, server: local, server_port: key.server_port })
            }
        };
        let meeting = link;
        let link = self.links.meet(meeting, now);
        let alike = self.links.get(link).is_some_and(|link| {
            let mut halves = link.halves.iter().filter_map(|half| self.halves.get(*half));
            halves.any(|half| {
                half.role() == key.role && half.service == service && link.key_of(half) == meeting
            })
        });
        let half = self.halves.insert(id, service, place, link, by, now);
        node.halves.push(half);
        if node.halves.len() > node.halves_before_pruning {
            self.prune_halves_of(ix);
        }
        if let Some(link) = self.links.get_mut(link) {
            link.halves.push(half);
            if !alike {
                link.seeks = true;
                link.gather(now, self.config.gather_for, self.config.settle_after);
                link.freshen(now);
            }
        }
        self.links.enqueue(link);
        let served = (key.role == Role::Server).then_some(key.server_port);
        self.evidence.half(place, served, service, Change::Comes);
        self.tie_scopes(half, now);
        Ok(half)
    }

    fn reopen(&mut self, ix: HalfIx, by: Definition) {
        let Some(half) = self.halves.get_mut(ix) else { return };
        let was_over = half.ended.is_some();
        half.defined(by);
        if was_over {
            let served = (half.role() == Role::Server).then_some(half.id.2.server_port);
            self.evidence.half(half.place, served, half.service, Change::Returns);
            self.halves.mark(ix);
        }
    }

    /// A half ended for good: its agent will say no more of it. Should it open again, its totals
    /// begin at 0.
    pub fn retire_half(&mut self, half: HalfIx, now: Timestamp) {
        let now = self.see(now);
        if self.is_folded(half) {
            // One of many.
            return;
        }
        let forget_at = now.plus(self.config.half_linger);
        self.end_half(half, End { forget_at, by_agent: true });
    }

    pub(crate) fn end_half(&mut self, ix: HalfIx, end: End) {
        let Some(half) = self.halves.get_mut(ix) else { return };
        if half.ended.replace(end).is_none() {
            let served = (half.role() == Role::Server).then_some(half.id.2.server_port);
            self.evidence.half(half.place, served, half.service, Change::Ends);
        }
        self.forgetting.add(end.forget_at, ix);
        self.halves.mark(ix);
    }

    /// All listeners of a node.
    pub fn set_listeners(
        &mut self,
        ix: NodeIx,
        listeners: impl IntoIterator<Item = Listener<WorkloadIx>>,
    ) {
        let Some(node) = self.nodes.get(ix) else { return };
        let listeners: Vec<_> = listeners.into_iter().collect();
        let new: HashSet<_> = listeners.iter().copied().collect();
        let gone: Vec<_> = node.listeners.difference(&new).copied().collect();
        for listener in gone {
            self.listener_closed(ix, listener);
        }
        // In the order in which they were told: where there are too many, the same ones stay when the journal is replayed.
        for listener in listeners {
            self.listener_opened(ix, listener);
        }
    }

    /// A workload of a node listens.
    pub fn listener_opened(&mut self, ix: NodeIx, listener: Listener<WorkloadIx>) {
        let Some(node) = self.nodes.get_mut(ix) else { return };
        if node.listeners.len() >= MOST_LISTENERS && !node.listeners.contains(&listener) {
            return self.add_loss(ix, NO_ROOM, 1);
        }
        let workload = self.services.workload(listener.workload).filter(|entry| entry.node == ix);
        if let Some(entry) = workload
            && node.listeners.insert(listener)
        {
            self.evidence.listener(ix, node.life.boot, &listener, entry.service, true);
        }
    }

    /// A workload of a node listens no more.
    pub fn listener_closed(&mut self, ix: NodeIx, listener: Listener<WorkloadIx>) {
        let Some(node) = self.nodes.get_mut(ix) else { return };
        if node.listeners.remove(&listener)
            && let Some(entry) = self.services.workload(listener.workload)
        {
            self.evidence.listener(ix, node.life.boot, &listener, entry.service, false);
        }
    }
}
