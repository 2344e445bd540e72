//! What others than the kernel call workloads: the runtimes of containers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    model::{Workload, WorkloadKind},
    nodes::NodeIx,
};

/// Names kept for a node. A host runs a few hundred containers at most; those that were named first are forgotten first.
const MOST: usize = 2048;

/// Bytes of labels that are kept of one.
const LABELS: usize = 2048;

/// Bytes that all names of a node may take.
const BYTES: usize = 512 << 10;

/// What a name takes beside its text.
const NAME: usize = 256;

/// What the names of workloads stand for, as their nodes have learned it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Names {
    /// Each shared with a copy until it is written to.
    nodes: BTreeMap<NodeIx, Arc<Named>>,
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
    /// What all of them take.
    bytes: usize,
}

impl Named {
    /// Names a container, and forgets those that were named first where there is no room for all.
    fn set(&mut self, name: &str, called: Workload) {
        self.given += 1;
        self.bytes += size(name, &called);
        self.order.insert(self.given, name.to_owned());
        if let Some((number, before)) =
            self.containers.insert(name.to_owned(), (self.given, called))
        {
            self.bytes -= size(name, &before);
            self.order.remove(&number);
        }
        while self.order.len() > MOST || self.bytes > BYTES {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            if let Some((_, called)) = self.containers.remove(&oldest) {
                self.bytes -= size(&oldest, &called);
            }
        }
    }
}

/// What a name takes.
fn size(container: &str, called: &Workload) -> usize {
    let labels = called.labels.iter().map(|(key, value)| key.len() + value.len() + NAME / 4);
    let texts = 2 * container.len() + called.name.len() + called.namespace.len();
    NAME + texts + labels.sum::<usize>()
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
        Arc::make_mut(named).set(name, called);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_node_stay_within_their_bytes_and_the_last_ones_stay() {
        let (mut names, node) = (Names::default(), NodeIx(3));
        let called = |number: usize, bytes: usize| Workload {
            kind: WorkloadKind::Container,
            name: format!("job-{number}"),
            namespace: String::new(),
            labels: [("text".to_owned(), "x".repeat(bytes))].into(),
        };
        for (most, bytes) in [(MOST, 0), (512, 2_000)] {
            for number in 0..3_000 {
                names.set(
                    node,
                    &format!("{:012}", number % 2_900),
                    called(number, bytes + number % 7),
                );
                let named = &names.nodes[&node];
                let all = named.containers.iter();
                let bytes: usize = all.map(|(name, (_, called))| size(name, called)).sum();
                assert!(bytes == named.bytes && bytes <= BYTES && named.order.len() <= MOST);
            }
            let named = &names.nodes[&node];
            assert_eq!(named.order.len(), named.containers.len());
            assert!((most / 4..=most).contains(&named.order.len()), "{}", named.order.len());
            assert!(named.containers.contains_key("000000000099"));
        }
    }
}
