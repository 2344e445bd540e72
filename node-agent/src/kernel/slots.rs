//! Reading slots and chunks: what changed since the last look, and giving slots back.

use std::{collections::HashMap, io};

use aya::maps::{HashMap as BpfHashMap, MapData, Queue};
use common::{
    COUNTERS, Counter, HistogramKind,
    kernel::{
        CHUNK_BUCKETS, CHUNKS, Chunk, ChunkKey, HalfKey, SHARED_SLOTS, SLOTS, SPARE_SLOTS, Slot,
        role,
    },
};

use super::pages::Pages;
use crate::{
    ledger::Ledger,
    source::{RetireOutcome, Server, SlotChange, SlotUse},
};

/// Numbers are handed out in order at first; concurrent takers may leave small gaps behind the highest used.
const LOOK_AHEAD: usize = 64;

/// The maps that slots live in.
pub struct SlotMaps {
    /// `slots`
    pub slots: Pages<Slot>,
    /// `chunks`
    pub chunks: Pages<Chunk>,
    /// `halves`
    pub halves: BpfHashMap<MapData, HalfKey, u32>,
    /// `chunk_of`
    pub chunk_of: BpfHashMap<MapData, ChunkKey, u32>,
    /// `free_slots`
    pub free_slots: Queue<MapData, u32>,
    /// `spare_slots`
    pub spare_slots: Queue<MapData, u32>,
    /// `free_chunks`
    pub free_chunks: Queue<MapData, u32>,
}

struct SeenChunk {
    slot: u32,
    samples: u64,
    buckets: [u32; CHUNK_BUCKETS],
}

struct Draining {
    /// The look at which the key was taken away.
    since: u64,
}

/// Slots as they were at the last look.
pub struct Slots {
    maps: SlotMaps,
    seen: HashMap<u32, [u64; COUNTERS]>,
    seen_chunks: HashMap<u32, SeenChunk>,
    chunks_of_slot: HashMap<u32, Vec<u32>>,
    draining: HashMap<u32, Draining>,
    slots_end: usize,
    most: u32,
    chunks_end: usize,
    looks: u64,
}

type Bucket = (HistogramKind, u16, u64);

