//! Published series: what `/metrics` shows.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    base::{
        arena::{Arena, Key},
        time::Timestamp,
        totals::EdgeTotals,
    },
    model::WorkloadKind,
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
}

type SeriesKey = (Arc<str>, Arc<str>, Arc<str>, Arc<str>, u16);

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

/// Every series there was. One that expires is no longer shown, but when it comes
/// back it goes on where it was.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct SeriesTable {
    series: Arena<Series>,
    #[serde(skip)]
    by_key: HashMap<SeriesKey, SeriesIx>,
}

impl SeriesTable {
    /// What has to be stored; the rest follows from it.
    pub(crate) fn stored(&self) -> Self {
        SeriesTable { series: self.series.clone(), by_key: HashMap::new() }
    }

    /// Finishes what was read back.
    pub(crate) fn resume(&mut self) {
        let series = self.series.iter();
        self.by_key = series.map(|(ix, series)| (series.key.clone(), ix)).collect();
    }

    pub(crate) fn find(
        &mut self,
        client: &Service,
        server: &Service,
        server_port: u16,
        now: Timestamp,
    ) -> SeriesIx {
        let key = (
            client.name.clone(),
            client.namespace.clone(),
            server.name.clone(),
            server.namespace.clone(),
            server_port,
        );
        let series = &mut self.series;
        *self.by_key.entry(key).or_insert_with_key(|key| {
            series.insert(Series {
                key: key.clone(),
                client_kind: client.kind,
                server_kind: server.kind,
                totals: EdgeTotals::default(),
                open: 0,
                last_gain: now,
                shown: true,
            })
        })
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
            series.shown |= is > 0;
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

    /// Every series as it is now; the memory is shared.
    pub(crate) fn freeze(&self) -> Arena<Series> {
        self.series.clone()
    }

    pub(crate) fn shown(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().map(|(_, series)| series).filter(|series| series.shown)
    }
}
