//! `weft_edge_…`.

use common::HistogramKind;
use topology::{Measure, Series};

use super::{
    buckets::{CONNECT, Classic, LIFETIME, RTT},
    family::{Family, count, histogram, labels},
};

/// What one edge has counted.
pub(super) struct EdgeRow {
    labels: String,
    values: [u64; topology::MEASURES],
    open: u64,
    rtt: Classic,
    connect: Classic,
    lifetime: Classic,
}

impl EdgeRow {
    pub(super) fn of(series: &Series) -> Self {
        let port = series.server_port().to_string();
        let totals = series.totals();
        let classic = |kind, exponents| Classic::of(totals.histogram(kind), exponents);
        Self {
            labels: labels(&[
                ("client", series.client()),
                ("client_namespace", series.client_namespace()),
                ("server", series.server()),
                ("server_namespace", series.server_namespace()),
                ("server_port", &port),
            ]),
            values: Measure::ALL.map(|measure| totals.get(measure)),
            open: series.connections_open(),
            rtt: classic(HistogramKind::Rtt, &RTT),
            connect: classic(HistogramKind::Connect, &CONNECT),
            lifetime: classic(HistogramKind::Lifetime, &LIFETIME),
        }
    }

    fn get(&self, measure: Measure) -> u64 {
        self.values[measure.index()]
    }

    fn write(&self, out: &mut String, name: &str, more: &str, measure: Measure) {
        count(out, name, &self.labels, more, self.get(measure));
    }
}

/// Every family of edges.
pub(super) const FAMILIES: &[Family<EdgeRow>] = &[
    Family {
        name: "weft_edge_bytes_total",
        kind: "counter",
        help: "Payload bytes that the receiver's kernel accepted.",
        write: |name, row, out| {
            row.write(out, name, r#"direction="to_server""#, Measure::BytesToServer);
            row.write(out, name, r#"direction="to_client""#, Measure::BytesToClient);
        },
    },
    Family {
        name: "weft_edge_connections_total",
        kind: "counter",
        help: "Connections established.",
        write: |name, row, out| row.write(out, name, "", Measure::Connections),
    },
    Family {
        name: "weft_edge_connect_failures_total",
        kind: "counter",
        help: "Connection attempts that failed.",
        write: |name, row, out| {
            row.write(out, name, r#"reason="refused""#, Measure::FailedRefused);
            row.write(out, name, r#"reason="timeout""#, Measure::FailedTimeout);
            row.write(out, name, r#"reason="unreachable""#, Measure::FailedUnreachable);
            row.write(out, name, r#"reason="aborted""#, Measure::FailedAborted);
            row.write(out, name, r#"reason="local""#, Measure::FailedLocal);
        },
    },
    Family {
        name: "weft_edge_resets_total",
        kind: "counter",
        help: "Established connections ended by a reset.",
        write: |name, row, out| {
            row.write(out, name, r#"by="client""#, Measure::ResetsByClient);
            row.write(out, name, r#"by="server""#, Measure::ResetsByServer);
        },
    },
    Family {
        name: "weft_edge_connections_open",
        kind: "gauge",
        help: "Connections open now.",
        write: |name, row, out| count(out, name, &row.labels, "", row.open),
    },
    Family {
        name: "weft_edge_segments_total",
        kind: "counter",
        help: "TCP segments in both directions.",
        write: |name, row, out| {
            let to_server = row.get(Measure::SegmentsToServer);
            let segments = to_server.saturating_add(row.get(Measure::SegmentsToClient));
            count(out, name, &row.labels, "", segments);
        },
    },
    Family {
        name: "weft_edge_retransmits_total",
        kind: "counter",
        help: "TCP segments sent again.",
        write: |name, row, out| row.write(out, name, "", Measure::Retransmits),
    },
    Family {
        name: "weft_edge_rtt_seconds",
        kind: "histogram",
        help: "Round-trip times as the kernel samples them; the sum is good to 4.5 %.",
        write: |name, row, out| histogram(out, name, &row.labels, &row.rtt, &RTT),
    },
    Family {
        name: "weft_edge_connect_seconds",
        kind: "histogram",
        help: "From SYN to an established connection; the sum is good to 4.5 %.",
        write: |name, row, out| histogram(out, name, &row.labels, &row.connect, &CONNECT),
    },
    Family {
        name: "weft_edge_lifetime_seconds",
        kind: "histogram",
        help: "From established to closed; the sum is good to 4.5 %.",
        write: |name, row, out| histogram(out, name, &row.labels, &row.lifetime, &LIFETIME),
    },
];
