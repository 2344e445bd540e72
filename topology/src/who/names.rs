//! What others than the kernel call workloads: the runtimes of containers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    model::{Workload, WorkloadKind},
    nodes::NodeIx,
};

/// Names kept for a node. A host runs a few hundred containers at most; those that were named first are forgotten first.
const MOST: usize = 8192;

/// What the names of workloads stand for, as their nodes have learned it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Names {
    nodes: BTreeMap<NodeIx, Named>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Named {
    /// By kind and name of the workload as the kernel tells it.
    workloads: BTreeMap<(WorkloadKind, String), (u64, Workload)>,
    /// How many names were ever given.
    given: u64,
}

impl Names {
    /// What a workload of a node is called.
    pub(crate) fn get<'a>(&'a self, node: NodeIx, workload: &'a Workload) -> &'a Workload {
        // Nothing but containers is named by others, and looking for a name costs one.
        if workload.kind != WorkloadKind::Container {
            return workload;
        }
        let named = self.nodes.get(&node).and_then(|named| {
            let key = (workload.kind, workload.name.clone());
            named.workloads.get(&key)
        });
        named.map_or(workload, |(_, named)| named)
    }

    /// Names a workload; returns whether that is news.
    pub(crate) fn set(&mut self, node: NodeIx, name: &str, called: Workload) -> bool {
        let named = self.nodes.entry(node).or_default();
        let key = (WorkloadKind::Container, name.to_owned());
        if named.workloads.get(&key).is_some_and(|(_, known)| *known == called) {
            return false;
        }
        named.given += 1;
        named.workloads.insert(key, (named.given, called));
        if named.workloads.len() > MOST {
            let oldest = named.workloads.iter().min_by_key(|(_, (given, _))| *given);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                named.workloads.remove(&key);
            }
        }
        true
    }

    /// The node is gone for good.
    pub(crate) fn forget(&mut self, node: NodeIx) {
        self.nodes.remove(&node);
    }
}
