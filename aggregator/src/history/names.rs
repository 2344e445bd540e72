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
use topology::{EndedStep, Id, PROTOCOL, StepEdge, Timestamp, ViewNode};

use super::{
    database::HistoryError,
    steps::{LastSeen, Steps},
    table::{self, EDGES, Edge, SERVICES, Service},
    tiers,
};

/// What a name takes, in bytes, beside what is written of it: its place in memory and in the file.
const NAME: u64 = 96;

/// Names never take more than this, however large the history may be: they are in memory.
const MOST: u64 = 32 << 20;

/// Fewer are not worth a look.
const FEW: u64 = 64 << 10;

/// The numbers of what is in the database.
pub(super) struct Numbers {
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
}

/// A service that is in the database.
#[derive(Clone, Copy)]
struct Known {
    number: u32,
    /// Of everything that is written of it.
    fingerprint: u64,
    bytes: u64,
}

impl Numbers {
    /// Those of everything in a database of so many bytes.
    pub(super) fn read(reading: &ReadTransaction, max_bytes: u64) -> Result<Self, HistoryError> {
        let most = MOST.min(max_bytes / 100 * tiers::NAMES);
        let mut numbers = Self {
            services: HashMap::new(),
            edges: HashMap::new(),
            next_service: 0,
            next_edge: 0,
            free_services: Vec::new(),
            free_edges: Vec::new(),
            bytes: 0,
            look_at: FEW.min(most),
            most,
        };
        let mut ids = HashMap::new();
        for row in reading.open_table(SERVICES)?.iter()? {
            let (number, row) = row?;
            let (number, bytes) = (number.value(), NAME + row.value().len() as u64);
            let service: Service = postcard::from_bytes(row.value())?;
            ids.insert(number, service.id());
            let known = Known { number, fingerprint: fingerprint(&service), bytes };
            numbers.services.insert(service.id(), known);
            numbers.next_service = numbers.next_service.max(number + 1);
            numbers.bytes += bytes;
        }
        for row in reading.open_table(EDGES)?.iter()? {
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

    /// The rows of a step: edge, gains, who saw it, open connections.
    pub(super) fn rows<'a>(
        &mut self,
        writing: &WriteTransaction,
        step: &'a EndedStep,
    ) -> Result<Vec<(u32, &'a StepEdge)>, HistoryError> {
        let mut rows = Vec::with_capacity(step.edges.len());
        for edge in &step.edges {
            rows.push((self.edge(writing, edge)?, edge));
        }
        rows.sort_unstable_by_key(|(number, _)| *number);
        Ok(rows)
    }

    /// A step as it is stored.
    pub(super) fn pack(
        &mut self,
        writing: &WriteTransaction,
        step: &EndedStep,
    ) -> Result<Vec<u8>, HistoryError> {
        let rows = self.rows(writing, step)?;
        let packed = rows
            .iter()
            .map(|(number, edge)| (*number, &edge.totals, edge.seen, edge.connections_open));
        Ok(table::pack(step.window.to, step.lost, packed)?)
    }

    fn edge(&mut self, writing: &WriteTransaction, edge: &StepEdge) -> Result<u32, HistoryError> {
        if let Some(number) = self.edges.get(&edge.id) {
            return Ok(*number);
        }
        let row = Edge {
            source: self.service(writing, &edge.source)?,
            target: self.service(writing, &edge.target)?,
            server_port: edge.server_port,
        };
        let number = take(&mut self.free_edges, &mut self.next_edge);
        writing.open_table(EDGES)?.insert(number, postcard::to_stdvec(&row)?.as_slice())?;
        self.edges.insert(edge.id, number);
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
        let known = self.services.get(&node.id).copied();
        if let Some(known) = known.filter(|known| known.fingerprint == fingerprint) {
            return Ok(known.number);
        }
        let number = match known {
            Some(known) => known.number,
            None => take(&mut self.free_services, &mut self.next_service),
        };
        let row = postcard::to_stdvec(&service)?;
        writing.open_table(SERVICES)?.insert(number, row.as_slice())?;
        let bytes = NAME + row.len() as u64;
        self.bytes = self.bytes + bytes - known.map_or(0, |known| known.bytes);
        self.services.insert(node.id, Known { number, fingerprint, bytes });
        Ok(number)
    }

    /// Forgets names that no step has, when there may be enough of them; and the oldest steps while their names take too
    /// much.
    pub(super) fn make_room(
        &mut self,
        writing: &WriteTransaction,
        steps: &mut Steps<'_>,
    ) -> Result<(), HistoryError> {
        if self.bytes <= self.look_at {
            return Ok(());
        }
        let seen = steps.last_seen()?;
        let mut edges = HashMap::new();
        for row in writing.open_table(EDGES)?.iter()? {
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
        let mut table = writing.open_table(EDGES)?;
        table.retain(|number, _| {
            let stays = kept.contains_key(&number);
            self.free_edges.extend((!stays).then_some(number));
            stays
        })?;
        let mut table = writing.open_table(SERVICES)?;
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
