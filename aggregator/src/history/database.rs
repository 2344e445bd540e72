//! Writing and reading the history.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{ReadableDatabase, ReadableTable};
use thiserror::Error;
use topology::{
    EdgeTotals, EndedStep, Entry, Given, GivenSteps, Grouping, Id, Older, PROTOCOL, Seen, SeenBy,
    Timestamp, ViewEdge, ViewNode, Window,
};

use super::{
    late,
    names::Numbers,
    steps::{self, Begins, Steps},
    table::{Edge, IN_BYTES, LAYERS, Layer, META, StepBytes, VERSION, WITHOUT_WORKLOADS},
    tiers::{self, TIERS},
};
use crate::clock;

const FILE: &str = "history.redb";

/// Name of the number of the last that was written.
const GIVEN: &str = "given";

/// Memory for pages of the file, in bytes.
const CACHE: usize = 16 << 20;

/// Why the history cannot be written or read.
#[derive(Debug, Error)]
pub(crate) enum HistoryError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] redb::DatabaseError),
    /// No transaction can begin.
    #[error(transparent)]
    Begin(#[from] redb::TransactionError),
    /// A table.
    #[error(transparent)]
    Table(#[from] redb::TableError),
    /// Reading or writing.
    #[error(transparent)]
    Storage(#[from] redb::StorageError),
    /// What was written cannot be made to last.
    #[error(transparent)]
    Commit(#[from] redb::CommitError),
    /// What is in it.
    #[error("the history's contents make no sense: {0}")]
    Contents(#[from] postcard::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] std::io::Error),
}

/// The numbers of all layers.
pub(super) type AllNumbers = [Numbers; LAYERS.len()];

/// What became of steps that were given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    /// Bytes of the steps that were put in.
    pub(super) bytes: u64,
    /// Rows that there was no room for a name for.
    pub(super) folded: u64,
    /// Rows between workloads that came late and are of before there is anything between workloads.
    pub(super) dropped: u64,
}

/// The history.
pub(crate) struct Database {
    database: redb::Database,
    max_bytes: u64,
}

impl Database {
    /// Opens the history of a state. One that is another state's, or that cannot be read, is put aside.
    pub(crate) fn open(
        dir: &Path,
        instance: u64,
        max_bytes: u64,
    ) -> Result<(Self, Option<PathBuf>), HistoryError> {
        let path = dir.join(FILE);
        let opened = Self::at(&path, instance, max_bytes);
        let Err(error) = opened else { return Ok((opened?, None)) };
        if !path.exists() {
            return Err(error);
        }
        let aside = dir.join(format!("broken-{}-{FILE}", clock::wall().unix_ns()));
        fs::rename(&path, &aside)?;
        tracing::error!(kept_as = %aside.display(), "the history cannot be used, it starts afresh: {error}");
        Ok((Self::at(&path, instance, max_bytes)?, Some(aside)))
    }

    fn at(path: &Path, instance: u64, max_bytes: u64) -> Result<Self, HistoryError> {
        let database = redb::Builder::new().set_cache_size(CACHE).create(path)?;
        Self::of(database, instance, max_bytes)
    }

    pub(super) fn of(
        database: redb::Database,
        instance: u64,
        max_bytes: u64,
    ) -> Result<Self, HistoryError> {
        let writing = database.begin_write()?;
        let mut is_without_workloads = false;
        {
            let mut meta = writing.open_table(META)?;
            for (name, value) in [("version", VERSION), ("instance", instance)] {
                let known = meta.get(name)?.map(|known| known.value());
                match known {
                    None => drop(meta.insert(name, value)?),
                    Some(known) if known == value => {}
                    Some(known @ (WITHOUT_WORKLOADS | IN_BYTES)) if name == "version" => {
                        drop(meta.insert(name, value)?);
                        is_without_workloads = known == WITHOUT_WORKLOADS;
                    }
                    Some(_) => {
                        return Err(std::io::Error::other(format!("its {name} is another")).into());
                    }
                }
            }
            for layer in &LAYERS {
                writing.open_table(layer.services)?;
                writing.open_table(layer.edges)?;
                writing.open_table(layer.steps)?;
            }
        }
        writing.commit()?;
        if is_without_workloads {
            tracing::info!("the history goes on; between workloads, hosts and zones it begins now");
        }
        Ok(Self { database, max_bytes })
    }

    /// The numbers of everything in the database.
    pub(super) fn numbers(&self) -> Result<AllNumbers, HistoryError> {
        let reading = self.database.begin_read()?;
        let [services, workloads] = LAYERS.each_ref();
        let read = |layer| Numbers::read(&reading, layer, self.max_bytes);
        Ok([read(services)?, read(workloads)?])
    }

    /// Writes a step that is over, merges those before it where that is due, and makes room; or adds to steps. What
    /// was written before is passed over.
    pub(super) fn write(
        &self,
        given: &Given,
        numbers: &mut AllNumbers,
    ) -> Result<Written, HistoryError> {
        if given.number <= self.given()? {
            return Ok(Written::default());
        }
        let [services, finer] = self.reach(numbers)?;
        // Nothing at all begins last of all.
        let begins_later = services.is_some() && (finer.is_none() || finer > services);
        let writing = self.database.begin_write()?;
        let written = (|| {
            writing.open_table(META)?.insert(GIVEN, given.number)?;
            let mut all = Written::default();
            for (layer, numbers) in LAYERS.iter().zip(numbers.iter_mut()) {
                let begins_later = layer.finer && begins_later;
                let given = (&given.steps, begins_later);
                let written = self.write_layer(&writing, given, layer, numbers)?;
                all.bytes += written.bytes;
                all.folded += written.folded;
                all.dropped += written.dropped;
            }
            Ok(all)
        })();
        match written {
            Ok(written) => {
                writing.commit()?;
                Ok(written)
            }
            Err(error) => {
                // What has been numbered since is not in the database.
                writing.abort()?;
                *numbers = self.numbers()?;
                Err(error)
            }
        }
    }

    fn write_layer(
        &self,
        writing: &redb::WriteTransaction,
        (given, begins_later): (&GivenSteps, bool),
        layer: &'static Layer,
        numbers: &mut Numbers,
    ) -> Result<Written, HistoryError> {
        let (folded, mut steps);
        let mut dropped = 0;
        match given {
            GivenSteps::Ended(step) => {
                let rows = numbers.rows(writing, step)?;
                steps = Steps::open(writing, layer, numbers.begins)?;
                steps.put(0, step.window.from, &rows.pack(step)?)?;
                folded = rows.folded;
            }
            GivenSteps::Late(late) => {
                let rows = late.iter().map(|step: &EndedStep| numbers.rows(writing, step));
                let rows = rows.collect::<Result<Vec<_>, _>>()?;
                steps = Steps::open(writing, layer, numbers.begins)?;
                dropped = late::add(&mut steps, late, &rows, begins_later)?;
                folded = rows.iter().map(|rows| rows.folded).sum();
            }
        }
        steps.make_room(layer.most(self.max_bytes))?;
        numbers.make_room(writing, &mut steps)?;
        numbers.begins = Some(steps.begins);
        Ok(Written { bytes: steps.close(writing)?, folded, dropped })
    }

    /// Passes over nothing that comes after a number.
    pub(super) fn resume_after(&self, number: u64) -> Result<(), HistoryError> {
        if self.given()? <= number {
            return Ok(());
        }
        tracing::warn!(
            "the history has more than the state, whose files were damaged or another version's"
        );
        let writing = self.database.begin_write()?;
        writing.open_table(META)?.insert(GIVEN, number)?;
        Ok(writing.commit()?)
    }

    /// The number of the last that was written.
    fn given(&self) -> Result<u64, HistoryError> {
        let meta = self.database.begin_read()?.open_table(META)?;
        Ok(meta.get(GIVEN)?.map_or(0, |known| known.value()))
    }

    /// Bytes of the steps of a tier.
    #[cfg(test)]
    pub(super) fn bytes(&self, finer: bool, tier: usize) -> Result<u64, HistoryError> {
        let meta = self.database.begin_read()?.open_table(META)?;
        let name = Layer::of(finer).bytes_of(tier);
        Ok(meta.get(name.as_str())?.map_or(0, |bytes| bytes.value()))
    }

    /// From when on each layer has anything, as the numbers have it that were written with, else as it is stored.
    pub(super) fn reach(
        &self,
        numbers: &AllNumbers,
    ) -> Result<[Option<Timestamp>; LAYERS.len()], HistoryError> {
        let [services, finer] = numbers;
        let from = |numbers: &Numbers, finer| match &numbers.begins {
            Some(begins) => Ok(first_of(begins)),
            None => self.stored_from(finer),
        };
        Ok([from(services, false)?, from(finer, true)?])
    }

    /// From when on anything is stored between services, or between workloads on their hosts.
    pub(super) fn stored_from(&self, finer: bool) -> Result<Option<Timestamp>, HistoryError> {
        let table = self.database.begin_read()?.open_table(Layer::of(finer).steps)?;
        Ok(first_of(&steps::begins_of(&table)?))
    }

    /// What is stored of a window, in steps that end by `limit`; to be grouped as said.
    pub(crate) fn older(
        &self,
        asked: Window,
        limit: Timestamp,
        by: Grouping,
    ) -> Result<Older, HistoryError> {
        self.older_by(asked, limit, tiers::tier_for(asked), by)
    }

    /// The same by steps of a tier, as far as there are any.
    pub(super) fn older_by(
        &self,
        asked: Window,
        limit: Timestamp,
        tier: usize,
        by: Grouping,
    ) -> Result<Older, HistoryError> {
        let layer = Layer::of(by.is_finer());
        let reading = self.database.begin_read()?;
        let table = reading.open_table(layer.steps)?;
        let mut stored: [Vec<Window>; TIERS.len()] = Default::default();
        for (tier, windows) in stored.iter_mut().enumerate() {
            *windows = windows_of(&table, tier)?;
        }
        let mut older = Older {
            stored_from: stored.iter().filter_map(|windows| windows.first()).map(|w| w.from).min(),
            ..Older::default()
        };
        let mut sums: BTreeMap<u32, (EdgeTotals, Seen, u64)> = BTreeMap::new();
        let mut entry = Entry::default();
        let picked = tiers::pick(asked, limit, tier, &stored);
        for (at, step) in picked.iter().enumerate() {
            let from = step.window.from.unix_ns();
            let Some(bytes) = table.get((step.tier as u8, from))? else { continue };
            let mut bytes = StepBytes::read(from, bytes.value())?;
            if older.window == Window::default() {
                older.window.from = bytes.window.from;
            }
            older.window.to = bytes.window.to;
            older.lost.merge(bytes.lost);
            let last = at + 1 == picked.len();
            while bytes.next(&mut entry) {
                let (totals, seen, open) = sums.entry(entry.index as u32).or_default();
                totals.merge(&entry.totals);
                seen.merge(entry.seen);
                *open = if last { entry.open } else { 0 };
            }
        }
        let (services, edges) =
            (reading.open_table(layer.services)?, reading.open_table(layer.edges)?);
        let mut ends = Ends { layer, by, services, nodes: HashMap::new() };
        let mut at: HashMap<Id, usize> = HashMap::new();
        for (number, (totals, seen, connections_open)) in sums {
            if connections_open == 0 && totals.is_zero() {
                continue;
            }
            let Some(edge) = edges.get(number)? else { continue };
            let edge: Edge = postcard::from_bytes(edge.value())?;
            let (Some(source), Some(target)) = (ends.id(edge.source)?, ends.id(edge.target)?)
            else {
                continue;
            };
            let id = Id::of_edge(source, target, edge.server_port, PROTOCOL);
            let edge = ViewEdge {
                id,
                source,
                target,
                server_port: edge.server_port,
                protocol: PROTOCOL,
                seen_by: SeenBy::of(seen),
                resolved_by: seen.by,
                pending: false,
                connections_open,
                totals,
            };
            // Workloads whose host was in another zone are others in the file.
            match at.get(&id).and_then(|at| older.edges.get_mut(*at)) {
                Some(known) => known.fold_in(&edge),
                None => {
                    at.insert(id, older.edges.len());
                    older.edges.push(edge);
                }
            }
        }
        let nodes: BTreeMap<Id, Arc<ViewNode>> =
            ends.nodes.into_values().map(|node| (node.id, node)).collect();
        older.nodes = nodes.into_values().collect();
        Ok(older)
    }
}

/// The ends of edges, by their numbers.
struct Ends {
    layer: &'static Layer,
    by: Grouping,
    services: redb::ReadOnlyTable<u32, &'static [u8]>,
    /// Those that are known.
    nodes: HashMap<u32, Arc<ViewNode>>,
}

impl Ends {
    /// Its id in the answer.
    fn id(&mut self, number: u32) -> Result<Option<Id>, HistoryError> {
        if let Some(node) = self.nodes.get(&number) {
            return Ok(Some(node.id));
        }
        let Some(bytes) = self.services.get(number)? else { return Ok(None) };
        let node = self.layer.node(self.layer.read(bytes.value())?);
        let id = self.by.id_of(&node);
        self.nodes.insert(number, node.called_by(id));
        Ok(Some(id))
    }
}

/// The begin of the first step of all.
fn first_of(begins: &Begins) -> Option<Timestamp> {
    begins.iter().flatten().map(|(first, _)| *first).min()
}

/// The windows of a tier's steps, in order. A step lasts until its period is over, or as its head says; the key
/// has its begin, and the end of a whole one follows from it.
fn windows_of(
    table: &impl ReadableTable<(u8, u64), &'static [u8]>,
    tier: usize,
) -> Result<Vec<Window>, HistoryError> {
    let mut windows = Vec::new();
    let tier_key = tier as u8;
    for row in table.range((tier_key, 0)..=(tier_key, u64::MAX))? {
        let from = Timestamp::from_unix_ns(row?.0.value().1);
        windows.push(Window { from, to: from.floor(TIERS[tier]).plus(TIERS[tier]) });
    }
    Ok(windows)
}
