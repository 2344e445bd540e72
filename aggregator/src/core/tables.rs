//! What the ids of one stream stand for.

use std::collections::BTreeMap;

use proto::MAX_ID;
use serde::{Deserialize, Serialize};
use topology::{
    HalfIx, WorkloadIx,
    model::{Address, HalfKey},
};

/// What the ids of one stream stand for.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Tables {
    pub(super) workloads: Table<WorkloadIx>,
    pub(super) addresses: Table<Address>,
    pub(super) halves: Table<HalfIx>,
    /// Halves that batches have defined whose numbers were counted before, by id. Those that none
    /// of these batches retires are open as of the last of them. With each, its birth.
    pub(super) replayed: BTreeMap<u32, (HalfKey<WorkloadIx>, u64)>,
}

/// Workloads and addresses of one stream that ids are remembered for. An agent of ours has at most 65,536 halves;
/// halves of one that has more are folded as soon as they refer to another.
const MOST_WORKLOADS: u32 = 1 << 16;
const MOST_ADDRESSES: u32 = 1 << 18;

/// Halves of a replayed batch that are remembered until they are opened; others are folded at once.
const MOST_REPLAYED: usize = 1 << 18;

impl Tables {
    /// Defines the id of a workload; whether there is room for it.
    pub(super) fn set_workload(&mut self, id: u32, workload: WorkloadIx) -> bool {
        let room = id < MOST_WORKLOADS;
        if room {
            self.workloads.set(id, workload);
        }
        room
    }

    /// Defines the id of an address, if there is room for it.
    pub(super) fn set_address(&mut self, id: u32, address: Address) {
        if id < MOST_ADDRESSES {
            self.addresses.set(id, address);
        }
    }

    /// Whether there was no room for an address.
    pub(super) const fn is_beyond(address: u32) -> bool {
        address >= MOST_ADDRESSES
    }

    /// Whether another half can be remembered until it is opened.
    pub(super) fn has_room(&self) -> bool {
        self.replayed.len() < MOST_REPLAYED
    }

    /// Every workload that the stream may refer to.
    pub(super) fn workloads(&self) -> impl Iterator<Item = WorkloadIx> {
        let replayed = self.replayed.values().map(|(key, _)| key.workload);
        self.workloads.0.iter().copied().flatten().chain(replayed)
    }
}

/// An array that grows to the largest id defined.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Table<T>(Vec<Option<T>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> Table<T> {
    /// What an id stands for.
    #[inline]
    pub(super) fn get(&self, id: u32) -> Option<T> {
        self.0.get(id as usize).copied().flatten()
    }

    /// Defines an id, which conversion has found to be below [`MAX_ID`].
    pub(super) fn set(&mut self, id: u32, value: T) {
        let index = id.min(MAX_ID - 1) as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, None);
        }
        self.0[index] = Some(value);
    }

    /// Frees an id; returns what it stood for.
    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        self.0.get_mut(id as usize).and_then(Option::take)
    }
}
