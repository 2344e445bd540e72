//! Histograms of the hosts themselves.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{base::histogram::Histogram, model::HostSignal, nodes::NodeIx};

/// How many generations of a node are remembered, should an older one report again.
const GENERATIONS: u32 = 8;

const SIGNALS: usize = HostSignal::ALL.len();

/// What was reported, and its sums.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Signals {
    /// By generation: reports are totals of one.
    applied: HashMap<(NodeIx, u32, HostSignal), Histogram>,
    by_node: HashMap<(NodeIx, HostSignal), Histogram>,
    merged: [Histogram; SIGNALS],
}

impl Signals {
    pub(crate) fn set(
        &mut self,
        node: NodeIx,
        epoch: u32,
        signal: HostSignal,
        buckets: impl IntoIterator<Item = (u16, u64)>,
    ) {
        if let Some(old) = epoch.checked_sub(GENERATIONS) {
            self.applied.remove(&(node, old, signal));
        }
        let applied = self.applied.entry((node, epoch, signal)).or_default();
        let by_node = self.by_node.entry((node, signal)).or_default();
        let merged = &mut self.merged[signal.index()];
        for (bucket, total) in buckets {
            let more = total.saturating_sub(applied.get(bucket));
            for histogram in [&mut *applied, by_node, merged] {
                histogram.add(bucket, more);
            }
        }
    }

    pub(crate) const fn merged(&self, signal: HostSignal) -> &Histogram {
        &self.merged[signal.index()]
    }

    pub(crate) fn of_node(&self, node: NodeIx, signal: HostSignal) -> Option<&Histogram> {
        self.by_node.get(&(node, signal))
    }
}
