//! The protobuf format of `io.prometheus.client`, with native histograms.
//!
//! Our buckets are those of schema 3, so a native histogram has the same counts: bucket `k` is the one with index
//! `k + FIRST_SCHEMA_INDEX`. Only bucket 0 also holds everything that is smaller, down to 0: it is the zero bucket,
//! whose threshold is its bound.
//!
//! A family is one message with its length before it. The rows are therefore gone through twice: for the
//! length, then for the bytes, so that no family is ever in memory as a whole.

use common::histogram::{FIRST_SCHEMA_INDEX, bound_seconds};
use topology::Histogram;

use super::{
    buckets::{Classic, Exponents},
    rows::{Family, Row, Rows, Values},
};

/// What a scraper asks for that can read this.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.google.protobuf; \
                              proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// 2^(1/8) from bucket to bucket.
const SCHEMA: i64 = 3;

/// Kinds of families.
pub(super) mod kind {
    pub(crate) const COUNTER: u64 = 0;
    pub(crate) const GAUGE: u64 = 1;
    pub(crate) const HISTOGRAM: u64 = 4;
}

/// Bytes on their way out, as protobuf has them.
#[derive(Default)]
pub(super) struct Wire(pub(super) Vec<u8>);

impl Wire {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn zigzag(&mut self, value: i64) {
        self.varint(((value << 1) ^ (value >> 63)) as u64);
    }

    pub(super) fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn signed(&mut self, field: u64, value: i64) {
        self.varint(field << 3);
        self.zigzag(value);
    }

    pub(super) fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    /// A whole message with its length before it.
    pub(super) fn delimited(&mut self, message: &Wire) {
        self.varint(message.0.len() as u64);
        self.0.extend_from_slice(&message.0);
    }

    pub(super) fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }
}

/// Memory that is used again from row to row.
#[derive(Default)]
pub(super) struct Scratch {
    labels: Wire,
    label: Wire,
    value: Wire,
    deltas: Wire,
    spans: Wire,
    metric: Wire,
}

/// Appends a family's name, help and kind, as it begins.
pub(super) fn begin(name: &str, help: &str, kind: u64, out: &mut Wire) {
    out.bytes(1, name.as_bytes());
    out.bytes(2, help.as_bytes());
    out.number(3, kind);
}

/// Appends the beginning of a family with its rows' length; to be followed by its [`rows`].
pub(super) fn head<R: Row>(
    family: &Family<R>,
    of: &impl Rows<R>,
    scratch: &mut Scratch,
    out: &mut Wire,
) {
    let kind = match family.values {
        Values::Counters(_) => kind::COUNTER,
        Values::Gauge(_) => kind::GAUGE,
        Values::Histogram(..) | Values::Classic(..) => kind::HISTOGRAM,
    };
    let mut head = Wire::default();
    begin(family.name, family.help, kind, &mut head);
    let mut length = head.0.len();
    let mut row_bytes = Wire::default();
    for place in 0..of.places() {
        if let Some(one) = of.at(place) {
            row_bytes.0.clear();
            row(family, one, scratch, &mut row_bytes);
            length += row_bytes.0.len();
        }
    }
    out.varint(length as u64);
    out.0.extend_from_slice(&head.0);
}

/// Appends what a row has for a family.
pub(super) fn row<R: Row>(family: &Family<R>, row: &R, scratch: &mut Scratch, out: &mut Wire) {
    scratch.labels.0.clear();
    let Scratch { labels, label, .. } = &mut *scratch;
    row.labels(|name, value| pair(labels, label, name, value));
    match &family.values {
        Values::Counters(parts) => {
            for part in *parts {
                let Scratch { labels, label, value, metric, .. } = &mut *scratch;
                let length = labels.0.len();
                if let Some((name, value)) = part.label {
                    pair(labels, label, name, value);
                }
                value.0.clear();
                value.double(1, (part.value)(row) as f64);
                put(labels, 3, value, metric, out);
                labels.0.truncate(length);
            }
        }
        Values::Gauge(of) => {
            let Scratch { labels, value, metric, .. } = &mut *scratch;
            value.0.clear();
            value.double(1, of(row) as f64);
            put(labels, 2, value, metric, out);
        }
        Values::Histogram(of, _) => {
            histogram(of(row), scratch);
            let Scratch { labels, value, metric, .. } = &mut *scratch;
            put(labels, 7, value, metric, out);
        }
        Values::Classic(of, exponents) => {
            classic(&Classic::of(of(row), exponents), exponents, scratch);
            let Scratch { labels, value, metric, .. } = &mut *scratch;
            put(labels, 7, value, metric, out);
        }
    }
}

/// Leaves a classic histogram as the value.
fn classic(
    classic: &Classic,
    exponents: &Exponents,
    Scratch { label: bucket, value, .. }: &mut Scratch,
) {
    let bounds = exponents.iter().map(|exponent| f64::exp2(f64::from(*exponent)));
    value.0.clear();
    value.number(1, classic.cumulative.last().copied().unwrap_or(0));
    value.double(2, classic.sum_seconds);
    for (bound, count) in bounds.chain([f64::INFINITY]).zip(classic.cumulative) {
        bucket.0.clear();
        bucket.number(1, count);
        bucket.double(2, bound);
        value.bytes(3, &bucket.0);
    }
}

/// Appends a label to others.
pub(super) fn pair(labels: &mut Wire, scratch: &mut Wire, name: &str, value: &str) {
    scratch.0.clear();
    scratch.bytes(1, name.as_bytes());
    scratch.bytes(2, value.as_bytes());
    labels.bytes(1, &scratch.0);
}

/// Appends a metric: its labels, and its value as the message of its kind.
pub(super) fn put(labels: &Wire, field: u64, value: &Wire, metric: &mut Wire, out: &mut Wire) {
    metric.0.clear();
    metric.0.extend_from_slice(&labels.0);
    metric.bytes(field, &value.0);
    out.bytes(4, &metric.0);
}

/// Leaves a histogram as the value.
fn histogram(histogram: &Histogram, scratch: &mut Scratch) {
    let Scratch { label: span, value, deltas, spans, .. } = scratch;
    deltas.0.clear();
    spans.0.clear();
    // Index after the last bucket, and count of it.
    let (mut next, mut last) = (0, 0);
    let (mut offset, mut length) = (0, 0);
    let mut zero = 0;
    let mut end_span = |offset: i64, length: u64| {
        if length > 0 {
            span.0.clear();
            span.signed(1, offset);
            span.number(2, length);
            spans.bytes(12, &span.0);
        }
    };
    for (bucket, count) in histogram.iter() {
        if bucket == 0 {
            zero = count;
            continue;
        }
        let index = i64::from(bucket) + i64::from(FIRST_SCHEMA_INDEX);
        if index != next || length == 0 {
            end_span(offset, length);
            (offset, length) = (index - next, 0);
        }
        length += 1;
        next = index + 1;
        // Counts have at most 55 bits.
        deltas.zigzag(count as i64 - last);
        last = count as i64;
    }
    end_span(offset, length);
    value.0.clear();
    value.number(1, histogram.count());
    value.double(2, histogram.approximate_sum());
    value.signed(5, SCHEMA);
    value.double(6, bound_seconds(0));
    value.number(7, zero);
    value.0.extend_from_slice(&spans.0);
    if !deltas.0.is_empty() {
        value.bytes(13, &deltas.0);
    }
}
