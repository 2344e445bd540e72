//! The names of services and edges, each of which is written once and has a number in the steps.
//!
//! A name that no step has is of no use. Which ones those are is looked for when the names have grown enough since the
//! last time: every step has to be read for it. Names have a share of the bytes that there may be, like steps; where those
//! in use take more, the oldest steps go, and with them what only they have.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use topology::{EndedStep, Id, PROTOCOL, Seen, StepRow, StepTotals, Timestamp, ViewNode};

use super::{
    database::HistoryError,
    steps::{LastSeen, Steps},
    table::{self, Edge, Layer, Service},
    tiers,
};

/// What a name takes, in bytes, beside what is written of it: its place in memory and in the file.
const NAME: u64 = 96;

/// Names never take more than this, however large the history may be: they are in memory.
const MOST: u64 = 32 << 20;

/// Fewer are not worth a look.
const FEW: u64 = 64 << 10;

/// The numbers of what is in a layer of the database.
pub(super) struct Numbers {
    layer: &'static Layer,
    services: HashMap<Id, Known>,
    edges: HashMap<Id, u32>,
    next_service: u32,
    next_edge: u32,
    /// Numbers that no step has any more.
    free_services: Vec<u32>,
    free_edges: Vec<u32>,
    /// What all of them take, and how much that may get before it is looked which of them are in use.
    bytes: u64,
    look_at: u64,
    /// What they may take.
    most: u64,
    /// Since when new names have had no room. Those in use are looked for again when the period is over.
    full_since: Option<Timestamp>,
    /// When the last step began that was written.
    newest: Timestamp,
}

/// The rows of a step, in ascending order of their numbers: gains, who saw it, open connections.
pub(super) struct Rows<'a> {
    pub(super) rows: Vec<(u32, StepTotals<'a>, Seen, u64)>,
    /// How many there was no room for a name for: they are in the row of `other`.
    pub(super) folded: u64,
}

/// A service that is in the database.
#[derive(Clone, Copy)]
struct Known {
    number: u32,
    /// Of everything that is written of it.
    fingerprint: u64,
    bytes: u64,
}

impl Rows<'_> {
    /// The step that they are of, as it is stored.
    pub(super) fn pack(&self, step: &EndedStep) -> Result<Vec<u8>, HistoryError> {
        let mut lost = step.lost;
        lost.folded = lost.folded.saturating_add(self.folded);
        let bytes = table::pack_by(step.window.to, lost, |packer| {
            for (number, totals, seen, open) in &self.rows {
                totals.pack(packer, *number as usize, *seen, *open);
            }
        })?;
        Ok(bytes)
    }
}

impl Numbers {
    /// Those of everything in a layer of a database of so many bytes.
    pub(super) fn read(
        reading: &ReadTransaction,
        layer: &'static Layer,
        max_bytes: u64,
    ) -> Result<Self, HistoryError> {
        let most = MOST.min(layer.most(max_bytes) / 100 * tiers::NAMES);
        let mut numbers = Self {
            layer,
            services: HashMap::new(),
            edges: HashMap::new(),
            next_service: 0,
            next_edge: 0,
            free_services: Vec::new(),
            free_edges: Vec::new(),
            bytes: 0,
            look_at: FEW.min(most),
            most,
            full_since: None,
            newest: Timestamp::default(),
        };
        let mut ids = HashMap::new();
        for row in reading.open_table(layer.services)?.iter()? {
            let (number, row) = row?;
            let (number, bytes) = (number.value(), NAME + row.value().len() as u64);
            let service = layer.read(row.value())?;
            let known = Known { number, fingerprint: fingerprint(&service), bytes };
            let key = layer.key(&layer.node(service));
            ids.insert(number, key);
            numbers.services.insert(key, known);
            numbers.next_service = numbers.next_service.max(number + 1);
            numbers.bytes += bytes;
        }
        for row in reading.open_table(layer.edges)?.iter()? {
            let (number, bytes) = row?;
            let edge: Edge = postcard::from_bytes(bytes.value())?;
            if let (Some(source), Some(target)) = (ids.get(&edge.source), ids.get(&edge.target)) {
                let id = Id::of_edge(*source, *target, edge.server_port, PROTOCOL);
                numbers.edges.insert(id, number.value());
            }
            numbers.next_edge = numbers.next_edge.max(number.value() + 1);
            numbers.bytes += NAME;
        }
        Ok(numbers)
    }

