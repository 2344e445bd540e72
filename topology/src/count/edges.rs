//! Edges between services, and what they gain in the running step.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use serde::{Deserialize, Serialize};

use super::{
    externals::Externals,
    half::Half,
    link::Row,
    parts::{Ends, Parts},
    series::{SeriesIx, SeriesTable},
    witness::{self, Witness},
};
use crate::{
    base::{
        arena::{Arena, Key},
        id::Id,
        time::Timestamp,
        totals::EdgeTotals,
    },
    model::{Role, WorkloadKind},
    nodes::NodeIx,
    who::{
        basis::Basis,
        services::{ServiceIx, Services, WorkloadIx},
    },
};

pub(crate) type EdgeIx = Key<Edge>;

/// What nobody has published.
static NOTHING: LazyLock<EdgeTotals> = LazyLock::new(EdgeTotals::default);

/// The one protocol so far.
pub const PROTOCOL: &str = "tcp";

/// Which sides of an edge reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The client's.
    pub client: bool,
    /// The server's.
    pub server: bool,
    /// By what its ends are known: the best there was.
    pub by: Basis,
}

impl Seen {
    /// Adds what another part of the edge was seen by.
    pub fn merge(&mut self, other: Seen) {
        self.client |= other.client;
        self.server |= other.server;
        self.by = self.by.min(other.by);
    }
}

/// Client, server, port of the server.
pub(crate) type EdgeKey = (ServiceIx, ServiceIx, u16);

/// An edge that was published.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Edge {
    pub(crate) key: EdgeKey,
    pub(crate) id: Id,
    /// Between whom it was at first. What is between others is kept apart.
    pub(crate) ends: Ends,
    series: SeriesIx,
    /// What it gained in the running step.
    pub(crate) running: EdgeTotals,
    pub(crate) seen: Seen,
    pub(crate) open: u64,
    /// It is on the list of edges with something in the running step.
    listed: bool,
    /// Rows of links that refer to it.
    rows: u32,
    /// When it last gained, or last had an open connection.
    pub(crate) last_active: Timestamp,
    /// Who saw it, of halves that are forgotten.
    pub(crate) witnesses: Vec<Witness>,
}

impl Edge {
    /// Whether it has something in the running step.
    pub(crate) const fn is_running(&self) -> bool {
        self.listed
    }
}

/// Every published edge that a link or a step refers to.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Edges {
    edges: Arena<Edge>,
    #[serde(skip)]
    by_key: HashMap<EdgeKey, EdgeIx>,
    /// Edges with something in the running step.
    running: Vec<EdgeIx>,
    pub(crate) series: SeriesTable,
    /// Links whose edges were folded.
    pub(crate) folded: u64,
    #[serde(skip)]
    pub(crate) externals: Externals,
    pub(crate) parts: Parts,
    /// Edges whose ends are not told apart any more for lack of room, since the start.
    #[serde(skip)]
    pub(crate) unplaced: u64,
    #[serde(skip)]
    most: usize,
}

impl Edges {
    pub(crate) fn new(most: usize) -> Self {
        Edges { series: SeriesTable::new(most), most, ..Edges::default() }
    }

    /// What has to be stored; the rest follows from it.
    pub(crate) fn stored(&self) -> Self {
        Edges {
            edges: self.edges.clone(),
            by_key: HashMap::new(),
            running: self.running.clone(),
            series: self.series.stored(),
            folded: self.folded,
            externals: Externals::default(),
            parts: self.parts.stored(),
            unplaced: 0,
            most: self.most,
        }
    }

    /// Every edge as it is now; the memory is shared.
    pub(crate) fn freeze(&self) -> Arena<Edge> {
        self.edges.clone()
    }

    /// Finishes what was read back.
    pub(crate) fn resume(&mut self, most: usize, services: &Services) {
        self.most = most;
        for (_, edge) in self.edges.iter() {
            let (client, server, _) = edge.key;
            if let (Some(a), Some(b)) = (services.get(client), services.get(server)) {
                self.externals.add((client, server), a, b);
            }
        }
        self.by_key = self.edges.iter().map(|(ix, edge)| (edge.key, ix)).collect();
        self.series.resume(most);
        self.parts.resume();
    }

    pub(crate) fn get(&self, ix: EdgeIx) -> Option<&Edge> {
        self.edges.get(ix)
    }

