//! The protobuf format of `io.prometheus.client`, with native histograms (`sparse`).
//!
//! A family is one message with its length before it. What all rows will take is therefore added up before the
//! first of them is written, so that no family is ever in memory as a whole.

use super::{
    buckets::{Classic, Exponents},
    rows::{Family, Row, Rows, Values},
    sparse::Sparse,
    wire::{Wire, field_bytes, pair_bytes},
};

/// What a scraper asks for that can read this.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.google.protobuf; \
                              proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Kinds of families.
pub(super) mod kind {
    pub(crate) const COUNTER: u64 = 0;
    pub(crate) const GAUGE: u64 = 1;
    pub(crate) const HISTOGRAM: u64 = 4;
}

/// Field of a family that a metric is, and fields of a metric that values are.
const METRIC: u8 = 4;
const GAUGE: u8 = 2;
const COUNTER: u8 = 3;
const HISTOGRAM: u8 = 7;

/// Memory that is used again from row to row.
#[derive(Default)]
pub(super) struct Scratch {
    labels: Wire,
    value: Wire,
    bucket: Wire,
    sparse: Sparse,
}

/// Appends a family's name, help and kind, as it begins.
pub(super) fn begin(name: &str, help: &str, kind: u64, out: &mut Wire) {
    out.bytes(1, name.as_bytes());
    out.bytes(2, help.as_bytes());
    out.number(3, kind);
}

/// Bytes of all rows, for each of the families. Each row is looked at once.
pub(super) fn lengths<R: Row>(
    families: &[Family<R>],
    of: &impl Rows<R>,
    scratch: &mut Scratch,
) -> Vec<usize> {
    let mut lengths = vec![0; families.len()];
    for row in (0..of.places()).filter_map(|place| of.at(place)) {
        let mut labels = 0;
        row.labels(|name, value| labels += pair_bytes(name, value));
        for (length, family) in lengths.iter_mut().zip(families) {
            each(family, row, scratch, |_, label, _, value| {
                let labels = labels + label.map_or(0, |(name, value)| pair_bytes(name, value));
                *length += field_bytes(labels + field_bytes(value.0.len()));
            });
        }
    }
    lengths
}

/// Appends the beginning of a family whose rows have this length; to be followed by them.
pub(super) fn head<R: Row>(family: &Family<R>, length: usize, out: &mut Wire) {
    let kind = match family.values {
        Values::Counters(_) => kind::COUNTER,
        Values::Gauge(_) => kind::GAUGE,
        Values::Histogram(..) | Values::Classic(..) => kind::HISTOGRAM,
    };
    let mut head = Wire::default();
    begin(family.name, family.help, kind, &mut head);
    out.varint((head.0.len() + length) as u64);
    out.0.extend_from_slice(&head.0);
}

/// Appends what a row has for a family.
pub(super) fn row<R: Row>(family: &Family<R>, row: &R, scratch: &mut Scratch, out: &mut Wire) {
    scratch.labels.0.clear();
    row.labels(|name, value| scratch.labels.pair(name, value));
    each(family, row, scratch, |labels, label, field, value| {
        put(labels, label, field, value, out);
    });
}

/// Tells of each metric that a row has for a family: the row's labels as they were left, one more label, the field of the
/// value, and that.
fn each<R: Row>(
    family: &Family<R>,
    row: &R,
    scratch: &mut Scratch,
    mut tell: impl FnMut(&Wire, Option<(&str, &str)>, u8, &Wire),
) {
    let Scratch { labels, value, bucket, sparse } = scratch;
    value.0.clear();
    match &family.values {
        Values::Counters(parts) => {
            for part in *parts {
                value.0.clear();
                number((part.value)(row), value);
                tell(labels, part.label, COUNTER, value);
            }
        }
        Values::Gauge(of) => {
            number(of(row), value);
            tell(labels, None, GAUGE, value);
        }
        Values::Histogram(of, _) => {
            sparse.write(of(row), value);
            tell(labels, None, HISTOGRAM, value);
        }
        Values::Classic(of, exponents) => {
            classic(&Classic::of(of(row), exponents), exponents, bucket, value);
            tell(labels, None, HISTOGRAM, value);
        }
    }
}

/// Appends the value of a counter or a gauge; 0 is what it has without one.
fn number(value: u64, out: &mut Wire) {
    if value > 0 {
        out.double(1, value as f64);
    }
}

/// Appends a classic histogram.
fn classic(classic: &Classic, exponents: &Exponents, bucket: &mut Wire, out: &mut Wire) {
    let bounds = exponents.iter().map(|exponent| f64::exp2(f64::from(*exponent)));
    out.number(1, classic.cumulative.last().copied().unwrap_or(0));
    out.double(2, classic.sum_seconds);
    for (bound, count) in bounds.chain([f64::INFINITY]).zip(classic.cumulative) {
        bucket.0.clear();
        bucket.number(1, count);
        bucket.double(2, bound);
        out.bytes(3, &bucket.0);
    }
}

/// Appends a metric: its labels, one more label, and its value as the message of its kind.
pub(super) fn put(
    labels: &Wire,
    label: Option<(&str, &str)>,
    field: u8,
    value: &Wire,
    out: &mut Wire,
) {
    let more = label.map_or(0, |(name, value)| pair_bytes(name, value));
    out.begin(METRIC, labels.0.len() + more + field_bytes(value.0.len()));
    out.0.extend_from_slice(&labels.0);
    if let Some((name, value)) = label {
        out.pair(name, value);
    }
    out.bytes(field, &value.0);
}
