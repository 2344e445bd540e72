//! Histograms of the hosts themselves.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{base::histogram::Histogram, model::HostSignal, nodes::NodeIx};

/// How many generations of a node are remembered, should an older one report again.
const GENERATIONS: u32 = 8;

const SIGNALS: usize = HostSignal::ALL.len();

/// What was reported, and its sums.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Signals {
    /// Each shared with a stored copy until it is written to.
    by_node: HashMap<NodeIx, Arc<OfNode>>,
    merged: [Histogram; SIGNALS],
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct OfNode {
    /// By generation: reports are totals of one.
    applied: BTreeMap<(u32, HostSignal), Histogram>,
    sums: [Histogram; SIGNALS],
}

impl Signals {
    pub(crate) fn set(
        &mut self,
        node: NodeIx,
        epoch: u32,
        signal: HostSignal,
        buckets: impl IntoIterator<Item = (u16, u64)>,
    ) {
        let of_node = Arc::make_mut(self.by_node.entry(node).or_default());
        if let Some(old) = epoch.checked_sub(GENERATIONS) {
            of_node.applied.remove(&(old, signal));
        }
        let applied = of_node.applied.entry((epoch, signal)).or_default();
        let sum = &mut of_node.sums[signal.index()];
        let merged = &mut self.merged[signal.index()];
        for (bucket, total) in buckets {
            let more = total.saturating_sub(applied.get(bucket));
            for histogram in [&mut *applied, sum, merged] {
                histogram.add(bucket, more);
            }
        }
    }

    pub(crate) const fn merged(&self, signal: HostSignal) -> &Histogram {
        &self.merged[signal.index()]
    }

    pub(crate) fn of_node(&self, node: NodeIx, signal: HostSignal) -> Option<&Histogram> {
        self.by_node.get(&node).map(|of_node| &of_node.sums[signal.index()])
    }
}
