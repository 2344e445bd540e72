//! Writing and reading the history.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use redb::{ReadableDatabase, ReadableTable};
use thiserror::Error;
use topology::{
    EdgeTotals, Entry, Given, GivenSteps, Id, Older, PROTOCOL, Seen, SeenBy, Timestamp, ViewEdge,
    ViewNode, Window,
};

use super::{
    late,
    names::Numbers,
    steps::Steps,
    table::{EDGES, Edge, META, SERVICES, STEPS, Service, StepBytes, VERSION},
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
        let writing = database.begin_write()?;
        {
            let mut meta = writing.open_table(META)?;
            for (name, value) in [("version", VERSION), ("instance", instance)] {
                let known = meta.get(name)?.map(|known| known.value());
                match known {
                    None => drop(meta.insert(name, value)?),
                    Some(known) if known == value => {}
                    Some(_) => {
                        return Err(std::io::Error::other(format!("its {name} is another")).into());
                    }
                }
            }
            writing.open_table(SERVICES)?;
            writing.open_table(EDGES)?;
            writing.open_table(STEPS)?;
        }
        writing.commit()?;
        Ok(Self { database, max_bytes })
    }

    /// The numbers of everything in the database.
    pub(super) fn numbers(&self) -> Result<Numbers, HistoryError> {
        Numbers::read(&self.database.begin_read()?, self.max_bytes)
    }

    /// Writes a step that is over, merges those before it where that is due, and makes room; or adds to steps. What
    /// was written before is passed over. Returns the bytes of the steps that were put in.
    pub(super) fn write(&self, given: &Given, numbers: &mut Numbers) -> Result<u64, HistoryError> {
        if given.number <= self.given()? {
            return Ok(0);
        }
        let writing = self.database.begin_write()?;
        let written = (|| {
            writing.open_table(META)?.insert(GIVEN, given.number)?;
            match &given.steps {
                GivenSteps::Ended(step) => {
                    let bytes = numbers.pack(&writing, step)?;
                    let mut steps = Steps::open(&writing)?;
                    steps.put(0, step.window.from, &bytes)?;
                    steps.make_room(self.max_bytes)?;
                    numbers.make_room(&writing, &mut steps)?;
                    steps.close(&writing)
                }
                GivenSteps::Late(late) => {
                    let rows = late.iter().map(|step| numbers.rows(&writing, step));
                    let rows = rows.collect::<Result<Vec<_>, _>>()?;
                    let mut steps = Steps::open(&writing)?;
                    late::add(&mut steps, late, &rows)?;
                    steps.make_room(self.max_bytes)?;
                    numbers.make_room(&writing, &mut steps)?;
                    steps.close(&writing)
                }
            }
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

    /// Passes over nothing that comes after a number.
    pub(super) fn resume_after(&self, number: u64) -> Result<(), HistoryError> {
        if self.given()? <= number {
            return Ok(());
        }
        tracing::warn!("the history has more than the state, whose files were damaged");
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
    pub(super) fn bytes(&self, tier: usize) -> Result<u64, HistoryError> {
        let meta = self.database.begin_read()?.open_table(META)?;
        Ok(meta.get(super::steps::bytes_of(tier).as_str())?.map_or(0, |bytes| bytes.value()))
    }

    /// What is stored of a window, in steps that end by `limit`.
    pub(crate) fn older(&self, asked: Window, limit: Timestamp) -> Result<Older, HistoryError> {
        self.older_by(asked, limit, tiers::tier_for(asked))
    }

    /// The same by steps of a tier, as far as there are any.
    pub(super) fn older_by(
        &self,
        asked: Window,
        limit: Timestamp,
        tier: usize,
    ) -> Result<Older, HistoryError> {
        let reading = self.database.begin_read()?;
        let table = reading.open_table(STEPS)?;
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
        let (services, edges) = (reading.open_table(SERVICES)?, reading.open_table(EDGES)?);
        let mut nodes: HashMap<u32, std::sync::Arc<ViewNode>> = HashMap::new();
        for (number, (totals, seen, connections_open)) in sums {
            if connections_open == 0 && totals.is_zero() {
                continue;
            }
            let Some(edge) = edges.get(number)? else { continue };
            let edge: Edge = postcard::from_bytes(edge.value())?;
            let mut ends = [edge.source, edge.target].into_iter().map(|number| {
                if let Some(node) = nodes.get(&number) {
                    return Ok::<_, HistoryError>(Some(node.id));
                }
                let Some(bytes) = services.get(number)? else { return Ok(None) };
                let node = postcard::from_bytes::<Service>(bytes.value())?.node();
                let id = node.id;
                nodes.insert(number, node);
                Ok(Some(id))
            });
            let (Some(Some(source)), Some(Some(target))) =
                (ends.next().transpose()?, ends.next().transpose()?)
            else {
                continue;
            };
            older.edges.push(ViewEdge {
                id: Id::of_edge(source, target, edge.server_port, PROTOCOL),
                source,
                target,
                server_port: edge.server_port,
                protocol: PROTOCOL,
                seen_by: SeenBy::of(seen),
                resolved_by: seen.by,
                pending: false,
                connections_open,
                totals,
            });
        }
        older.nodes = nodes.into_values().collect();
        Ok(older)
    }
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