    #[cfg(test)]
    pub(crate) fn at(&self, index: usize) -> Option<&Edge> {
        self.edges.at(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.edges.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (EdgeIx, &Edge)> {
        self.edges.iter()
    }

    /// Another row of a link, on behalf of a node; `None` when there is no room for its edge. For edges of `other` there
    /// always is.
    pub(crate) fn refer(
        &mut self,
        (key, ends): (EdgeKey, Ends),
        services: &Services,
        node: NodeIx,
        now: Timestamp,
    ) -> Option<Row> {
        let ix = match self.by_key.get(&key) {
            Some(ix) => *ix,
            None => {
                let (client, server) = (services.get(key.0)?, services.get(key.1)?);
                let folded =
                    [client, server].map(|end| key.2 == 0 && end.kind == WorkloadKind::Other);
                let room = match folded {
                    [true, true] => true,
                    [false, false] => {
                        self.edges.len() < self.most && self.series.shares.has_room(node)
                    }
                    // A few for each service of the node, of which there are not too many.
                    _ => self.edges.len() < self.most + self.most / 4,
                };
                // Edges that differ in kinds only share a series.
                let shares =
                    || self.edges.len() < 2 * self.most && self.series.has(client, server, key.2);
                if !room && !shares() {
                    return None;
                }
                let ix = self.edges.insert(Edge {
                    key,
                    id: Id::of_edge(client.id, server.id, key.2, PROTOCOL),
                    ends,
                    series: self.series.refer(client, server, key.2, node, now),
                    running: EdgeTotals::default(),
                    seen: Seen::default(),
                    open: 0,
                    listed: false,
                    rows: 0,
                    last_active: now,
                    witnesses: Vec::new(),
                });
                self.by_key.insert(key, ix);
                self.externals.add((key.0, key.1), client, server);
                ix
            }
        };
        let edge = self.edges.get_mut(ix)?;
        edge.rows += 1;
        let own = (!self.series.lend(edge.series)).then(Box::default);
        Some(Row { edge: ix, own, open: 0, part: None })
    }

    /// What a row of a link has published.
    #[inline]
    pub(crate) fn published<'a>(&'a self, row: &'a Row) -> &'a EdgeTotals {
        match &row.own {
            Some(own) => own,
            None => {
                let edge = self.edges.get(row.edge);
                edge.and_then(|edge| self.series.lent(edge.series)).unwrap_or(&NOTHING)
            }
        }
    }

    /// The same, which may become something else than what is gained from now on makes of it.
    pub(crate) fn published_mut<'a>(&mut self, row: &'a mut Row) -> &'a mut EdgeTotals {
        let edge = self.edges.get(row.edge);
        row.own.get_or_insert_with(|| {
            edge.and_then(|edge| self.series.take_back(edge.series)).unwrap_or_default()
        })
    }

    /// A row publishes what it is about to [gain](Self::gain).
    #[inline]
    pub(crate) fn publish(&mut self, row: &mut Row, gain: &EdgeTotals) {
        let edge = self.edges.get(row.edge);
        let has_all = edge.is_some_and(|edge| self.series.is_lent(edge.series));
        if row.own.is_some() || !has_all {
            self.published_mut(row).merge(gain);
        }
    }

    /// A row takes over what another one has published, which is gone then.
    pub(crate) fn take_over(&mut self, row: &mut Row, mut other: Row) {
        let published = std::mem::take(self.published_mut(&mut other));
        self.published_mut(row).merge(&published);
        self.release(&other);
    }

    /// Services have other names: so have their edges. What was published goes on under the labels that it had.
    pub(crate) fn rename(&mut self, renamed: &HashSet<ServiceIx>, services: &Services) {
        if renamed.is_empty() {
            return;
        }
        let edges = self
            .edges
            .iter()
            .filter(|(_, edge)| renamed.contains(&edge.key.0) || renamed.contains(&edge.key.1));
        let edges: Vec<_> = edges.map(|(ix, _)| ix).collect();
        for ix in edges {
            if let Some(edge) = self.edges.get_mut(ix)
                && let (Some(client), Some(server)) =
                    (services.get(edge.key.0), services.get(edge.key.1))
            {
                edge.id = Id::of_edge(client.id, server.id, edge.key.2, PROTOCOL);
            }
        }
    }

    /// A half is about to be forgotten that was on a side of an edge, if it was of the service there.
    pub(crate) fn remember(&mut self, ix: EdgeIx, half: &Half) {
        let Some(edge) = self.edges.get(ix) else { return };
        let end = match half.role() {
            Role::Client => edge.key.0,
            Role::Server => edge.key.1,
        };
        if half.service == end
            && let Some(edge) = self.edges.get_mut(ix)
        {
            witness::add_bounded(&mut edge.witnesses, Witness::of(half));
        }
    }

    /// The place of an edge.
    pub(crate) fn place_of(&self, key: EdgeKey) -> Option<usize> {
        self.by_key.get(&key).map(|ix| ix.index())
    }

    /// Between whom an edge was at first.
    pub(crate) fn ends_of(&self, key: EdgeKey) -> Option<Ends> {
        self.by_key.get(&key).and_then(|ix| self.edges.get(*ix)).map(|edge| edge.ends)
    }

