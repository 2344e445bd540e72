//! The names of services and edges, each of which is written once and has a number in the steps.
//!
//! A name that no step has is of no use. Which ones those are is looked for when the names have grown enough since the
//! last time: every step has to be read for it. Names have a share of the bytes that there may be, like steps; where those
//! in use take more, the oldest steps go, and with them what only they have.

use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher},
};

use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use topology::{
    EndedStep, Id, NumberHasher, Seen, StepRow, StepRows, StepTotals, Timestamp, ViewNode,
};

use super::{
    database::HistoryError,
    steps::{Begins, LastSeen, Steps},
    table::{self, Edge, Layer, Service},
    tiers,
};

/// What a name takes, in bytes, beside what is written of it: its place in memory and in the file.
const NAME: u64 = 96;

/// Names never take more than this, however large the history may be: they are in memory.
const MOST: u64 = 32 << 20;

/// No edge has this number.
const NONE: u32 = u32::MAX;

/// Fewer are not worth a look.
const FEW: u64 = 64 << 10;

/// The numbers of what is in a layer of the database.
pub(super) struct Numbers {
    layer: &'static Layer,
    services: HashMap<Id, Known>,
    edges: HashMap<Edge, u32, BuildHasherDefault<NumberHasher>>,
    /// Who edges are between, by their numbers.
    ends: Vec<Edge>,
    /// The number that the edge at a place of the graph had last.
    places: Vec<u32>,
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
    /// Of the steps, once some were written.
    pub(super) begins: Option<Begins>,
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

/// What tells the ends of a step's rows, and their numbers, as far as they have any.
#[derive(Default)]
struct Ends(Vec<(Option<Id>, Option<u32>)>);

impl Ends {
    fn number(
        &mut self,
        end: usize,
        told: &StepRows<'_>,
        known: impl Fn(Id) -> Option<u32>,
    ) -> Option<u32> {
        if self.0.len() <= end {
            self.0.resize(end + 1, (None, None));
        }
        let (key, number) = self.0.get_mut(end)?;
        if number.is_none() {
            *key = key.or_else(|| told.key(end));
            *number = key.and_then(known);
        }
        *number
    }
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
            edges: HashMap::default(),
            ends: Vec::new(),
            places: Vec::new(),
            next_service: 0,
            next_edge: 0,
            free_services: Vec::new(),
            free_edges: Vec::new(),
            bytes: 0,
            look_at: FEW.min(most),
            most,
            full_since: None,
            newest: Timestamp::default(),
            begins: None,
        };
        for row in reading.open_table(layer.services)?.iter()? {
            let (number, row) = row?;
            let (number, bytes) = (number.value(), NAME + row.value().len() as u64);
            let service = layer.read(row.value())?;
            let known = Known { number, fingerprint: fingerprint(&service), bytes };
            numbers.services.insert(layer.key(&layer.node(service)), known);
            numbers.next_service = numbers.next_service.max(number + 1);
            numbers.bytes += bytes;
        }
        for row in reading.open_table(layer.edges)?.iter()? {
            let (number, bytes) = row?;
            numbers.know(postcard::from_bytes(bytes.value())?, number.value());
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
        let (mut rows, mut folded) = (Vec::with_capacity(step.edges.count()), 0);
        let (mut told, mut ends) = (step.rows(self.layer.finer), Ends::default());
        while let Some(row) = told.next() {
            let number = match self.known(&told, &row, &mut ends) {
                Some(number) => number,
                None if self.is_full() => {
                    folded += 1;
                    self.other(writing)?
                }
                None => match self.edge(writing, &told, &row)? {
                    Some(number) => number,
                    None => continue,
                },
            };
            rows.push((number, row.totals, row.seen, row.connections_open));
        }
        if !rows.is_sorted_by_key(|(number, ..)| *number) {
            rows.sort_by_key(|(number, ..)| *number);
        }
        rows.dedup_by(|row, last| {
            let is_same = row.0 == last.0;
            if is_same {
                last.1.merge(&row.1);
                last.2.merge(row.2);
                last.3 = last.3.saturating_add(row.3);
            }
            is_same
        });
        Ok(Rows { rows, folded })
    }

