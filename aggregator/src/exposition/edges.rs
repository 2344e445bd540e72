//! `weft_edge_…`.

use common::HistogramKind;
use topology::{Measure, Series};

use super::{
    buckets::{CONNECT, LIFETIME, RTT},
    rows::{Family, Part, Row, Values},
};

impl Row for Series {
    fn labels(&self, mut each: impl FnMut(&str, &str)) {
        each("client", self.client());
        each("client_namespace", self.client_namespace());
        each("server", self.server());
        each("server_namespace", self.server_namespace());
        each("server_port", itoa::Buffer::new().format(self.server_port()));
    }
}

fn get(series: &Series, measure: Measure) -> u64 {
    series.totals().get(measure)
}

/// Every family of edges.
pub(super) const FAMILIES: &[Family<Series>] = &[
    Family {
        name: "weft_edge_bytes_total",
        help: "Payload bytes that the receiver's kernel accepted.",
        values: Values::Counters(&[
            Part {
                label: Some(("direction", "to_server")),
                value: |series| get(series, Measure::BytesToServer),
            },
            Part {
                label: Some(("direction", "to_client")),
                value: |series| get(series, Measure::BytesToClient),
            },
        ]),
    },
    Family {
        name: "weft_edge_connections_total",
        help: "Connections established.",
        values: Values::Counters(&[Part {
            label: None,
            value: |series| get(series, Measure::Connections),
        }]),
    },
    Family {
        name: "weft_edge_connect_failures_total",
        help: "Connection attempts that failed.",
        values: Values::Counters(&[
            Part {
                label: Some(("reason", "refused")),
                value: |series| get(series, Measure::FailedRefused),
            },
            Part {
                label: Some(("reason", "timeout")),
                value: |series| get(series, Measure::FailedTimeout),
            },
            Part {
                label: Some(("reason", "unreachable")),
                value: |series| get(series, Measure::FailedUnreachable),
            },
            Part {
                label: Some(("reason", "aborted")),
                value: |series| get(series, Measure::FailedAborted),
            },
            Part {
                label: Some(("reason", "local")),
                value: |series| get(series, Measure::FailedLocal),
            },
        ]),
    },
    Family {
        name: "weft_edge_resets_total",
        help: "Established connections ended by a reset.",
        values: Values::Counters(&[
            Part {
                label: Some(("by", "client")),
                value: |series| get(series, Measure::ResetsByClient),
            },
            Part {
                label: Some(("by", "server")),
                value: |series| get(series, Measure::ResetsByServer),
            },
        ]),
    },
    Family {
        name: "weft_edge_connections_open",
        help: "Connections open now.",
        values: Values::Gauge(Series::connections_open),
    },
    Family {
        name: "weft_edge_segments_total",
        help: "TCP segments in both directions.",
        values: Values::Counters(&[Part {
            label: None,
            value: |series| series.totals().segments(),
        }]),
    },
    Family {
        name: "weft_edge_retransmits_total",
        help: "TCP segments sent again.",
        values: Values::Counters(&[Part {
            label: None,
            value: |series| get(series, Measure::Retransmits),
        }]),
    },
    Family {
        name: "weft_edge_rtt_seconds",
        help: "Round-trip times as the kernel samples them; the sum is good to 4.5 %.",
        values: Values::Histogram(|series| series.totals().histogram(HistogramKind::Rtt), &RTT),
    },
    Family {
        name: "weft_edge_connect_seconds",
        help: "From SYN to an established connection; the sum is good to 4.5 %.",
        values: Values::Histogram(
            |series| series.totals().histogram(HistogramKind::Connect),
            &CONNECT,
        ),
    },
    Family {
        name: "weft_edge_lifetime_seconds",
        help: "From established to closed; the sum is good to 4.5 %.",
        values: Values::Histogram(
            |series| series.totals().histogram(HistogramKind::Lifetime),
            &LIFETIME,
        ),
    },
];