impl Slots {
    /// Fills the free lists; no more than `most` slots are for one half each.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(mut maps: SlotMaps, most: u32) -> io::Result<Self> {
        for slot in SHARED_SLOTS..SPARE_SLOTS {
            maps.spare_slots.push(slot, 0).map_err(io::Error::other)?;
        }
        let most = most.min(SLOTS - SPARE_SLOTS);
        for slot in SPARE_SLOTS..SPARE_SLOTS + most {
            maps.free_slots.push(slot, 0).map_err(io::Error::other)?;
        }
        for chunk in 0..CHUNKS {
            maps.free_chunks.push(chunk, 0).map_err(io::Error::other)?;
        }
        Ok(Self::over(maps, most))
    }

    /// Goes on with maps that an agent before this one left, which had made room for `most` halves. `ends` are one more
    /// than the highest slot and chunk that it had seen in use.
    #[must_use]
    pub fn adopt(maps: SlotMaps, most: u32, ends: (usize, usize)) -> Self {
        let mut slots = Self::over(maps, most);
        let highest = |count: usize, used: &dyn Fn(usize) -> bool| {
            (0..count).rev().find(|index| used(*index)).map_or(0, |index| index + 1)
        };
        let maps = &slots.maps;
        let used = (
            highest(maps.slots.len(), &|index| maps.slots.role(index) != 0),
            highest(maps.chunks.len(), &|index| maps.chunks.samples(index) != 0),
        );
        slots.slots_end = slots.slots_end.max(used.0).max(ends.0.min(maps.slots.len()));
        slots.chunks_end = used.1.max(ends.1.min(maps.chunks.len()));
        slots.maps.slots.fit(slots.slots_end);
        slots.maps.chunks.fit(slots.chunks_end);
        for slot in slots.used_slots() {
            // Nobody's key leads to those that all share.
            if slot < SHARED_SLOTS {
                continue;
            }
            let leads_here = slots.leads_to(slot);
            if !leads_here {
                // It was about to be given back.
                slots.draining.insert(slot, Draining { since: 0 });
            }
            // As far as the agent before came with that.
            if slot >= SPARE_SLOTS {
                slots.maps.slots.set_leads_here(slot as usize, leads_here);
            }
        }
        slots
    }

    /// Whether new connections find the slot by its key.
    fn leads_to(&self, slot: u32) -> bool {
        self.maps.halves.get(&self.key(slot), 0).is_ok_and(|found| found == slot)
    }

    fn over(maps: SlotMaps, most: u32) -> Self {
        Self {
            maps,
            seen: HashMap::new(),
            seen_chunks: HashMap::new(),
            chunks_of_slot: HashMap::new(),
            draining: HashMap::new(),
            slots_end: SPARE_SLOTS as usize,
            most,
            chunks_end: 0,
            looks: 0,
        }
    }

    /// One more than the highest slot and chunk seen in use.
    #[must_use]
    pub fn ends(&self) -> (usize, usize) {
        (self.slots_end, self.chunks_end)
    }

    /// A slot had been folded when the agent before was killed: it is not in use, and its number not given away.
    pub fn clear_folded(&mut self, slot: u32) {
        let chunks = (0..self.chunks_end).filter(|index| {
            self.maps.chunks.samples(*index) != 0 && self.maps.chunks.key(*index).slot == slot
        });
        let chunks = chunks.map(|index| index as u32).collect();
        self.clear(slot % SLOTS, chunks);
    }

    /// Key of a slot's half; of zeros when the slot is free.
    #[must_use]
    pub fn key(&self, slot: u32) -> HalfKey {
        self.maps.slots.key((slot % SLOTS) as usize)
    }

    /// How full the slots are.
    #[must_use]
    pub fn usage(&self) -> SlotUse {
        let used = self.seen.keys().filter(|slot| **slot >= SPARE_SLOTS).count();
        SlotUse { used: u32::try_from(used).unwrap_or(SLOTS), capacity: self.most }
    }

    /// Network namespaces in which connections are open right now, each with an owner who has one there. With `moved`, only
    /// those in which one was found to have moved something since then, in ns since boot.
    #[must_use]
    pub fn open_namespaces(&mut self, moved: Option<u64>) -> HashMap<u64, u64> {
        self.used_slots()
            .into_iter()
            .filter(|slot| {
                moved.is_none_or(|since| self.maps.slots.moved_ns(*slot as usize) >= since)
            })
            .filter(|slot| open(&self.maps.slots.counters(*slot as usize)) != 0)
            .map(|slot| self.maps.slots.key(slot as usize))
            .map(|key| (key.netns_cookie, key.owner))
            .collect()
    }

    /// See [`crate::source::Source::servers`].
    #[must_use]
    pub fn servers(&mut self) -> Vec<Server> {
        let keys = self.used_slots().into_iter().map(|slot| (slot, self.key(slot)));
        let server = |(slot, key): (u32, HalfKey)| Server {
            slot,
            netns_cookie: key.netns_cookie,
            port: key.server_port,
            owner: key.owner,
        };
        let serves = |key: &HalfKey| key.role == role::SERVER && !key.is_folded();
        keys.filter(|(_, key)| serves(key)).map(server).collect()
    }

    /// See [`crate::source::Source::changes`].
    pub fn changes(&mut self, only: Option<&[u32]>, visit: &mut dyn FnMut(SlotChange<'_>)) {
        self.looks += 1;
        let mut buckets = self.bucket_changes(only);
        let slots: Vec<u32> = match only {
            Some(only) => only.iter().copied().filter(|slot| *slot < SLOTS).collect(),
            None => self.used_slots(),
        };
        for slot in slots {
            if self.maps.slots.role(slot as usize) == 0 {
                continue;
            }
            let now = self.maps.slots.counters(slot as usize);
            let before = self.seen.insert(slot, now);
            let known = before.is_some();
            let before = before.unwrap_or_default();
            let gained: [u64; COUNTERS] =
                std::array::from_fn(|counter| now[counter].wrapping_sub(before[counter]));
            let buckets = buckets.remove(&slot).unwrap_or_default();
            if known && buckets.is_empty() && gained.iter().all(|gain| *gain == 0) {
                continue;
            }
            visit(SlotChange {
                slot,
                key: &self.maps.slots.key(slot as usize),
                counters: &gained,
                users: open(&now),
                buckets: &buckets,
            });
        }
    }

    fn used_slots(&mut self) -> Vec<u32> {
        let mut used = Vec::new();
        let mut index = 0;
        while index < self.maps.slots.len() && index < self.slots_end + LOOK_AHEAD {
            if self.maps.slots.role(index) != 0 {
                self.slots_end = self.slots_end.max(index + 1);
                used.push(index as u32);
            }
            index += 1;
        }
        used
    }

    /// New samples by slot. With `only`, samples of other slots wait for the next full look.
    fn bucket_changes(&mut self, only: Option<&[u32]>) -> HashMap<u32, Vec<Bucket>> {
        let mut changes: HashMap<u32, Vec<Bucket>> = HashMap::new();
        let mut index = 0;
        while index < self.maps.chunks.len() && index < self.chunks_end + LOOK_AHEAD {
            let samples = self.maps.chunks.samples(index);
            if samples != 0 {
                self.chunks_end = self.chunks_end.max(index + 1);
                self.chunk_changes(index, samples, only, &mut changes);
            }
            index += 1;
        }
        changes
    }

    fn chunk_changes(
        &mut self,
        index: usize,
        samples: u64,
        only: Option<&[u32]>,
        changes: &mut HashMap<u32, Vec<Bucket>>,
    ) {
        let number = index as u32;
        if self.seen_chunks.get(&number).is_some_and(|seen| seen.samples == samples) {
            return;
        }
        let key = self.maps.chunks.key(index);
        if only.is_some_and(|only| !only.contains(&key.slot)) {
            return;
        }
        let Some(kind) = HistogramKind::ALL.get(usize::from(key.histogram)).copied() else {
            return;
        };
        let seen = self.seen_chunks.entry(number).or_insert_with(|| {
            self.chunks_of_slot.entry(key.slot).or_default().push(number);
            SeenChunk { slot: key.slot, samples: 0, buckets: [0; CHUNK_BUCKETS] }
        });
        let now = self.maps.chunks.buckets(index);
        let slot = changes.entry(seen.slot).or_default();
        let mut gained = 0;
        for (position, (now, before)) in now.iter().zip(&seen.buckets).enumerate() {
            let gain = u64::from(now.wrapping_sub(*before));
            if gain != 0 {
                gained += gain;
                let bucket = usize::from(key.part) * CHUNK_BUCKETS + position;
                slot.push((kind, bucket as u16, gain));
            }
        }
        // The bucket is added to before the sum: what was seen of the buckets is what counts.
        seen.samples = seen.samples.wrapping_add(gained);
        seen.buckets = now;
    }

    /// See [`crate::source::Source::retire`].
    pub fn retire(&mut self, slot: u32, ledger: Option<&mut Ledger>) -> RetireOutcome {
        let Some(seen) = self.seen.get(&slot).copied().filter(|_| slot >= SHARED_SLOTS) else {
            return RetireOutcome::Busy;
        };
        let index = slot as usize;
        let quiet = open(&seen) == 0 && self.maps.slots.counters(index) == seen;
        if self.draining.contains_key(&slot) && self.leads_to(slot) {
            // It was just being taken when this agent came.
            self.draining.remove(&slot);
        }
        match self.draining.get(&slot) {
            None if quiet => {
                let key = self.maps.slots.key(index);
                // From here on new connections take another slot; programs that found this one before
                // may still add to it.
                self.maps.slots.set_leads_here(index, false);
                if self.maps.halves.remove(&key).is_err() {
                    self.maps.slots.set_leads_here(index, self.leads_to(slot));
                    return RetireOutcome::Busy;
                }
                self.draining.insert(slot, Draining { since: self.looks });
                RetireOutcome::Draining
            }
            None => RetireOutcome::Busy,
            Some(_) if self.maps.slots.leads_here(index) => {
                // Whoever took it was held up until now, and others may have found it since.
                self.maps.slots.set_leads_here(index, false);
                self.draining.insert(slot, Draining { since: self.looks });
                RetireOutcome::Draining
            }
            Some(draining)
                if quiet && self.looks > draining.since + 1 && self.chunks_quiet(slot) =>
            {
                if self.free(slot, seen, ledger) {
                    RetireOutcome::Freed
                } else {
                    RetireOutcome::Draining
                }
            }
            Some(_) => RetireOutcome::Draining,
        }
    }

    fn chunks_quiet(&self, slot: u32) -> bool {
        self.chunks_of_slot.get(&slot).is_none_or(|chunks| {
            chunks.iter().all(|chunk| {
                self.seen_chunks
                    .get(chunk)
                    .is_some_and(|seen| seen.samples == self.maps.chunks.samples(*chunk as usize))
            })
        })
    }

    /// Returns whether the slot is free, which it is not when the next agent could not be told what it had counted.
    fn free(&mut self, slot: u32, seen: [u64; COUNTERS], ledger: Option<&mut Ledger>) -> bool {
        let Some(ledger) = ledger else {
            let chunks = self.chunks_of_slot.remove(&slot).unwrap_or_default();
            self.clear(slot, chunks);
            self.give_back(slot);
            return true;
        };
        let buckets = self.buckets_of(slot);
        if !ledger.fold(slot, &seen, &buckets) {
            return false;
        }
        let chunks = self.chunks_of_slot.remove(&slot).unwrap_or_default();
        self.clear(slot, chunks);
        ledger.cleared();
        self.give_back(slot);
        true
    }

    /// All samples of a slot, as they were last seen.
    fn buckets_of(&self, slot: u32) -> Vec<Bucket> {
        let mut buckets = Vec::new();
        for number in self.chunks_of_slot.get(&slot).into_iter().flatten() {
            let Some(seen) = self.seen_chunks.get(number) else { continue };
            let key = self.maps.chunks.key(*number as usize);
            let Some(kind) = HistogramKind::ALL.get(usize::from(key.histogram)).copied() else {
                continue;
            };
            let counts = seen.buckets.iter().enumerate().filter(|(_, count)| **count != 0);
            buckets.extend(counts.map(|(position, count)| {
                let bucket = usize::from(key.part) * CHUNK_BUCKETS + position;
                (kind, bucket as u16, u64::from(*count))
            }));
        }
        buckets
    }

    fn clear(&mut self, slot: u32, chunks: Vec<u32>) {
        for chunk in chunks {
            let key = self.maps.chunks.key(chunk as usize);
            // Absent only if it was never reachable.
            let _ = self.maps.chunk_of.remove(&key);
            self.maps.chunks.clear(chunk as usize);
            self.seen_chunks.remove(&chunk);
            if let Err(error) = self.maps.free_chunks.push(chunk, 0) {
                tracing::warn!(%error, chunk, "a histogram chunk is lost until the agent restarts");
            }
        }
        self.maps.slots.clear(slot as usize);
        self.seen.remove(&slot);
        self.draining.remove(&slot);
    }

    /// Lets the programs have a slot again.
    pub fn give_back(&mut self, slot: u32) {
        let spare = slot < SPARE_SLOTS;
        let free = if spare { &mut self.maps.spare_slots } else { &mut self.maps.free_slots };
        if let Err(error) = free.push(slot, 0) {
            tracing::warn!(%error, slot, "a slot is lost until the agent restarts");
        }
    }
}

/// Connections open by a slot's counters. The parts are read one after the other, so a close between may
/// make it look negative for a moment.
fn open(counters: &[u64; COUNTERS]) -> u64 {
    let opened = counters[Counter::Connections.index()] + counters[Counter::Adopted.index()];
    opened.saturating_sub(counters[Counter::Closed.index()])
}
