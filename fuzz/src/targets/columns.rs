//! Counter columns.

use common::{COUNTERS, Counter, HistogramKind};
use proto::columns::{Encoder, Visitor, decode};

use crate::{Target, link};

/// What is read is, encoded, read the same.
pub const TARGET: Target = Target {
    name: "columns",
    about: "counter columns of a batch",
    run,
    seeds: || {
        let numbers = [(Counter::Connections, 1), (Counter::BytesSent, u64::MAX)];
        vec![link::columns(1, &numbers), link::columns(70_000, &[(Counter::Closed, 200)])]
    },
    longest: 4096,
};

type Record = (u32, [u64; COUNTERS], Vec<(HistogramKind, u16, u64)>);

#[derive(Default)]
struct Records(Vec<Record>);

impl Visitor for Records {
    fn half(&mut self, half: u32) {
        self.0.push((half, [0; COUNTERS], Vec::new()));
    }

    fn counter(&mut self, half: u32, counter: Counter, value: u64) {
        if let Some(record) = self.0.last_mut() {
            assert_eq!(record.0, half, "a value of another half");
            record.1[counter.index()] = value;
        }
    }

    fn bucket(&mut self, half: u32, kind: HistogramKind, bucket: u16, count: u64) {
        assert!(usize::from(bucket) < common::BUCKETS, "no such bucket");
        if let Some(record) = self.0.last_mut() {
            assert_eq!(record.0, half, "a value of another half");
            record.2.push((kind, bucket, count));
        }
    }
}

fn read(bytes: &[u8]) -> Option<Vec<Record>> {
    let mut records = Records::default();
    let count = decode(bytes, &mut records).ok()?;
    assert_eq!(records.0.len() as u64, count, "another number of records");
    Some(records.0)
}

fn run(data: &[u8]) {
    let Some(records) = read(data) else { return };
    assert!(records.is_sorted_by(|a, b| a.0 < b.0), "halves are not in order");
    let mut encoder = Encoder::new();
    // Zeros say nothing, so they are not written.
    let mut expected = Vec::new();
    for (half, counters, mut buckets) in records {
        buckets.retain(|(_, _, count)| *count != 0);
        if encoder.push(half, &counters, &buckets).is_err() {
            return;
        }
        if counters.iter().any(|value| *value != 0) || !buckets.is_empty() {
            expected.push((half, counters, buckets));
        }
    }
    let mut bytes = Vec::new();
    encoder.finish(&mut bytes);
    assert_eq!(read(&bytes), Some(expected), "it is read as something else");
}
