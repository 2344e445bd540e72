//! `traces_service_graph_…`: the names under which tracing systems publish service graphs, so that
//! Grafana's service map works on them. A *request* is a connection attempt, as long as
//! only TCP is known.

use std::collections::BTreeMap;

use common::HistogramKind;
use topology::{Series, model::WorkloadKind};

use super::{
    buckets::{CONNECT, Classic, LIFETIME},
    family::{Family, count, histogram, labels},
};

/// What two services have to do with each other, whatever the port.
pub(super) struct PairRow {
    labels: String,
    requests: u64,
    failed: u64,
    server: Classic,
    client: Classic,
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
            labels: labels(&[
                ("client", client),
                ("client_service_namespace", namespaces.0),
                ("server", server),
                ("server_service_namespace", namespaces.1),
                ("connection_type", if virtual_node.is_empty() { "" } else { "virtual_node" }),
                ("virtual_node", virtual_node),
            ]),
            requests: 0,
            failed: 0,
            server: Classic::default(),
            client: Classic::default(),
        });
        let totals = series.totals();
        let failed = totals.failures();
        let connections = totals.get(topology::Measure::Connections);
        row.requests = row.requests.saturating_add(connections).saturating_add(failed);
        row.failed = row.failed.saturating_add(failed);
        row.server.merge(&Classic::of(totals.histogram(HistogramKind::Lifetime), &LIFETIME));
        row.client.merge(&Classic::of(totals.histogram(HistogramKind::Connect), &CONNECT));
    }

    pub(super) fn into_rows(self) -> Vec<PairRow> {
        self.0.into_values().collect()
    }
}

/// Every family of pairs.
pub(super) const FAMILIES: &[Family<PairRow>] = &[
    Family {
        name: "traces_service_graph_request_total",
        kind: "counter",
        help: "Connection attempts between two services.",
        write: |name, row, out| count(out, name, &row.labels, "", row.requests),
    },
    Family {
        name: "traces_service_graph_request_failed_total",
        kind: "counter",
        help: "Connection attempts between two services that failed.",
        write: |name, row, out| count(out, name, &row.labels, "", row.failed),
    },
    Family {
        name: "traces_service_graph_request_server_seconds",
        kind: "histogram",
        help: "Lifetimes of connections between two services.",
        write: |name, row, out| histogram(out, name, &row.labels, &row.server, &LIFETIME),
    },
    Family {
        name: "traces_service_graph_request_client_seconds",
        kind: "histogram",
        help: "Times to establish connections between two services.",
        write: |name, row, out| histogram(out, name, &row.labels, &row.client, &CONNECT),
    },
];
