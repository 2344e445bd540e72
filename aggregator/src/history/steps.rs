//! The steps of all tiers, while they are written.

use std::collections::{BTreeMap, HashMap};

use redb::{ReadableTable, Table, WriteTransaction};
use topology::{EdgeTotals, Entry, Lost, Seen, Timestamp, Window};

use super::{
    database::HistoryError,
    table::{self, Layer, META, StepBytes},
    tiers::{self, SHARES, TIERS},
};

/// The steps, while they are written.
pub(super) struct Steps<'a> {
    layer: &'static Layer,
    pub(super) table: Table<'a, (u8, u64), &'static [u8]>,
    /// Bytes of each tier.
    bytes: [u64; TIERS.len()],
    /// Bytes that were put in.
    written: u64,
}

/// Which edges there are steps of.
#[derive(Default)]
pub(super) struct LastSeen {
    /// The begin of the last step of each, by number.
    pub(super) edges: HashMap<u32, Timestamp>,
    /// The begin of the last step of all.
    pub(super) newest: Timestamp,
}

impl<'a> Steps<'a> {
    pub(super) fn open(
        writing: &'a WriteTransaction,
        layer: &'static Layer,
    ) -> Result<Self, HistoryError> {
        let meta = writing.open_table(META)?;
        let mut bytes = [0; TIERS.len()];
        for (tier, bytes) in bytes.iter_mut().enumerate() {
            *bytes = meta.get(layer.bytes_of(tier).as_str())?.map_or(0, |bytes| bytes.value());
        }
        drop(meta);
        Ok(Self { layer, table: writing.open_table(layer.steps)?, bytes, written: 0 })
    }

    /// Done; returns the bytes that were put in.
    pub(super) fn close(self, writing: &WriteTransaction) -> Result<u64, HistoryError> {
        let Self { layer, table, bytes, written } = self;
        drop(table);
        let mut meta = writing.open_table(META)?;
        for (tier, bytes) in bytes.into_iter().enumerate() {
            meta.insert(layer.bytes_of(tier).as_str(), bytes)?;
        }
        Ok(written)
    }

    /// Puts in a step. The first of a period has the period before merged.
    pub(super) fn put(
        &mut self,
        tier: usize,
        from: Timestamp,
        bytes: &[u8],
    ) -> Result<(), HistoryError> {
        let key = (tier as u8, from.unix_ns());
        let before = self.table.range((key.0, 0)..key)?.next_back().transpose()?;
        let before = before.map(|(key, _)| Timestamp::from_unix_ns(key.value().1));
        if let Some(before) = before.and_then(|before| tiers::period(tier, before))
            && from >= before.to
        {
            let (from, bytes) = self.merge(tier, before)?;
            self.put(tier + 1, from, &bytes)?;
        }
        self.replace(tier, from, bytes)
    }

    /// Puts in a step, or another one in its place.
    pub(super) fn replace(
        &mut self,
        tier: usize,
        from: Timestamp,
        bytes: &[u8],
    ) -> Result<(), HistoryError> {
        let key = (tier as u8, from.unix_ns());
        let replaced = self.table.insert(key, bytes)?.map_or(0, |old| old.value().len());
        self.bytes[tier] = (self.bytes[tier] + bytes.len() as u64).saturating_sub(replaced as u64);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Removes the steps of a tier that begin in a stretch.
    pub(super) fn remove(&mut self, tier: usize, stretch: Window) -> Result<(), HistoryError> {
        let mut removed = 0;
        let keys = (tier as u8, stretch.from.unix_ns())..(tier as u8, stretch.to.unix_ns());
        self.table.retain_in(keys, |_, bytes| {
            removed += bytes.len() as u64;
            false
        })?;
        self.bytes[tier] = self.bytes[tier].saturating_sub(removed);
        Ok(())
    }

    /// All that a period has as one step of the next tier, and its begin.
    pub(super) fn merge(
        &self,
        tier: usize,
        period: Window,
    ) -> Result<(Timestamp, Vec<u8>), HistoryError> {
        let mut sums: BTreeMap<u32, (EdgeTotals, Seen, u64)> = BTreeMap::new();
        let (mut lost, mut extent) = (Lost::default(), None::<Window>);
        let mut entry = Entry::default();
        let keys = (tier as u8, period.from.unix_ns())..(tier as u8, period.to.unix_ns());
        for row in self.table.range(keys)? {
            let (key, bytes) = row?;
            let mut step = StepBytes::read(key.value().1, bytes.value())?;
            lost.merge(step.lost);
            let from = extent.map_or(step.window.from, |extent| extent.from);
            extent = Some(Window { from, to: step.window.to });
            // Whatever the last step does not mention is closed.
            sums.values_mut().for_each(|(_, _, open)| *open = 0);
            while step.next(&mut entry) {
                let (totals, seen, open) = sums.entry(entry.index as u32).or_default();
                totals.merge(&entry.totals);
                seen.merge(entry.seen);
                *open = entry.open;
            }
        }
        let extent = extent.unwrap_or(period);
        let bytes = table::pack_by(extent.to, lost, |packer| {
            // What is written is let go of.
            while let Some((number, (totals, seen, open))) = sums.pop_first() {
                packer.put(number as usize, &totals, seen, open);
            }
        })?;
        Ok((extent.from, bytes))
    }

    /// Reads every step.
    pub(super) fn last_seen(&self) -> Result<LastSeen, HistoryError> {
        let mut seen = LastSeen::default();
        let mut entry = Entry::default();
        for row in self.table.iter()? {
            let (key, bytes) = row?;
            let mut step = StepBytes::read(key.value().1, bytes.value())?;
            let from = step.window.from;
            seen.newest = seen.newest.max(from);
            while step.next(&mut entry) {
                let last = seen.edges.entry(entry.index as u32).or_default();
                *last = from.max(*last);
            }
        }
        Ok(seen)
    }

    /// Removes the steps of all tiers that begin before a moment.
    pub(super) fn remove_before(&mut self, to: Timestamp) -> Result<(), HistoryError> {
        if to > Timestamp::default() {
            for tier in 0..TIERS.len() {
                self.remove(tier, Window { from: Timestamp::default(), to })?;
            }
        }
        Ok(())
    }

    /// Removes the oldest steps of each tier until it is within its share, always a whole period of the next.
    pub(super) fn make_room(&mut self, max_bytes: u64) -> Result<(), HistoryError> {
        for (tier, share) in SHARES.into_iter().enumerate() {
            while self.bytes[tier] > max_bytes / 100 * share {
                let all = (tier as u8, 0)..=(tier as u8, u64::MAX);
                let Some(first) = self.table.range(all)?.next().transpose()? else { break };
                let from = Timestamp::from_unix_ns(first.0.value().1);
                drop(first);
                let until =
                    tiers::period(tier, from).map_or(from.unix_ns(), |p| p.to.unix_ns() - 1);
                let to = Timestamp::from_unix_ns(until + 1);
                self.remove(tier, Window { from: Timestamp::default(), to })?;
            }
        }
        Ok(())
    }
}
