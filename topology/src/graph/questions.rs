//! Whose connection was it? Asked of the client's host, where addresses and ports cannot tell.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::Graph;
use crate::{
    base::time::Timestamp,
    count::{
        half::{HalfIx, Halves, Whose},
        link::LinkIx,
    },
    model::{Role, Tuple},
    nodes::NodeIx,
    who::services::WorkloadIx,
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
    about: HashMap<(NodeIx, Tuple), HalfIx>,
}

impl Questions {
    pub(crate) fn forget(&mut self, halves: &Halves) {
        self.about.retain(|_, half| halves.get(*half).is_some());
    }
}

impl Graph {
    /// Whether there are questions for a node.
    #[must_use]
    pub fn has_questions(&self, node: NodeIx) -> bool {
        self.questions.waiting.contains_key(&node)
    }

    /// Takes the questions for a node: whose connections these were.
    pub fn take_questions(&mut self, node: NodeIx) -> Vec<Tuple> {
        self.questions.waiting.remove(&node).unwrap_or_default()
    }

    /// A node's answer: the workload whose connection it was, `None` when it does not know.
    pub fn tuple_owner(&mut self, node: NodeIx, tuple: Tuple, workload: Option<WorkloadIx>) {
        let Some(half) = self.questions.about.remove(&(node, tuple)) else { return };
        let entry = workload.and_then(|ix| self.services.workload(ix));
        let whose = match entry.filter(|entry| entry.node == node) {
            Some(entry) => Whose::Of(entry.service),
            None => Whose::Nobody,
        };
        if let Some(half) = self.halves.get_mut(half) {
            half.whose = whose;
        }
        self.halves.mark(half);
    }

    /// Asks about every single connection of a link that is still in question.
    pub(crate) fn ask(&mut self, ix: LinkIx, now: Timestamp) {
        let Some(link) = self.links.get(ix) else { return };
        let halves = link.halves.iter().filter_map(|ix| Some((*ix, self.halves.get(*ix)?)));
        let (servers, clients): (Vec<_>, Vec<_>) =
            halves.partition(|(_, half)| half.role() == Role::Server);
        let nodes: HashSet<_> = clients.iter().map(|(_, half)| half.node()).collect();
        let askers: Vec<_> = nodes
            .into_iter()
            .filter_map(|node| clients.iter().find(|(_, half)| half.node() == node))
            .map(|(ix, half)| (*ix, half.node()))
            .collect();
        let open: Vec<_> = servers
            .into_iter()
            .filter_map(|(ix, half)| match half.whose {
                Whose::Unknown { asked, again_at } if asked < ATTEMPTS && again_at <= now => {
                    Some((ix, half.id.2.client_port, asked))
                }
                _ => None,
            })
            .filter(|(_, client_port, _)| *client_port > 0)
            .collect();
        for (server, client_port, asked) in open {
            for (client, node) in &askers {
                let Some(client) = self.halves.get(*client) else { continue };
                let question = client.question(client_port);
                let waiting = self.questions.waiting.entry(*node).or_default();
                if waiting.len() < WAITING {
                    waiting.push(question);
                    self.questions.about.insert((*node, question), server);
                }
            }
            if let Some(half) = self.halves.get_mut(server) {
                half.whose = Whose::Unknown { asked: asked + 1, again_at: now.plus(PATIENCE) };
            }
        }
    }
}
