//! What columns cost: writing a batch of 200 records, and reading it. Unit: a record.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../xtask/src/bench/harness.rs"]
mod harness;

use std::hint::black_box;

use common::{COUNTERS, Counter, HistogramKind};
use harness::{Case, Dice, Meter};
use proto::columns::{Encoder, Records};

const CASES: &[Case] = &[("columns-encode", encode), ("columns-decode", read)];

fn main() {
    harness::run(CASES);
}

const RECORDS: u32 = 200;

type Record = ([u64; COUNTERS], [(HistogramKind, u16, u64); 3]);

/// Records of 4 counters and 3 samples.
fn records() -> Vec<Record> {
    let mut dice = Dice(4711);
    let record = |_| {
        let mut counters = [0; COUNTERS];
        counters[Counter::BytesSent.index()] = 1_000 + dice.below(100_000);
        counters[Counter::BytesReceived.index()] = 1_000 + dice.below(1_000_000);
        counters[Counter::Connections.index()] = 1 + dice.below(5);
        counters[Counter::Closed.index()] = 1 + dice.below(5);
        let mut sample = |kind| (kind, 90 + (dice.below(32) + dice.below(32)) as u16, 1);
        (counters, HistogramKind::ALL.map(&mut sample))
    };
    (0..RECORDS).map(record).collect()
}

fn write(records: &[Record], encoder: &mut Encoder) -> Vec<u8> {
    for (id, (counters, samples)) in (0..).zip(records) {
        encoder.push(id, counters, samples).unwrap();
    }
    let mut bytes = Vec::new();
    encoder.finish(&mut bytes);
    bytes
}

fn encode(meter: &mut Meter) {
    let (records, mut encoder) = (records(), Encoder::new());
    write(&records, &mut encoder);
    meter.measure(u64::from(RECORDS), || drop(black_box(write(&records, &mut encoder))));
}

/// As the aggregator reads them: checked, and row by row.
fn read(meter: &mut Meter) {
    let bytes = write(&records(), &mut Encoder::new());
    let mut sum = 0;
    meter.measure(u64::from(RECORDS), || {
        let records = Records::read(black_box(&bytes)).unwrap();
        for record in records.iter() {
            let counted = record.values.iter().sum::<u64>();
            let sampled = record.samples.iter().map(|(_, _, count)| count).sum::<u64>();
            sum ^= u64::from(record.half) ^ counted ^ sampled;
        }
    });
    black_box(sum);
}