    /// The number of a row's edge, if it has one. Mostly it is the one that the edge at its place had before.
    fn known(&mut self, told: &StepRows<'_>, row: &StepRow<'_>, ends: &mut Ends) -> Option<u32> {
        let [source, target] = row.ends.map(|end| {
            ends.number(end, told, |key| self.services.get(&key).map(|known| known.number))
        });
        let edge = Edge { source: source?, target: target?, server_port: row.server_port };
        let Some(place) = row.place else { return self.edges.get(&edge).copied() };
        let last = self.places.get(place).copied();
        let is_it = |number: &u32| self.ends.get(*number as usize) == Some(&edge);
        if let Some(number) = last.filter(is_it) {
            return Some(number);
        }
        let number = *self.edges.get(&edge)?;
        if self.places.len() <= place {
            self.places.resize(place + 1, NONE);
        }
        self.places[place] = number;
        Some(number)
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

    /// Names a row's edge; nothing where it is not known who its ends are.
    fn edge(
        &mut self,
        writing: &WriteTransaction,
        told: &StepRows<'_>,
        row: &StepRow<'_>,
    ) -> Result<Option<u32>, HistoryError> {
        let [source, target] = row.ends.map(|end| told.node(end));
        let (Some(source), Some(target)) = (source, target) else { return Ok(None) };
        let [source, target] = [self.service(writing, &source)?, self.service(writing, &target)?];
        let edge = Edge { source, target, server_port: row.server_port };
        self.new_edge(writing, edge).map(Some)
    }

    /// The number of what stands for the rest.
    fn other(&mut self, writing: &WriteTransaction) -> Result<u32, HistoryError> {
        let other = ViewNode::other(Vec::new());
        let known = self.services.get(&self.layer.key(&other)).map(|known| known.number);
        let edge = |end| Edge { source: end, target: end, server_port: 0 };
        if let Some(number) = known.and_then(|end| self.edges.get(&edge(end))) {
            return Ok(*number);
        }
        let end = self.service(writing, &other)?;
        self.new_edge(writing, edge(end))
    }

    fn new_edge(&mut self, writing: &WriteTransaction, edge: Edge) -> Result<u32, HistoryError> {
        let number = take(&mut self.free_edges, &mut self.next_edge);
        let bytes = postcard::to_stdvec(&edge)?;
        writing.open_table(self.layer.edges)?.insert(number, bytes.as_slice())?;
        self.know(edge, number);
        self.bytes += NAME;
        Ok(number)
    }

    /// An edge has a number.
    fn know(&mut self, edge: Edge, number: u32) {
        self.edges.insert(edge, number);
        let at = number as usize;
        if self.ends.len() <= at {
            self.ends.resize(at + 1, Edge::NONE);
        }
        self.ends[at] = edge;
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
        let from = self.room_from(&seen);
        steps.remove_before(from)?;
        self.forget(writing, |number| seen.of(number).is_some_and(|last| last >= from))
    }

    /// From when on steps can stay: their names do not take too much. The period of the coarsest steps that is not over
    /// stays, whatever it takes.
    fn room_from(&self, seen: &LastSeen) -> Timestamp {
        let mut services = vec![0; self.next_service as usize];
        for known in self.services.values() {
            services[known.number as usize] = known.bytes;
        }
        let mut used: Vec<_> = (0..)
            .zip(&self.ends)
            .filter(|(_, edge)| **edge != Edge::NONE)
            .filter_map(|(number, edge)| Some((seen.of(number)?, edge)))
            .collect();
        used.sort_unstable_by_key(|(last, _)| Reverse(*last));
        let (mut bytes, mut from) = (0, Timestamp::default());
        for (last, edge) in used {
            bytes += NAME;
            for end in [edge.source, edge.target] {
                // Each is counted once.
                bytes += services.get_mut(end as usize).map_or(0, std::mem::take);
            }
            if from == Timestamp::default() && bytes > self.most / 4 * 3 {
                from = last.floor(tiers::LONGEST).plus(tiers::LONGEST);
            }
        }
        if bytes <= self.most {
            return Timestamp::default();
        }
        from.min(seen.newest.floor(tiers::LONGEST))
    }

    /// Forgets all edges that do not stay, and services that none of the others has.
    fn forget(
        &mut self,
        writing: &WriteTransaction,
        stays: impl Fn(u32) -> bool,
    ) -> Result<(), HistoryError> {
        let mut services = vec![false; self.next_service as usize];
        for (number, edge) in (0..).zip(&mut self.ends) {
            if !stays(number) {
                *edge = Edge::NONE;
            }
            for end in [edge.source, edge.target] {
                services.get_mut(end as usize).into_iter().for_each(|stays| *stays = true);
            }
        }
        let stays = |number: u32| self.ends.get(number as usize).is_some_and(|e| *e != Edge::NONE);
        let mut table = writing.open_table(self.layer.edges)?;
        table.retain(|number, _| {
            self.free_edges.extend((!stays(number)).then_some(number));
            stays(number)
        })?;
        self.edges.retain(|_, number| stays(*number));
        let stays = |number: u32| services.get(number as usize).copied().unwrap_or(false);
        let mut table = writing.open_table(self.layer.services)?;
        table.retain(|number, _| {
            self.free_services.extend((!stays(number)).then_some(number));
            stays(number)
        })?;
        self.services.retain(|_, known| stays(known.number));
        // The lowest are given first: in the order of the graph, which steps have, too.
        self.free_edges.sort_unstable_by_key(|number| Reverse(*number));
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
