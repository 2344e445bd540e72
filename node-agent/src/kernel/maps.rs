//! The maps that the agent reads and writes, just made or pinned by an agent before this one.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Context as _;
use aya::maps::{Array, HashMap as BpfHashMap, Map, MapData, PerCpuArray, Queue, RingBuf};
use common::{
    histogram::BUCKETS_POW2,
    kernel::{CHUNKS, FanKey, FanState, Owner, SLOTS, TupleKey},
};

use super::{listeners::Listeners, pages::Pages, slots::SlotMaps};

/// All but those that slots live in.
pub struct Maps {
    /// Those that are mapped. Programs that are not loaded yet know them by these descriptors.
    _pages: [Map; 2],
    /// Who listens.
    pub listeners: Listeners,
    /// `owners`
    pub owners: BpfHashMap<MapData, u64, Owner>,
    /// `tuples`
    pub tuples: BpfHashMap<MapData, TupleKey, u64>,
    /// `fans`
    pub fans: BpfHashMap<MapData, FanKey, FanState>,
    /// `losses`
    pub losses: PerCpuArray<MapData, u64>,
    /// `runqueue`
    pub runqueue: PerCpuArray<MapData, [u64; BUCKETS_POW2]>,
    /// `hints`
    pub hints: RingBuf<MapData>,
    /// `adoptions`
    pub adoptions: BpfHashMap<MapData, u32, [u64; 2]>,
    /// `mptcp_adoptions`
    pub mptcp_adoptions: BpfHashMap<MapData, u64, [u64; 2]>,
}

impl Maps {
    /// Opens all, those that slots live in apart; `get` has them by their names.
    ///
    /// # Errors
    /// When one is not there or of another kind.
    pub fn open(
        mut get: impl FnMut(&str) -> anyhow::Result<Map>,
    ) -> anyhow::Result<(SlotMaps, Self)> {
        let pages = [get("slots")?, get("chunks")?];
        let slots = SlotMaps {
            slots: Pages::new(fd(&pages[0])?, SLOTS as usize).context("cannot map the slots")?,
            chunks: Pages::new(fd(&pages[1])?, CHUNKS as usize).context("cannot map the chunks")?,
            halves: BpfHashMap::try_from(get("halves")?)?,
            chunk_of: BpfHashMap::try_from(get("chunk_of")?)?,
            free_slots: Queue::try_from(get("free_slots")?)?,
            spare_slots: Queue::try_from(get("spare_slots")?)?,
            free_chunks: Queue::try_from(get("free_chunks")?)?,
        };
        let listeners = Listeners::new(
            BpfHashMap::try_from(get("listeners")?)?,
            BpfHashMap::try_from(get("ports")?)?,
            Array::try_from(get("shared_ports")?)?,
        );
        let maps = Self {
            _pages: pages,
            listeners,
            owners: BpfHashMap::try_from(get("owners")?)?,
            tuples: BpfHashMap::try_from(get("tuples")?)?,
            fans: BpfHashMap::try_from(get("fans")?)?,
            losses: PerCpuArray::try_from(get("losses")?)?,
            runqueue: PerCpuArray::try_from(get("runqueue")?)?,
            hints: RingBuf::try_from(get("hints")?)?,
            adoptions: BpfHashMap::try_from(get("adoptions")?)?,
            mptcp_adoptions: BpfHashMap::try_from(get("mptcp_adoptions")?)?,
        };
        Ok((slots, maps))
    }
}

fn fd(map: &Map) -> anyhow::Result<OwnedFd> {
    let Map::Array(data) = map else { anyhow::bail!("a map to be read is not an array") };
    Ok(data.fd().as_fd().try_clone_to_owned()?)
}
