//! Both formats of the same rows say the same, as somebody else's decoder reads them.

use std::collections::BTreeMap;

use common::histogram::bucket_of_ns;
use prost::Message;
use topology::Histogram;

use super::{
    buckets::RTT,
    native::Scratch,
    rows::{Family, Part, Row, Values},
    sparse::Sparse,
    wire::Wire,
    *,
};

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<WireHistogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct WireHistogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    span: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    cumulative: u64,
    #[prost(double, tag = "2")]
    bound: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

struct Tested(&'static str, u64, Histogram);

impl Row for Tested {
    fn labels(&self, mut each: impl FnMut(&str, &str)) {
        each("name", self.0);
    }
}

const COUNTERS: Family<Tested> = Family {
    name: "tested_total",
    help: "Counts.",
    values: Values::Counters(&[
        Part { label: Some(("part", "one")), value: |row| row.1 },
        Part { label: None, value: |row| row.1 + 1 },
    ]),
};

const HISTOGRAM: Family<Tested> = Family {
    name: "tested_seconds",
    help: "Takes.",
    values: Values::Histogram(|row| &row.2, &RTT),
};

fn rows() -> Vec<Tested> {
    let of = |samples: &[u64]| samples.iter().map(|ns| (bucket_of_ns(*ns), 3)).collect();
    vec![
        Tested("a\"\\\n", 5, of(&[])),
        Tested("b", 300, of(&[0, 10, 953, 954, 1_000_000, 1_100_000, 2_000_000, u64::MAX])),
        Tested("c", 0, of(&[70_000_000, 70_000_001])),
    ]
}

fn native(family: &Family<Tested>) -> MetricFamily {
    let (rows, mut scratch, mut out) = (rows(), Scratch::default(), Wire::default());
    let lengths = native::lengths(std::slice::from_ref(family), &rows, &mut scratch);
    native::head(family, lengths[0], &mut out);
    rows.iter().for_each(|row| native::row(family, row, &mut scratch, &mut out));
    let mut bytes = &out.0[..];
    let read = MetricFamily::decode_length_delimited(&mut bytes).unwrap();
    assert!(bytes.is_empty(), "{} bytes after the family", bytes.len());
    read
}

/// Counts by index as the format is read: spans are gaps and runs, deltas go from count to count.
fn read(histogram: &WireHistogram) -> BTreeMap<i32, u64> {
    let mut found = BTreeMap::new();
    let (mut index, mut count, mut deltas) = (0, 0, histogram.delta.iter());
    for span in &histogram.span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().unwrap();
            found.insert(index, count as u64);
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    found
}

#[test]
fn counters_are_those_of_the_text() {
    let family = native(&COUNTERS);
    assert_eq!(
        (family.name.as_str(), family.help.as_str(), family.kind),
        ("tested_total", "Counts.", 0)
    );
    let value = |metric: &Metric| metric.counter.as_ref().unwrap().value;
    assert_eq!(family.metric.iter().map(value).collect::<Vec<_>>(), [5., 6., 300., 301., 0., 1.]);
    let labels = |metric: &Metric| -> Vec<(String, String)> {
        metric.label.iter().map(|label| (label.name.clone(), label.value.clone())).collect()
    };
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(labels(&family.metric[0]), [label("name", "a\"\\\n"), label("part", "one")]);
    assert_eq!(labels(&family.metric[1]), [label("name", "a\"\\\n")]);
}

#[test]
fn a_native_histogram_has_every_bucket_of_ours() {
    let family = native(&HISTOGRAM);
    assert_eq!(family.kind, 4);
    for (Tested(name, _, ours), metric) in rows().iter().zip(&family.metric) {
        let theirs = metric.histogram.as_ref().unwrap();
        assert_eq!((theirs.schema, theirs.count), (3, ours.count()), "{name}");
        assert_eq!(theirs.zero_threshold, f64::exp2(-20.0));
        assert_eq!(theirs.zero_count, ours.get(0));
        let expected = ours.iter().filter(|(bucket, _)| *bucket > 0);
        let expected = expected.map(|(bucket, count)| {
            let bound = common::histogram::bound_seconds(bucket);
            ((bound.log2() * 8.0).round() as i32, count)
        });
        let mut found = read(theirs);
        found.retain(|_, count| *count > 0);
        assert_eq!(found, expected.collect(), "{name}");
    }
}

/// What a native histogram takes, and what it is read as.
fn sparse(samples: &[(u16, u64)]) -> (usize, WireHistogram) {
    let mut out = Wire::default();
    Sparse::default().write(&samples.iter().copied().collect(), &mut out);
    (out.0.len(), WireHistogram::decode(&out.0[..]).unwrap())
}

#[test]
fn gaps_are_written_in_the_shorter_of_two_ways() {
    let spans = |samples: &[(u16, u64)]| sparse(samples).1.span.len();
    // A span takes 6 bytes and what the next count is from the last, an empty bucket one and the way down to 0.
    for (gap, together) in [(1, 1), (5, 1), (6, 2), (7, 2), (100, 2)] {
        assert_eq!(spans(&[(20, 3), (21 + gap, 4)]), together, "{gap}");
    }
    // Where counts are large, it is a long way.
    assert_eq!(spans(&[(20, 1 << 40), (21 + 1, (1 << 40) + 1)]), 2);
    let runs: Vec<(u16, u64)> = (20..60).step_by(2).map(|bucket| (bucket, 2)).collect();
    let (bytes, read_back) = sparse(&runs);
    assert_eq!((read_back.span.len(), read(&read_back).len()), (1, 39));
    assert!(bytes < 80, "{bytes}");
}

#[test]
fn a_histogram_without_samples_is_still_a_native_one() {
    let (bytes, empty) = sparse(&[]);
    assert_eq!((empty.schema, empty.zero_threshold, bytes), (3, f64::exp2(-20.0), 11));
}

#[test]
fn text_that_was_written_becomes_protobuf() {
    let mut text = String::new();
    text::head(&mut text, "weft_x", "gauge", "An x.");
    text::sample(&mut text, "weft_x", &text::labels(&[("a", "1\"},\\\n"), ("b", "")]), 2.5);
    text::sample(&mut text, "weft_x", "", -1);
    text::begin(&HISTOGRAM, &mut text);
    rows().iter().for_each(|row| text::row(&HISTOGRAM, row, &mut Default::default(), &mut text));
    let mut out = Wire::default();
    plain::encode(&text, &mut out);
    let mut bytes = &out.0[..];
    let x = MetricFamily::decode_length_delimited(&mut bytes).unwrap();
    assert_eq!(
        (x.name.as_str(), x.help.as_str(), x.kind, x.metric.len()),
        ("weft_x", "An x.", 1, 2)
    );
    assert_eq!(x.metric[0].gauge.as_ref().unwrap().value, -1.0);
    assert_eq!(x.metric[1].gauge.as_ref().unwrap().value, 2.5);
    assert_eq!(x.metric[1].label[0].value, "1\"},\\\n");
    let histogram = MetricFamily::decode_length_delimited(&mut bytes).unwrap();
    assert!(bytes.is_empty());
    assert_eq!((histogram.kind, histogram.metric.len()), (4, 3));
    for (Tested(name, _, ours), metric) in rows().iter().zip(&histogram.metric) {
        assert_eq!(metric.label[0].value, *name);
        let theirs = metric.histogram.as_ref().unwrap();
        assert_eq!(theirs.count, ours.count());
        assert_eq!(theirs.bucket.len(), buckets::CLASSIC);
        let last = theirs.bucket.last().unwrap();
        assert_eq!((last.bound, last.cumulative), (f64::INFINITY, ours.count()));
        assert!((theirs.sum - ours.approximate_sum()).abs() <= ours.approximate_sum() * 1e-9);
    }
}
