//! Names that are learned late, and rules that change: what is known goes on under the new name.

use std::collections::HashMap;

use super::Graph;
use crate::{
    count::half::{HalfIx, Whose},
    model::{Listener, Role, Workload},
    nodes::NodeIx,
    who::{
        evidence::Change,
        rules::Rules,
        services::{ServiceIx, WorkloadIx},
    },
};

/// Workloads that make up another service now: the old one and the new one.
type Moved = HashMap<WorkloadIx, (ServiceIx, ServiceIx)>;

impl Graph {
    /// What a node's runtimes call its containers, by the name that the kernel's view gives them. What is known of them
    /// already goes on under the new name; series that were published keep the old one.
    pub fn name_containers(
        &mut self,
        node: NodeIx,
        names: impl IntoIterator<Item = (String, Workload)>,
    ) {
        if self.nodes.get(node).is_none() {
            return;
        }
        let mut news = false;
        for (container, called) in names {
            news |= self.services.names.set(node, &container, called);
        }
        if news {
            self.regroup(Some(node));
        }
    }

    /// The user's rules.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        self.services.rules()
    }

    /// From now on services and addresses go by these rules.
    pub fn set_rules(&mut self, rules: Rules) {
        if *self.rules() == rules {
            return;
        }
        self.services.set_rules(rules);
        self.regroup(None);
        // Peers that nobody covers may have other names, too.
        self.links.enqueue_all();
    }

    fn regroup(&mut self, of: Option<NodeIx>) {
        let regrouped = self.services.regroup(of);
        self.edges.rename(&regrouped.renamed, &self.services);
        if regrouped.moved.is_empty() {
            return;
        }
        let nodes: Vec<_> = match of {
            Some(node) => vec![node],
            None => self.nodes.iter().map(|(ix, _)| ix).collect(),
        };
        for node in nodes {
            self.move_halves(node, &regrouped.moved);
            self.move_listeners(node, &regrouped.moved);
        }
    }

    fn move_halves(&mut self, node: NodeIx, moved: &Moved) {
        let Some(node) = self.nodes.get(node) else { return };
        let halves: Vec<HalfIx> = node.halves.clone();
        for ix in halves {
            let Some(half) = self.halves.get_mut(ix) else { continue };
            let Some((old, new)) = moved.get(&half.id.2.workload).copied() else { continue };
            half.service = new;
            let served = (half.role() == Role::Server).then_some(half.id.2.server_port);
            let (place, link, ended) = (half.place, half.link, half.ended.is_some());
            let is_client = half.role() == Role::Client;
            if !ended {
                self.evidence.half(place, served, old, Change::Ends);
            }
            self.evidence.half(place, served, old, Change::Forgotten);
            self.evidence.half(place, served, new, Change::Comes);
            if ended {
                self.evidence.half(place, served, new, Change::Ends);
            }
            self.halves.mark(ix);
            if is_client {
                self.move_answers(link, old, new);
            }
        }
    }

    /// Connections that were a client's are so under its new name, unless another one still has the old one.
    fn move_answers(&mut self, link: crate::count::link::LinkIx, old: ServiceIx, new: ServiceIx) {
        let Some(link) = self.links.get(link) else { return };
        let halves = link.halves.clone();
        let remains = |ix: &HalfIx| {
            self.halves
                .get(*ix)
                .is_some_and(|half| half.role() == Role::Client && half.service == old)
        };
        if halves.iter().any(remains) {
            return;
        }
        for ix in halves {
            if let Some(half) = self.halves.get_mut(ix)
                && half.whose == Whose::Of(old)
            {
                half.whose = Whose::Of(new);
            }
        }
    }

    fn move_listeners(&mut self, ix: NodeIx, moved: &Moved) {
        let Some(node) = self.nodes.get(ix) else { return };
        let boot = node.life.boot;
        let is_moved = |listener: &&Listener<WorkloadIx>| moved.contains_key(&listener.workload);
        for listener in node.listeners.iter().filter(is_moved) {
            if let Some((old, new)) = moved.get(&listener.workload) {
                self.evidence.listener(ix, boot, listener, *old, false);
                self.evidence.listener(ix, boot, listener, *new, true);
            }
        }
    }
}
