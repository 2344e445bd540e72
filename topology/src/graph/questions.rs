//! Whose connection was it? Asked of the client's host, where addresses and ports cannot tell.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use common::Counter;
use serde::{Deserialize, Serialize};

use super::Graph;
use crate::{
    base::time::Timestamp,
    count::{
        half::{Half, HalfIx, Halves, Whose},
        link::{Link, LinkIx, LinkKey},
    },
    model::{Endpoint, Role, Tuple},
    nodes::NodeIx,
    who::{place::Place, services::WorkloadIx},
};

/// How often one question is asked.
pub(crate) const ATTEMPTS: u8 = 3;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many questions wait for one node at most.
const WAITING: usize = 4096;

/// Questions that wait to be taken, and whom those that were taken are about.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Questions {
    waiting: HashMap<NodeIx, Vec<Tuple>>,
    /// Endpoints whose connections nodes are to be asked to tell apart.
    pub(super) apart: HashMap<NodeIx, BTreeSet<Endpoint>>,
    /// With how many connections that had counted by then.
    about: HashMap<(NodeIx, Tuple), (HalfIx, u64)>,
}

impl Questions {
    pub(crate) fn forget(&mut self, halves: &Halves) {
        self.about.retain(|_, (half, _)| halves.get(*half).is_some());
    }
}

impl Graph {
    /// Whether there are questions for a node, or endpoints that it is to be asked for.
    #[must_use]
    pub fn has_questions(&self, node: NodeIx) -> bool {
        self.questions.waiting.contains_key(&node) || self.questions.apart.contains_key(&node)
    }

    /// Takes the questions for a node: whose connections these were.
    pub fn take_questions(&mut self, node: NodeIx) -> Vec<Tuple> {
        self.questions.waiting.remove(&node).unwrap_or_default()
    }

    /// A node's answer: the workload whose connection it was, `None` when it does not know.
    pub fn tuple_owner(&mut self, node: NodeIx, tuple: Tuple, workload: Option<WorkloadIx>) {
        let Some((half, connections)) = self.questions.about.remove(&(node, tuple)) else { return };
        let entry = workload.and_then(|ix| self.services.workload(ix));
        let whose = match entry.filter(|entry| entry.node == node) {
            Some(entry) => Whose::Of(entry.service),
            None => Whose::Nobody,
        };
        if let Some(half) = self.halves.get_mut(half) {
            // Several hosts are asked, and one alone knows.
            let known = matches!(half.whose, Whose::Of(_)) && matches!(whose, Whose::Nobody);
            // That may be about one that had the port before.
            let before = half.total(Counter::Connections) != connections;
            if !known && !before {
                half.whose = whose;
            }
        }
        self.halves.mark(half);
    }

    /// Asks about every single connection of a link that is still in question.
    pub(crate) fn ask(&mut self, ix: LinkIx, now: Timestamp) {
        let Some(link) = self.links.get(ix) else { return };
        let halves = link.halves.iter().filter_map(|ix| Some((*ix, self.halves.get(*ix)?)));
        let (servers, clients): (Vec<_>, Vec<_>) =
            halves.partition(|(_, half)| half.role() == Role::Server);
        let mut open = Vec::new();
        for (server, half) in servers {
            let Whose::Unknown { asked, again_at } = half.whose else { continue };
            if half.id.2.client_port == 0 || asked >= ATTEMPTS || again_at > now {
                continue;
            }
            let ask = |(client, of): &(HalfIx, &Half)| {
                let question = question(link, (*client, of), (server, half))?;
                Some((of.node(), question))
            };
            // In an order: there may not be room for all of them.
            let questions: BTreeSet<_> = clients.iter().filter_map(ask).collect();
            open.push((server, asked, half.total(Counter::Connections), questions));
        }
        for (server, asked, connections, questions) in open {
            for (node, question) in questions {
                let waiting = self.questions.waiting.entry(node).or_default();
                if waiting.len() < WAITING {
                    waiting.push(question);
                    self.questions.about.insert((node, question), (server, connections));
                }
            }
            if let Some(half) = self.halves.get_mut(server) {
                half.whose = Whose::Unknown { asked: asked + 1, again_at: now.plus(PATIENCE) };
            }
        }
    }
}

/// The question whose a connection to a server was, as a client's node knows it: where addresses are translated, by those
/// that both sides know of.
fn question(link: &Link, client: (HalfIx, &Half), server: (HalfIx, &Half)) -> Option<Tuple> {
    let client_port = server.1.id.2.client_port;
    if link.tied.is_none() {
        return Some(client.1.question(client_port));
    }
    let known = link.reach_of(server.0, server.1);
    let seen = |place: Place| place.as_seen_by(client.1.node());
    let tuple = |common: LinkKey| {
        let (client, server) = (seen(common.client)?, seen(common.server)?);
        Some(Tuple { client, client_port, server, server_port: common.server_port })
    };
    let reach = link.reach_of(client.0, client.1);
    // First as the server has it: the address that the client asked for may lead to others, of which each may have had a
    // connection from the same port, and the port is the one that the server sees.
    known.into_iter().filter(|key| reach.contains(key)).find_map(tuple)
}
