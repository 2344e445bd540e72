//! What agents define: workloads, halves, listeners.

use std::collections::HashSet;

use super::Graph;
use crate::{
    base::time::Timestamp,
    count::{
        half::{Definition, End, HalfIx},
        history::Lost,
        link::LinkKey,
    },
    error::DefineError,
    model::{HalfKey, Listener, Role, Workload},
    nodes::NodeIx,
    who::{evidence::Change, place::Place, services::WorkloadIx},
};

/// The cause under which a half without room is counted.
const NO_ROOM: &str = "aggregator_halves_full";

impl Graph {
    /// Makes a workload of a node known; the same one always gets the same number, as long as
    /// a stream, a half or a listener refers to it.
    ///
    /// # Errors
    /// The node is not known.
    pub fn intern_workload(
        &mut self,
        ix: NodeIx,
        workload: Workload,
    ) -> Result<WorkloadIx, DefineError> {
        let node = self.nodes.get(ix).ok_or(DefineError::UnknownNode)?;
        Ok(self.services.intern(ix, node.last_stream, &node.name, workload))
    }

    /// Opens a half. One that is there already, from an earlier stream of the same map
    /// generation, goes on where it was; of a new generation it is another half. `birth` tells halves of the
    /// same key apart within the agent's session: a later one begins at 0, on top of what is there. 0 when the agent
    /// does not say.
    ///
    /// # Errors
    /// The workload is another node's, or there is no room: then the refusal is counted
    /// as a loss of the node.
    pub fn open_half(
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
        if self.halves.len() >= self.config.max_halves {
            self.halves_refused += 1;
            node.add_loss(NO_ROOM, 1);
            self.history.lose(Lost { inserts: 1, ..Lost::default() });
            return Err(DefineError::Full);
        }
        let boot = node.life.boot;
        let (local, peer) = (Place::of(ix, boot, key.local), Place::of(ix, boot, key.peer));
        let (client, server) = match key.role {
            Role::Client => (local, peer),
            Role::Server => (peer, local),
        };
        let link = self.links.meet(LinkKey { client, server, server_port: key.server_port }, now);
        let alike = self.links.get(link).is_some_and(|link| {
            let mut halves = link.halves.iter().filter_map(|half| self.halves.get(*half));
            halves.any(|half| half.role() == key.role && half.service == service)
        });
        let half = self.halves.insert(id, service, local, link, by, now);
        node.halves.push(half);
        if node.halves.len() > node.halves_before_pruning {
            self.prune_halves_of(ix);
        }
        if let Some(link) = self.links.get_mut(link) {
            link.halves.push(half);
            if !alike {
                link.gather(now, self.config.gather_for, self.config.settle_after);
            }
        }
        self.links.enqueue(link);
        let served = (key.role == Role::Server).then_some(key.server_port);
        self.evidence.half(local, served, service, Change::Comes);
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
        let new: HashSet<_> = listeners.into_iter().collect();
        let gone: Vec<_> = node.listeners.difference(&new).copied().collect();
        for listener in gone {
            self.listener_closed(ix, listener);
        }
        for listener in new {
            self.listener_opened(ix, listener);
        }
    }

    /// A workload of a node listens.
    pub fn listener_opened(&mut self, ix: NodeIx, listener: Listener<WorkloadIx>) {
        let Some(node) = self.nodes.get_mut(ix) else { return };
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
