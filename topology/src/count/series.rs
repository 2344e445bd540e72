//! Published series: what `/metrics` shows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    base::{
        arena::{Arena, Key},
        index::Index,
        shares::Shares,
        time::Timestamp,
        totals::EdgeTotals,
    },
    model::WorkloadKind,
    nodes::NodeIx,
    who::services::Service,
};

pub(crate) type SeriesIx = Key<Series>;

/// What one set of labels has counted since the graph was made. Edges whose labels are equal
/// (a container and a process of one name) share a series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    key: SeriesKey,
    client_kind: WorkloadKind,
    server_kind: WorkloadKind,
    pub(crate) totals: EdgeTotals,
    pub(crate) open: u64,
    pub(crate) last_gain: Timestamp,
    pub(crate) shown: bool,
    /// The node for which there had to be another.
    node: NodeIx,
    /// Edges that count for it.
    edges: u32,
    lent: Lent,
}

/// Who has published what a series has. Nearly all have one row of one link, which need not keep the same once more.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Lent {
    /// No row has counted for it yet.
    ToNobody,
    /// The only row that ever has: what it has published is all there is.
    ToTheOnly,
    /// The first row, which was not the only one any more when it had published this, and will keep it itself.
    ToTheFirst(Box<EdgeTotals>),
    /// Every row keeps its own.
    NoMore,
}

type SeriesKey = (Arc<str>, Arc<str>, Arc<str>, Arc<str>, u16);

fn key(client: &Service, server: &Service, server_port: u16) -> SeriesKey {
    (
        client.name.clone(),
        client.namespace.clone(),
        server.name.clone(),
        server.namespace.clone(),
        server_port,
    )
}

impl Series {
    /// Name of the client.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.key.0
    }

    /// Namespace of the client.
    #[must_use]
    pub fn client_namespace(&self) -> &str {
        &self.key.1
    }

    /// Name of the server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.key.2
    }

    /// Namespace of the server.
    #[must_use]
    pub fn server_namespace(&self) -> &str {
        &self.key.3
    }

    /// The port the server listens on.
    #[must_use]
    pub const fn server_port(&self) -> u16 {
        self.key.4
    }

    /// Kind of the client when the series was first published.
    #[must_use]
    pub const fn client_kind(&self) -> WorkloadKind {
        self.client_kind
    }

    /// Kind of the server when the series was first published.
    #[must_use]
    pub const fn server_kind(&self) -> WorkloadKind {
        self.server_kind
    }

    /// All that was counted; never falls.
    #[must_use]
    pub const fn totals(&self) -> &EdgeTotals {
        &self.totals
    }

    /// Connections open now.
    #[must_use]
    pub const fn connections_open(&self) -> u64 {
        self.open
    }
}

/// Every series there was, as far as there is room. One that expires is no longer shown, but when it comes
/// back it goes on where it was; only when others need the room, those are forgotten that were
/// not shown for the longest.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct SeriesTable {
    series: Arena<Series>,
    #[serde(skip)]
    by_key: Index<Series>,
    /// Series that were forgotten.
    pub(crate) forgotten: u64,
    /// Whose they are.
    #[serde(skip)]
    pub(crate) shares: Shares,
}

impl SeriesTable {
    pub(crate) fn new(most: usize) -> Self {
        SeriesTable { shares: Shares::new(most), ..SeriesTable::default() }
    }

    /// What has to be stored; the rest follows from it.
    pub(crate) fn stored(&self) -> Self {
        SeriesTable {
            series: self.series.clone(),
            forgotten: self.forgotten,
            ..SeriesTable::default()
        }
    }

