//! The steps of all tiers, while they are written.

use std::{collections::HashMap, hash::BuildHasherDefault};

use redb::{ReadableTable, Table, WriteTransaction};
use topology::{NumberHasher, Timestamp, Window};

use super::{
    database::HistoryError,
    merge,
    table::{Layer, META, StepBytes},
    tiers::{self, SHARES, TIERS},
};

/// How many steps are read at a time while they are merged: all of a minute.
const ABREAST: usize = 6;

/// The steps, while they are written.
pub(super) struct Steps<'a> {
    layer: &'static Layer,
    pub(super) table: Table<'a, (u8, u64), &'static [u8]>,
    /// They are known here because finding one in the table is reading it.
    pub(super) begins: Begins,
    /// Bytes of each tier.
    bytes: [u64; TIERS.len()],
    /// Bytes that were put in.
    written: u64,
}

/// When the first and the last step of each tier begin.
pub(super) type Begins = [Option<(Timestamp, Timestamp)>; TIERS.len()];

/// Which edges there are steps of.
#[derive(Default)]
pub(super) struct LastSeen {
    /// The begin of the last step of each, by number.
    edges: HashMap<u32, Timestamp, BuildHasherDefault<NumberHasher>>,
    /// The begin of the last step of all.
    pub(super) newest: Timestamp,
}

impl LastSeen {
    fn note(&mut self, number: u32, begin: Timestamp) {
        let last = self.edges.entry(number).or_default();
        *last = begin.max(*last);
    }

    /// The begin of the last step that an edge has anything in.
    pub(super) fn of(&self, number: u32) -> Option<Timestamp> {
        self.edges.get(&number).copied()
    }
}

impl<'a> Steps<'a> {
    pub(super) fn open(
        writing: &'a WriteTransaction,
        layer: &'static Layer,
        begins: Option<Begins>,
    ) -> Result<Self, HistoryError> {
        let meta = writing.open_table(META)?;
        let mut bytes = [0; TIERS.len()];
        for (tier, bytes) in bytes.iter_mut().enumerate() {
            *bytes = meta.get(layer.bytes_of(tier).as_str())?.map_or(0, |bytes| bytes.value());
        }
        drop(meta);
        let table = writing.open_table(layer.steps)?;
        let begins = match begins {
            Some(begins) => begins,
            None => begins_of(&table)?,
        };
        Ok(Self { layer, table, begins, bytes, written: 0 })
    }

    /// Done; returns the bytes that were put in.
    pub(super) fn close(self, writing: &WriteTransaction) -> Result<u64, HistoryError> {
        let Self { layer, table, bytes, written, .. } = self;
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
        let before = match self.begins[tier] {
            Some((_, last)) if last < from => Some(last),
            Some(_) => self.before(tier, from)?,
            None => None,
        };
        if let Some(before) = before.and_then(|before| tiers::period(tier, before))
            && from >= before.to
        {
            let (from, bytes) = self.merge(tier, before)?;
            self.put(tier + 1, from, &bytes)?;
        }
        self.replace(tier, from, bytes)
    }

    /// The begin of the last step before a moment.
    fn before(&self, tier: usize, from: Timestamp) -> Result<Option<Timestamp>, HistoryError> {
        let key = (tier as u8, from.unix_ns());
        let before = self.table.range((key.0, 0)..key)?.next_back().transpose()?;
        Ok(before.map(|(key, _)| Timestamp::from_unix_ns(key.value().1)))
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
        let (first, last) = self.begins[tier].unwrap_or((from, from));
        self.begins[tier] = Some((first.min(from), last.max(from)));
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
        if removed > 0 {
            self.begins[tier] = begins_in(&self.table, tier)?;
        }
        Ok(())
    }

    /// All that a period has as one step of the next tier, and its begin.
    pub(super) fn merge(
        &self,
        tier: usize,
        period: Window,
    ) -> Result<(Timestamp, Vec<u8>), HistoryError> {
        let keys = (tier as u8, period.from.unix_ns())..(tier as u8, period.to.unix_ns());
        let mut rows = self.table.range(keys)?;
        let mut merged: Option<(Timestamp, Vec<u8>)> = None;
        loop {
            let next = rows.by_ref().take(ABREAST).collect::<Result<Vec<_>, _>>()?;
            let mut steps = Vec::with_capacity(ABREAST + 1);
            match &merged {
                Some(merged) if next.is_empty() => return Ok(merged.clone()),
                Some((from, bytes)) => steps.push(StepBytes::read(from.unix_ns(), bytes)?),
                None => {}
            }
            for (key, bytes) in &next {
                steps.push(StepBytes::read(key.value().1, bytes.value())?);
            }
            merged = Some(merge::merged(period, steps)?);
        }
    }

    /// Reads the numbers of every step.
    pub(super) fn last_seen(&self) -> Result<LastSeen, HistoryError> {
        let mut seen = LastSeen::default();
        for row in self.table.iter()? {
            let (key, bytes) = row?;
            let mut step = StepBytes::read(key.value().1, bytes.value())?;
            let from = step.window.from;
            seen.newest = seen.newest.max(from);
            while let Some((number, _)) = step.next_raw() {
                seen.note(number, from);
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
                let Some((from, _)) = self.begins[tier] else { break };
                let until =
                    tiers::period(tier, from).map_or(from.unix_ns(), |p| p.to.unix_ns() - 1);
                let to = Timestamp::from_unix_ns(until + 1);
                self.remove(tier, Window { from: Timestamp::default(), to })?;
            }
        }
        Ok(())
    }
}

/// When the first and the last step of each tier begin: both are read for it.
pub(super) fn begins_of(
    table: &impl ReadableTable<(u8, u64), &'static [u8]>,
) -> Result<Begins, HistoryError> {
    let mut begins = Begins::default();
    for (tier, begins) in begins.iter_mut().enumerate() {
        *begins = begins_in(table, tier)?;
    }
    Ok(begins)
}

fn begins_in(
    table: &impl ReadableTable<(u8, u64), &'static [u8]>,
    tier: usize,
) -> Result<Option<(Timestamp, Timestamp)>, HistoryError> {
    let mut all = table.range((tier as u8, 0)..=(tier as u8, u64::MAX))?;
    let begin =
        |(key, _): (redb::AccessGuard<'_, (u8, u64)>, _)| Timestamp::from_unix_ns(key.value().1);
    let Some(first) = all.next().transpose()?.map(begin) else { return Ok(None) };
    let last = all.next_back().transpose()?.map(begin);
    Ok(Some((first, last.unwrap_or(first))))
}
