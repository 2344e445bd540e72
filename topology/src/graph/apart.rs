//! Servers whose connections have to be told apart: an address leads to several of them, and several may have asked for it.
//!
//! What each client had with each of them is in nobody's numbers. So the servers' hosts are asked to count each connection
//! as a half of its own, and then the client's host is asked whose it was, as where several share a port. That is asked
//! for before there is a second client, where there may be one: of what was counted before, only the sums are known.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::Graph;
use crate::{
    base::time::Timestamp,
    count::{
        half::{Half, HalfIx, Whose},
        link::{Link, LinkIx},
        pairing::Sides,
    },
    model::{Endpoint, Role},
    nodes::NodeIx,
    who::{evidence::Answer, place::Place},
};

/// A host is asked again after this time. An agent of ours remembers for longer.
const AGAIN: Duration = Duration::from_secs(60);

/// How many endpoints wait to be asked for of one node at most.
const WAITING: usize = 1024;

/// What is to be told apart at a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Apart {
    Nothing,
    /// All of it has been asked for.
    Asked,
    /// Of a node there is too much to ask for: it waits for its turn.
    Waits,
}

/// Endpoints of nodes, and when they were asked for.
pub(crate) type Asked = BTreeMap<(NodeIx, Endpoint), Timestamp>;

impl Graph {
    /// Takes the endpoints whose connections a node is to tell apart.
    pub fn take_endpoints(&mut self, node: NodeIx) -> Vec<Endpoint> {
        let endpoints = self.questions.apart.remove(&node).unwrap_or_default();
        endpoints.into_iter().collect()
    }

    /// Asks for what has to be told apart at a link.
    pub(super) fn tell_apart(&mut self, link: &mut Link, sides: &Sides, now: Timestamp) -> Apart {
        let Some(tied) = &link.tied else { return Apart::Nothing };
        if sides.servers.len() < 2 && tied.apart.is_empty() {
            return Apart::Nothing;
        }
        let mut asked = tied.apart.clone();
        asked.retain(|(node, _), at| {
            // What was on its way when a stream ended is lost, and a new agent knows nothing of what the one before was told.
            let node = self.nodes.get(*node);
            now.since(*at) < AGAIN && node.is_some_and(|node| *at >= node.connected_at)
        });
        let mixed = self.mixed(link, sides);
        let mut apart =
            if asked.is_empty() && mixed.is_empty() { Apart::Nothing } else { Apart::Asked };
        for (node, endpoint) in mixed.into_iter().filter(|_| link.excess() == 0) {
            if asked.contains_key(&(node, endpoint)) {
                continue;
            }
            let waiting = self.questions.apart.entry(node).or_default();
            if waiting.len() < WAITING {
                waiting.insert(endpoint);
                asked.insert((node, endpoint), now);
            } else {
                apart = Apart::Waits;
            }
        }
        if let Some(tied) = &mut link.tied {
            tied.apart = asked;
        }
        apart
    }

    /// Connections that are over need not be told apart any longer once it is known whose they were: where there are many,
    /// they make room.
    pub(super) fn merge_known(&mut self, ix: LinkIx) {
        let Some(link) = self.links.get(ix).filter(|link| link.excess() > 0) else { return };
        let is_known = |ix: &HalfIx| {
            self.halves.get(*ix).is_some_and(|half| {
                let over = half.ended.is_some_and(|end| end.by_agent);
                over && matches!(half.whose, Whose::Of(_)) && !self.halves.has_several(*ix, half)
            })
        };
        let known = link.halves.iter().copied().filter(is_known);
        let known: Vec<_> = known.take(link.excess()).collect();
        known.into_iter().for_each(|half| self.forget(half));
    }

    /// The servers of which it would not be known who had how much of what with them.
    fn mixed(&self, link: &Link, sides: &Sides) -> BTreeSet<(NodeIx, Endpoint)> {
        let mut mixed = BTreeSet::new();
        for (ix, client) in self.live_halves(link, Role::Client) {
            let reach = link.reach_of(ix, client);
            let led: Vec<usize> = (0..)
                .zip(&sides.servers)
                .filter(|(_, server)| reach.iter().any(|key| server.reach.contains(key)))
                .map(|(at, _)| at)
                .collect();
            let others = || {
                let others = (0..).zip(&sides.clients);
                let mut others = others.filter(|(_, other)| other.service != client.service);
                others.any(|(other, _)| led.iter().any(|server| sides.reaches(other, *server)))
            };
            if led.len() > 1 && (reach.iter().any(|key| self.is_anybodys(key.client)) || others()) {
                mixed.extend(led);
            }
        }
        let is_mixed = |half: &Half| {
            let ends = (half.service, half.id.2.server_port);
            mixed.iter().any(|at| {
                sides.servers.get(*at).is_some_and(|server| (server.service, server.port) == ends)
            })
        };
        let endpoint =
            |half: &Half| Endpoint { address: half.id.2.local, port: half.id.2.server_port };
        let servers = self.live_halves(link, Role::Server).filter(|(_, half)| is_mixed(half));
        servers.map(|(_, half)| (half.node(), endpoint(half))).collect()
    }

    fn live_halves<'a>(
        &'a self,
        link: &'a Link,
        role: Role,
    ) -> impl Iterator<Item = (HalfIx, &'a Half)> {
        let halves = link.halves.iter().filter_map(|ix| Some((*ix, self.halves.get(*ix)?)));
        halves.filter(move |(_, half)| half.role() == role && half.ended.is_none())
    }

    /// Whether several services may connect from an address.
    fn is_anybodys(&self, place: Place) -> bool {
        !matches!(self.evidence.who(place, None).0, Answer::Service(_))
    }
}
