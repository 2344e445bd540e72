//! Edges as finely as they are known: between workloads and hosts.
//!
//! An edge is between services. Nearly all of what most edges count is between one workload here and one there: what
//! these are is with the edge, and costs nothing. Only where an edge has others, too, what those gain is kept apart as
//! well, in steps like the edge's; what is left of the edge's own numbers is the first ones'. So all parts of an edge
//! always add up to it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{edges::EdgeIx, packed::Packer};
use crate::{
    base::{
        arena::{Arena, Key},
        time::Timestamp,
        totals::EdgeTotals,
    },
    nodes::NodeIx,
    who::services::WorkloadIx,
};

/// One end, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct End {
    /// The host that it is on.
    pub(crate) node: Option<NodeIx>,
    /// Which workload of the service it is.
    pub(crate) workload: Option<WorkloadIx>,
}

impl End {
    /// What is known of both.
    pub(crate) fn or(self, other: End) -> End {
        End {
            node: self.node.filter(|node| other.node == Some(*node)),
            workload: self.workload.filter(|workload| other.workload == Some(*workload)),
        }
    }
}

/// The client's end and the server's.
pub(crate) type Ends = (End, End);

pub(crate) type PartIx = Key<Part>;

/// A part of an edge: what is between two ends that are not its first ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) edge: EdgeIx,
    pub(crate) ends: Ends,
    /// What it gained in the running step.
    pub(crate) running: EdgeTotals,
    pub(crate) open: u64,
    listed: bool,
    /// Rows of links that count for it.
    rows: u32,
    last_active: Timestamp,
}

/// Every part that a link or a step refers to.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Parts {
    parts: Arena<Part>,
    #[serde(skip)]
    by_ends: HashMap<(EdgeIx, Ends), PartIx>,
    /// Parts with something in the running step.
    running: Vec<PartIx>,
}

impl Part {
    /// Whether it has something in the running step.
    pub(crate) const fn is_running(&self) -> bool {
        self.listed
    }
}

impl Parts {
    /// Every part as it is now; the memory is shared.
    pub(crate) fn freeze(&self) -> Arena<Part> {
        self.parts.clone()
    }

    /// What has to be stored; the rest follows from it.
    pub(crate) fn stored(&self) -> Self {
        Parts { parts: self.parts.clone(), by_ends: HashMap::new(), running: self.running.clone() }
    }

    /// Finishes what was read back.
    pub(crate) fn resume(&mut self) {
        let parts = self.parts.iter();
        self.by_ends = parts.map(|(ix, part)| ((part.edge, part.ends), ix)).collect();
    }

    /// Whether a part is the one between these ends.
    pub(crate) fn is(&self, ix: PartIx, ends: Ends) -> bool {
        self.parts.get(ix).is_some_and(|part| part.ends == ends)
    }

    pub(crate) fn get(&self, ix: PartIx) -> Option<&Part> {
        self.parts.get(ix)
    }

    /// Every workload that is an end.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = WorkloadIx> {
        let ends = self.parts.iter().flat_map(|(_, part)| [part.ends.0, part.ends.1]);
        ends.filter_map(|end| end.workload)
    }

    /// The part for a row of a link; a new one only where there may be so many.
    pub(crate) fn refer(
        &mut self,
        edge: EdgeIx,
        ends: Ends,
        most: usize,
        now: Timestamp,
    ) -> Option<PartIx> {
        let ix = match self.by_ends.get(&(edge, ends)) {
            Some(ix) => *ix,
            None if self.parts.len() >= most => return None,
            None => {
                let ix = self.parts.insert(Part {
                    edge,
                    ends,
                    running: EdgeTotals::default(),
                    open: 0,
                    listed: false,
                    rows: 0,
                    last_active: now,
                });
                self.by_ends.insert((edge, ends), ix);
                ix
            }
        };
        self.parts.get_mut(ix)?.rows += 1;
        Some(ix)
    }

    /// A row counts for it no more, with so many connections that it last had open.
    pub(crate) fn release(&mut self, ix: PartIx, open: u64) {
        self.set_open(ix, open, 0);
        if let Some(part) = self.parts.get_mut(ix) {
            part.rows = part.rows.saturating_sub(1);
        }
    }

    pub(crate) fn gain(&mut self, ix: PartIx, gain: &EdgeTotals, now: Timestamp) {
        if let Some(part) = self.list(ix) {
            part.running.merge(gain);
            part.last_active = now;
        }
    }

    /// Something was gained in a step that is over.
    pub(crate) fn gained_before(&mut self, ix: PartIx, now: Timestamp) {
        if let Some(part) = self.parts.get_mut(ix) {
            part.last_active = now;
        }
    }

    pub(crate) fn set_open(&mut self, ix: PartIx, was: u64, is: u64) {
        if was != is
            && let Some(part) = self.list(ix)
        {
            part.open = part.open.saturating_sub(was).saturating_add(is);
        }
    }

    fn list(&mut self, ix: PartIx) -> Option<&mut Part> {
        let part = self.parts.get_mut(ix)?;
        if !part.listed {
            part.listed = true;
            self.running.push(ix);
        }
        Some(part)
    }

    /// Ends the running step; returns what it had. `hand_over` gets every part with gains or open connections, and may
    /// take the gains.
    pub(crate) fn end_step(
        &mut self,
        now: Timestamp,
        mut hand_over: impl FnMut(&mut Part),
    ) -> Box<[u8]> {
        self.running.sort_unstable();
        let mut packer = Packer::default();
        let mut still_open = Vec::new();
        for ix in std::mem::take(&mut self.running) {
            let Some(part) = self.parts.get_mut(ix) else { continue };
            if part.open > 0 || !part.running.is_zero() {
                packer.put(ix.index(), &part.running, super::edges::Seen::default(), part.open);
                hand_over(part);
            }
            part.running.clear();
            part.listed = part.open > 0;
            if part.listed {
                part.last_active = now;
                still_open.push(ix);
            }
        }
        self.running = still_open;
        packer.finish()
    }

    /// Forgets parts that no link refers to and that were not active since.
    pub(crate) fn forget_idle_since(&mut self, moment: Timestamp) {
        let idle = |part: &Part| part.rows == 0 && !part.listed && part.last_active < moment;
        let gone: Vec<_> =
            self.parts.iter().filter(|(_, part)| idle(part)).map(|(ix, _)| ix).collect();
        for ix in gone {
            if let Some(part) = self.parts.remove(ix) {
                self.by_ends.remove(&(part.edge, part.ends));
            }
        }
    }
}
