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
    /// of these batches retires are open as of the first batch with new numbers. With each, its birth.
    pub(super) replayed: BTreeMap<u32, (HalfKey<WorkloadIx>, u64)>,
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
