//! What others than the kernel call workloads: the runtimes of containers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    model::{Workload, WorkloadKind},
    nodes::NodeIx,
};

/// Names kept for a node. A host runs a few hundred containers at most; those that were named first are forgotten first.
const MOST: usize = 2048;

/// Bytes of labels that are kept of one.
const LABELS: usize = 2048;

/// What the names of workloads stand for, as their nodes have learned it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Names {
    nodes: BTreeMap<NodeIx, Named>,
    /// Nodes of which something was learned that is not taken in yet.
    news: BTreeSet<NodeIx>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Named {
    /// By the name of the container as the kernel tells it; each with its number in `order`.
    containers: BTreeMap<String, (u64, Workload)>,
    /// In the order in which they were named last.
    order: BTreeMap<u64, String>,
    /// How many names were ever given.
    given: u64,
}

impl Names {
    /// What a workload of a node is called.
    pub(crate) fn get<'a>(&'a self, node: NodeIx, workload: &'a Workload) -> &'a Workload {
        if workload.kind != WorkloadKind::Container {
            return workload;
        }
        let named = self.nodes.get(&node).and_then(|named| named.containers.get(&workload.name));
        named.map_or(workload, |(_, named)| named)
    }

    /// Names a container.
    pub(crate) fn set(&mut self, node: NodeIx, name: &str, mut called: Workload) {
        let mut room = LABELS;
        called.labels.retain(|key, value| {
            let fits = key.len() + value.len() <= room;
            room -= if fits { key.len() + value.len() } else { 0 };
            fits
        });
        let named = self.nodes.entry(node).or_default();
        if named.containers.get(name).is_some_and(|(_, known)| *known == called) {
            return;
        }
        named.given += 1;
        named.order.insert(named.given, name.to_owned());
        let before = named.containers.insert(name.to_owned(), (named.given, called));
        if let Some((number, _)) = before {
            named.order.remove(&number);
        }
        if named.order.len() > MOST
            && let Some((_, oldest)) = named.order.pop_first()
        {
            named.containers.remove(&oldest);
        }
        self.news.insert(node);
    }

    /// Takes the nodes of which something was learned since the last time.
    pub(crate) fn take_news(&mut self) -> BTreeSet<NodeIx> {
        std::mem::take(&mut self.news)
    }

    /// The node is gone for good.
    pub(crate) fn forget(&mut self, node: NodeIx) {
        self.nodes.remove(&node);
    }
}
