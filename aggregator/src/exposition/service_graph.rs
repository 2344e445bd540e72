//! `traces_service_graph_…`: the names under which tracing systems publish service graphs, so that
//! Grafana's service map works on them. A *request* is a connection attempt, as long as
//! only TCP is known. Its queries are for `…_sum` and `…_bucket`, which native histograms lack, so these are classic
//! for whoever asks.

use std::collections::BTreeMap;

use common::HistogramKind;
use topology::{Histogram, Measure, Series, model::WorkloadKind};

use super::{
    buckets::{CONNECT, LIFETIME},
    rows::{Family, Part, Row, Values},
};

/// What two services have to do with each other, whatever the port.
pub(super) struct PairRow {
    /// Name and namespace.
    client: [String; 2],
    server: [String; 2],
    /// Which of them is covered by no agent, if any.
    virtual_node: &'static str,
    requests: u64,
    failed: u64,
    lifetime: Histogram,
    connect: Histogram,
}

impl Row for PairRow {
    fn labels(&self, mut each: impl FnMut(&str, &str)) {
        let [client, client_namespace] = &self.client;
        let [server, server_namespace] = &self.server;
        each("client", client);
        each("client_service_namespace", client_namespace);
        each("server", server);
        each("server_service_namespace", server_namespace);
        each("connection_type", if self.virtual_node.is_empty() { "" } else { "virtual_node" });
        each("virtual_node", self.virtual_node);
    }
}

type Pair<'a> = (&'a str, &'a str, &'a str, &'a str, &'static str);

/// Adds up the series of each pair of services.
#[derive(Default)]
pub(super) struct Pairs<'a>(BTreeMap<Pair<'a>, PairRow>);

impl<'a> Pairs<'a> {
    pub(super) fn add(&mut self, series: &'a Series) {
        let is_virtual = |kind| matches!(kind, WorkloadKind::External | WorkloadKind::Other);
        let virtual_node =
            match (is_virtual(series.client_kind()), is_virtual(series.server_kind())) {
                (true, _) => "client",
                (false, true) => "server",
                (false, false) => "",
            };
        let (client, server) = (series.client(), series.server());
        let namespaces = (series.client_namespace(), series.server_namespace());
        let pair = (client, namespaces.0, server, namespaces.1, virtual_node);
        let row = self.0.entry(pair).or_insert_with(|| PairRow {
            client: [client.to_owned(), namespaces.0.to_owned()],
            server: [server.to_owned(), namespaces.1.to_owned()],
            virtual_node,
            requests: 0,
            failed: 0,
            lifetime: Histogram::default(),
            connect: Histogram::default(),
        });
        let totals = series.totals();
        let failed = totals.failures();
        let connections = totals.get(Measure::Connections);
        row.requests = row.requests.saturating_add(connections).saturating_add(failed);
        row.failed = row.failed.saturating_add(failed);
        row.lifetime.merge(totals.histogram(HistogramKind::Lifetime));
        row.connect.merge(totals.histogram(HistogramKind::Connect));
    }

    pub(super) fn into_rows(self) -> Vec<PairRow> {
        self.0.into_values().collect()
    }
}

/// Every family of pairs.
pub(super) const FAMILIES: &[Family<PairRow>] = &[
    Family {
        name: "traces_service_graph_request_total",
        help: "Connection attempts between two services.",
        values: Values::Counters(&[Part { label: None, value: |row| row.requests }]),
    },
    Family {
        name: "traces_service_graph_request_failed_total",
        help: "Connection attempts between two services that failed.",
        values: Values::Counters(&[Part { label: None, value: |row| row.failed }]),
    },
    Family {
        name: "traces_service_graph_request_server_seconds",
        help: "Lifetimes of connections between two services.",
        values: Values::Classic(|row| &row.lifetime, &LIFETIME),
    },
    Family {
        name: "traces_service_graph_request_client_seconds",
        help: "Times to establish connections between two services.",
        values: Values::Classic(|row| &row.connect, &CONNECT),
    },
];