    /// Finishes what was read back.
    pub(crate) fn resume(&mut self, most: usize) {
        self.shares = Shares::new(most);
        for (_, series) in self.series.iter() {
            self.shares.take(series.node, 1);
        }
        self.by_key = Index::default();
        for (ix, series) in self.series.iter() {
            self.by_key.insert(&series.key, ix);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is a series for these ends.
    pub(crate) fn has(&self, client: &Service, server: &Service, server_port: u16) -> bool {
        self.find(&key(client, server, server_port)).is_some()
    }

    fn find(&self, key: &SeriesKey) -> Option<SeriesIx> {
        self.by_key.find(key, |ix| self.series.get(ix).is_some_and(|series| series.key == *key))
    }

    /// The series of another edge, on behalf of a node.
    pub(crate) fn refer(
        &mut self,
        client: &Service,
        server: &Service,
        server_port: u16,
        node: NodeIx,
        now: Timestamp,
    ) -> SeriesIx {
        let key = key(client, server, server_port);
        let ix = self.find(&key).unwrap_or_else(|| {
            self.shares.take(node, 1);
            let ix = self.series.insert(Series {
                key: key.clone(),
                client_kind: client.kind,
                server_kind: server.kind,
                totals: EdgeTotals::default(),
                open: 0,
                last_gain: now,
                // Until it has counted something.
                shown: false,
                node,
                edges: 0,
                lent: Lent::ToNobody,
            });
            self.by_key.insert(&key, ix);
            ix
        });
        if let Some(series) = self.series.get_mut(ix) {
            series.edges += 1;
        }
        ix
    }

    /// An edge is gone.
    pub(crate) fn release(&mut self, ix: SeriesIx) {
        if let Some(series) = self.series.get_mut(ix) {
            series.edges = series.edges.saturating_sub(1);
        }
    }

    /// Another row counts for it; returns whether that need not keep what it has published.
    pub(super) fn lend(&mut self, ix: SeriesIx) -> bool {
        let Some(Series { lent, totals, .. }) = self.series.get_mut(ix) else { return false };
        match lent {
            Lent::ToNobody => {
                *lent = Lent::ToTheOnly;
                true
            }
            Lent::ToTheOnly => {
                *lent = Lent::ToTheFirst(Box::new(totals.clone()));
                false
            }
            Lent::ToTheFirst(_) | Lent::NoMore => false,
        }
    }

    /// What the row has published that does not keep it.
    pub(super) fn lent(&self, ix: SeriesIx) -> Option<&EdgeTotals> {
        let series = self.series.get(ix)?;
        match &series.lent {
            Lent::ToTheOnly => Some(&series.totals),
            Lent::ToTheFirst(published) => Some(published),
            Lent::ToNobody | Lent::NoMore => None,
        }
    }

    /// The same; from now on it keeps that, or is gone.
    pub(super) fn take_back(&mut self, ix: SeriesIx) -> Option<Box<EdgeTotals>> {
        let Series { lent, totals, .. } = self.series.get_mut(ix)?;
        match std::mem::replace(lent, Lent::NoMore) {
            Lent::ToTheOnly => Some(Box::new(totals.clone())),
            Lent::ToTheFirst(published) => Some(published),
            Lent::ToNobody | Lent::NoMore => None,
        }
    }

    /// Whether the row that does not keep what it has published is the only one.
    pub(super) fn is_lent(&self, ix: SeriesIx) -> bool {
        self.series.get(ix).is_some_and(|series| matches!(series.lent, Lent::ToTheOnly))
    }

    /// The row that does not keep what it has published is gone.
    pub(super) fn forget_lent(&mut self, ix: SeriesIx) {
        if let Some(series) = self.series.get_mut(ix) {
            series.lent = Lent::NoMore;
        }
    }

    pub(crate) fn gain(&mut self, ix: SeriesIx, gain: &EdgeTotals, now: Timestamp) {
        if let Some(series) = self.series.get_mut(ix) {
            series.totals.merge(gain);
            series.last_gain = now;
            series.shown = true;
        }
    }

    pub(crate) fn set_open(&mut self, ix: SeriesIx, was: u64, is: u64) {
        if let Some(series) = self.series.get_mut(ix) {
            series.open = series.open.saturating_sub(was).saturating_add(is);
            // One that never was more than a connection that was open, and is another's, is nothing.
            series.shown = series.open > 0 || (series.shown && !series.totals.is_zero());
        }
    }

    pub(crate) fn hide_idle_since(&mut self, moment: Timestamp) {
        let keys: Vec<_> = self.series.iter().map(|(ix, _)| ix).collect();
        for ix in keys {
            if let Some(series) = self.series.get_mut(ix)
                && series.open == 0
                && series.last_gain < moment
            {
                series.shown = false;
                for kind in common::HistogramKind::ALL {
                    series.totals.histogram_mut(kind).shrink();
                }
            }
        }
    }

    /// When three quarters of the room are taken: forgets series that are not shown, until half of it is free again
    /// or all that are left are in use; those first that have not gained for the longest.
    pub(crate) fn make_room(&mut self) {
        if !self.shares.is_taken(3) {
            return;
        }
        let idle = |series: &Series| !series.shown && series.edges == 0;
        let mut idle: Vec<_> = self
            .series
            .iter()
            .filter(|(_, series)| idle(series))
            .map(|(ix, series)| (series.last_gain, ix))
            .collect();
        idle.sort_unstable();
        for (_, ix) in idle {
            if !self.shares.is_taken(2) {
                return;
            }
            if let Some(series) = self.series.remove(ix) {
                self.by_key.remove(&series.key, ix);
                self.shares.give(series.node, 1);
                self.forgotten += 1;
            }
        }
    }

    /// Every series as it is now; the memory is shared.
    pub(crate) fn freeze(&self) -> Arena<Series> {
        self.series.clone()
    }

    pub(crate) fn shown(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().map(|(_, series)| series).filter(|series| series.shown)
    }
}