    /// The rows of a step.
    pub(super) fn rows<'a>(
        &mut self,
        writing: &WriteTransaction,
        step: &'a EndedStep,
    ) -> Result<Rows<'a>, HistoryError> {
        self.newest = self.newest.max(step.window.from);
        let (mut all, mut folded) = (Vec::with_capacity(step.edges.count()), 0);
        step.rows(self.layer.finer, |row| {
            let number = match self.edges.get(&row.key).copied() {
                Some(number) => number,
                None if self.is_full() => {
                    folded += 1;
                    self.other(writing)?
                }
                None => self.edge(writing, &row)?,
            };
            all.push((number, row.totals, row.seen, row.connections_open));
            Ok::<_, HistoryError>(())
        })?;
        all.sort_by_key(|(number, ..)| *number);
        let mut rows: Vec<(u32, StepTotals<'a>, Seen, u64)> = Vec::with_capacity(all.len());
        for row in all {
            match rows.last_mut().filter(|last| last.0 == row.0) {
                Some((_, totals, seen, open)) => {
                    totals.merge(&row.1);
                    seen.merge(row.2);
                    *open = open.saturating_add(row.3);
                }
                None => rows.push(row),
            }
        }
        Ok(Rows { rows, folded })
    }

    /// Whether there is no room for another name. Between services there always is: the graph has not more of them than
    /// there is room for, and the oldest steps go. Workloads may come and go too fast for that.
    fn is_full(&mut self) -> bool {
        let full = self.layer.finer && self.bytes >= self.most.max(FEW);
        if full {
            self.full_since.get_or_insert(self.newest);
        }
        full
    }

    fn edge(&mut self, writing: &WriteTransaction, row: &StepRow<'_>) -> Result<u32, HistoryError> {
        let ends = [&row.source, &row.target].map(|end| self.service(writing, end));
        let [source, target] = ends;
        self.new_edge(writing, row.key, (source?, target?, row.server_port))
    }

    /// The number of what stands for the rest.
    fn other(&mut self, writing: &WriteTransaction) -> Result<u32, HistoryError> {
        let other = ViewNode::other(Vec::new());
        let key = Id::of_edge(other.id, other.id, 0, PROTOCOL);
        if let Some(number) = self.edges.get(&key) {
            return Ok(*number);
        }
        let end = self.service(writing, &other)?;
        self.new_edge(writing, key, (end, end, 0))
    }

    fn new_edge(
        &mut self,
        writing: &WriteTransaction,
        key: Id,
        (source, target, server_port): (u32, u32, u16),
    ) -> Result<u32, HistoryError> {
        let row = Edge { source, target, server_port };
        let number = take(&mut self.free_edges, &mut self.next_edge);
        let bytes = postcard::to_stdvec(&row)?;
        writing.open_table(self.layer.edges)?.insert(number, bytes.as_slice())?;
        self.edges.insert(key, number);
        self.bytes += NAME;
        Ok(number)
    }

    fn service(
        &mut self,
        writing: &WriteTransaction,
        node: &ViewNode,
    ) -> Result<u32, HistoryError> {
        let service = Service::of(node);
        let fingerprint = fingerprint(&service);
        let key = self.layer.key(node);
        let known = self.services.get(&key).copied();
        if let Some(known) = known.filter(|known| known.fingerprint == fingerprint) {
            return Ok(known.number);
        }
        let number = match known {
            Some(known) => known.number,
            None => take(&mut self.free_services, &mut self.next_service),
        };
        let row = self.layer.write(&service)?;
        writing.open_table(self.layer.services)?.insert(number, row.as_slice())?;
        let bytes = NAME + row.len() as u64;
        self.bytes = self.bytes + bytes - known.map_or(0, |known| known.bytes);
        self.services.insert(key, Known { number, fingerprint, bytes });
        Ok(number)
    }

    /// Forgets names that no step has, when there may be enough of them; and the oldest steps while their names take too
    /// much.
    pub(super) fn make_room(
        &mut self,
        writing: &WriteTransaction,
        steps: &mut Steps<'_>,
    ) -> Result<(), HistoryError> {
        let was_full = self.full_since;
        let waits = was_full.is_none_or(|since| self.newest.floor(tiers::LONGEST) <= since);
        if self.bytes <= self.look_at && waits {
            return Ok(());
        }
        self.full_since = None;
        let seen = steps.last_seen()?;
        let mut edges = HashMap::new();
        for row in writing.open_table(self.layer.edges)?.iter()? {
            let (number, row) = row?;
            edges.insert(number.value(), postcard::from_bytes::<Edge>(row.value())?);
        }
        let from = self.room_from(&edges, &seen);
        steps.remove_before(from)?;
        let is_kept = |number: &u32| seen.edges.get(number).is_some_and(|last| *last >= from);
        edges.retain(|number, _| is_kept(number));
        self.forget(writing, &edges)
    }

    /// From when on steps can stay: their names do not take too much. The period of the coarsest steps that is not over
    /// stays, whatever it takes.
    fn room_from(&self, edges: &HashMap<u32, Edge>, seen: &LastSeen) -> Timestamp {
        let services: HashMap<u32, u64> =
            self.services.values().map(|known| (known.number, known.bytes)).collect();
        let last = |number: &u32| seen.edges.get(number).copied();
        let mut used: Vec<_> =
            edges.iter().filter_map(|(number, edge)| Some((last(number)?, edge))).collect();
        used.sort_unstable_by_key(|(last, _)| Reverse(*last));
        let (mut counted, mut bytes, mut from) = (HashSet::new(), 0, Timestamp::default());
        for (last, edge) in used {
            let ends = [edge.source, edge.target].into_iter().filter(|end| counted.insert(*end));
            bytes += NAME + ends.filter_map(|end| services.get(&end)).sum::<u64>();
            if from == Timestamp::default() && bytes > self.most / 4 * 3 {
                from = last.floor(tiers::LONGEST).plus(tiers::LONGEST);
            }
        }
        if bytes <= self.most {
            return Timestamp::default();
        }
        from.min(seen.newest.floor(tiers::LONGEST))
    }

    /// Forgets all edges but these, and services that they do not have.
    fn forget(
        &mut self,
        writing: &WriteTransaction,
        kept: &HashMap<u32, Edge>,
    ) -> Result<(), HistoryError> {
        let ends: HashSet<u32> =
            kept.values().flat_map(|edge| [edge.source, edge.target]).collect();
        let mut table = writing.open_table(self.layer.edges)?;
        table.retain(|number, _| {
            let stays = kept.contains_key(&number);
            self.free_edges.extend((!stays).then_some(number));
            stays
        })?;
        let mut table = writing.open_table(self.layer.services)?;
        table.retain(|number, _| {
            let stays = ends.contains(&number);
            self.free_services.extend((!stays).then_some(number));
            stays
        })?;
        self.edges.retain(|_, number| kept.contains_key(number));
        self.services.retain(|_, known| ends.contains(&known.number));
        self.edges.shrink_to(2 * self.edges.len());
        self.services.shrink_to(2 * self.services.len());
        let services = self.services.values().map(|known| known.bytes).sum::<u64>();
        self.bytes = services + NAME * self.edges.len() as u64;
        let doubled = (2 * self.bytes).max(FEW).min(self.most);
        self.look_at = doubled.max(self.bytes + self.bytes / 4);
        Ok(())
    }

    /// How many services and edges there are, and what they take.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize, u64) {
        (self.services.len(), self.edges.len(), self.bytes)
    }
}

/// A number that is free.
fn take(free: &mut Vec<u32>, next: &mut u32) -> u32 {
    free.pop().unwrap_or_else(|| {
        *next += 1;
        *next - 1
    })
}

/// Of everything that is written of a service: one that changes is written again.
fn fingerprint(service: &Service) -> u64 {
    let mut hasher = DefaultHasher::new();
    service.hash(&mut hasher);
    hasher.finish()
}
