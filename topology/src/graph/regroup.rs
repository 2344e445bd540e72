//! Names that are learned late, and rules that change: what is known goes on under the new name.

use std::collections::{BTreeSet, HashMap};

use super::Graph;
use crate::{
    count::{
        half::HalfIx,
        link::{LinkIx, Rest},
    },
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
        for (container, called) in names {
            self.services.names.set(node, &container, called);
        }
    }

    /// Takes in what runtimes have said since the last tick.
    pub(super) fn take_names(&mut self) {
        for node in self.services.names.take_news() {
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
        let mut links = BTreeSet::new();
        for ix in halves {
            let Some(half) = self.halves.get_mut(ix) else { continue };
            let Some((old, new)) = moved.get(&half.id.2.workload).copied() else { continue };
            half.service = new;
            let served = (half.role() == Role::Server).then_some(half.id.2.server_port);
            let (place, link, ended) = (half.place, half.link, half.ended.is_some());
            let role = half.role();
            if !ended {
                self.evidence.half(place, served, old, Change::Ends);
            }
            self.evidence.half(place, served, old, Change::Forgotten);
            self.evidence.half(place, served, new, Change::Comes);
            if ended {
                self.evidence.half(place, served, new, Change::Ends);
            }
            self.halves.mark(ix);
            links.insert((link, role, old, new));
        }
        for (link, role, old, new) in links {
            self.move_shares(link, role, old, new);
        }
    }

    /// What is known of a link to be one service's is so under its new name, unless somebody on that side still has the
    /// old one.
    fn move_shares(&mut self, ix: LinkIx, role: Role, old: ServiceIx, new: ServiceIx) {
        let Some(link) = self.links.get(ix) else { return };
        let halves = link.halves.clone();
        let remains = |ix: &HalfIx| {
            self.halves.get(*ix).is_some_and(|half| half.role() == role && half.service == old)
        };
        let rest = |rest: &Rest| rest.role == role && rest.service == old;
        if halves.iter().any(remains) || link.rests.iter().any(rest) {
            return;
        }
        let name = |side, service| if side == role && service == old { new } else { service };
        if let Some(split) = self.links.get_mut(ix).and_then(|link| link.split.as_mut()) {
            split.rename(|client| name(Role::Client, client), |server| name(Role::Server, server));
        }
        // Else it would have to be made up for by what others on the link gain.
        if let Some(mut link) = self.links.take(ix) {
            self.rename_rows(&mut link, name);
            self.links.put_back(ix, link);
        }
        if role == Role::Server {
            return;
        }
        for ix in halves {
            self.halves.rename_client(ix, old, new);
        }
        let rests = self.links.get_mut(ix).into_iter().flat_map(|link| &mut link.rests);
        let clients = rests.filter_map(|rest| rest.client.as_mut());
        clients.filter(|client| **client == old).for_each(|client| *client = new);
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