    /// Every workload that is an end.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = WorkloadIx> {
        let ends = self.edges.iter().flat_map(|(_, edge)| [edge.ends.0, edge.ends.1]);
        ends.filter_map(|end| end.workload).chain(self.parts.workloads())
    }

    /// From now on a row of a link counts for what is between these ends. Where there is no room to keep that apart,
    /// nothing is said of the edge's ends any more.
    pub(crate) fn place(&mut self, row: &mut Row, ends: Ends, now: Timestamp) {
        let Some(edge) = self.edges.get_mut(row.edge) else { return };
        let is_there = match row.part {
            None => edge.ends == ends,
            Some(part) => self.parts.is(part, ends),
        };
        if is_there {
            return;
        }
        if let Some(part) = row.part.take() {
            self.parts.release(part, row.open);
        }
        if edge.ends == ends {
            return;
        }
        row.part = self.parts.refer(row.edge, ends, self.most / 4, now);
        match row.part {
            Some(part) => self.parts.set_open(part, 0, row.open),
            None if edge.ends == Ends::default() => {}
            None => {
                edge.ends = Ends::default();
                self.unplaced += 1;
            }
        }
    }

    /// A row of a link is gone, with the connections that it last had open.
    pub(crate) fn release(&mut self, row: &Row) {
        self.set_open(row, row.open, 0);
        if let Some(part) = row.part {
            self.parts.release(part, 0);
        }
        if let Some(edge) = self.edges.get_mut(row.edge) {
            edge.rows = edge.rows.saturating_sub(1);
            if row.own.is_none() {
                self.series.forget_lent(edge.series);
            }
        }
    }

    /// What a row of a link gains.
    #[inline]
    pub(crate) fn gain(&mut self, row: &Row, gain: &EdgeTotals, seen: Seen, now: Timestamp) {
        if let Some(part) = row.part {
            self.parts.gain(part, gain, now);
        }
        if let Some(edge) = self.list(row.edge) {
            edge.running.merge(gain);
            edge.seen.merge(seen);
            edge.last_active = now;
            let series = edge.series;
            self.series.gain(series, gain, now);
        }
    }

    /// Counts a gain of a step that is over.
    pub(crate) fn gain_before(&mut self, row: &Row, gain: &EdgeTotals, now: Timestamp) {
        if let Some(part) = row.part {
            self.parts.gained_before(part, now);
        }
        if let Some(edge) = self.edges.get_mut(row.edge) {
            edge.last_active = now;
            let series = edge.series;
            self.series.gain(series, gain, now);
        }
    }

    /// So many connections of a row of a link were open, and so many are.
    pub(crate) fn set_open(&mut self, row: &Row, was: u64, is: u64) {
        if was == is {
            return;
        }
        if let Some(part) = row.part {
            self.parts.set_open(part, was, is);
        }
        if let Some(edge) = self.list(row.edge) {
            edge.open = edge.open.saturating_sub(was).saturating_add(is);
            let series = edge.series;
            self.series.set_open(series, was, is);
        }
    }

    fn list(&mut self, ix: EdgeIx) -> Option<&mut Edge> {
        let edge = self.edges.get_mut(ix)?;
        if !edge.listed {
            edge.listed = true;
            self.running.push(ix);
        }
        Some(edge)
    }

    /// How many edges have something in the running step.
    pub(crate) const fn running_len(&self) -> usize {
        self.running.len()
    }

    /// Ends the running step: `put` gets every edge with gains or open connections, by index.
    pub(crate) fn end_step(&mut self, now: Timestamp, mut put: impl FnMut(usize, &Edge)) {
        self.running.sort_unstable();
        let mut still_open = Vec::new();
        for ix in std::mem::take(&mut self.running) {
            let Some(edge) = self.edges.get_mut(ix) else { continue };
            put(ix.index(), edge);
            edge.running.clear();
            edge.listed = edge.open > 0;
            if edge.listed {
                // Who saw the connection open still sees it.
                edge.last_active = now;
                still_open.push(ix);
            } else {
                edge.seen = Seen::default();
            }
        }
        self.running = still_open;
    }

    /// Edges with something in the running step.
    #[cfg(test)]
    pub(crate) fn running(&self) -> impl Iterator<Item = (usize, &Edge)> {
        self.running.iter().filter_map(|ix| Some((ix.index(), self.edges.get(*ix)?)))
    }

    /// Forgets edges that no link refers to and that were not active since.
    pub(crate) fn forget_idle_since(&mut self, moment: Timestamp) {
        self.parts.forget_idle_since(moment);
        let idle = |edge: &Edge| edge.rows == 0 && !edge.listed && edge.last_active < moment;
        let gone: Vec<_> =
            self.edges.iter().filter(|(_, edge)| idle(edge)).map(|(ix, _)| ix).collect();
        for ix in gone {
            if let Some(edge) = self.edges.remove(ix) {
                self.by_key.remove(&edge.key);
                self.externals.remove((edge.key.0, edge.key.1));
                self.series.release(edge.series);
            }
        }
    }
}
