use std::collections::BTreeMap;

use common::{BUCKETS, COUNTERS, Counter, HistogramKind};
use proptest::{collection, prelude::*};

use super::*;

type Record = ([u64; COUNTERS], Vec<(HistogramKind, u16, u64)>);

#[derive(Debug, Default, PartialEq)]
struct Collected(BTreeMap<u32, Record>);

impl Visitor for Collected {
    fn half(&mut self, half: u32) {
        assert!(self.0.keys().all(|known| *known < half));
        self.0.insert(half, Record::default());
    }

    fn counter(&mut self, half: u32, counter: Counter, value: u64) {
        self.0.get_mut(&half).unwrap().0[counter.index()] = value;
    }

    fn bucket(&mut self, half: u32, kind: HistogramKind, bucket: u16, count: u64) {
        self.0.get_mut(&half).unwrap().1.push((kind, bucket, count));
    }
}

/// Any bytes may come: they count nothing that is out of range.
struct InRange;

impl Visitor for InRange {
    fn half(&mut self, half: u32) {
        assert!(half < crate::MAX_ID);
    }
    fn counter(&mut self, _: u32, _: Counter, _: u64) {}
    fn bucket(&mut self, _: u32, _: HistogramKind, bucket: u16, _: u64) {
        assert!(usize::from(bucket) < BUCKETS);
    }
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0), 4 => 1..200_u64, 1 => any::<u64>()]
}

fn record() -> impl Strategy<Value = Record> {
    let kind = prop::sample::select(HistogramKind::ALL.to_vec());
    let buckets = collection::btree_map((kind, 0..BUCKETS as u16), 1..u64::MAX >> 1, 0..6);
    (prop::array::uniform16(value()), buckets).prop_map(|(counters, buckets)| {
        let buckets = buckets.into_iter().map(|((kind, bucket), count)| (kind, bucket, count));
        (counters, buckets.collect())
    })
}

fn encode(encoder: &mut Encoder, records: &BTreeMap<u32, Record>) -> Vec<u8> {
    for (half, (counters, buckets)) in records {
        encoder.push(*half, counters, buckets).unwrap();
    }
    let mut bytes = Vec::new();
    let estimate = encoder.estimated_bytes();
    encoder.finish(&mut bytes);
    assert!(bytes.len() <= estimate);
    assert!(encoder.is_empty());
    bytes
}

proptest! {
    #[test]
    fn records_come_back(
        first in collection::btree_map(0..crate::MAX_ID, record(), 0..20),
        second in collection::btree_map(0..50_u32, record(), 0..20),
    ) {
        let mut encoder = Encoder::new();
        for mut records in [first, second] {
            let bytes = encode(&mut encoder, &records);
            let mut collected = Collected::default();
            let count = decode(&bytes, &mut collected).unwrap();
            records.retain(|_, record| *record != Record::default());
            prop_assert_eq!(count, records.len() as u64);
            prop_assert_eq!(collected.0, records);
        }
    }

    #[test]
    fn any_bytes_end_in_an_answer(bytes: Vec<u8>) {
        let _ = decode(&bytes, &mut InRange);
    }

    #[test]
    fn damaged_columns_end_in_an_answer(
        records in collection::btree_map(0..1000_u32, record(), 1..20),
        damage in collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: prop::sample::Index,
    ) {
        let mut bytes = encode(&mut Encoder::new(), &records);
        if !bytes.is_empty() {
            let shorter = &bytes[..cut.index(bytes.len())];
            prop_assert!(decode(shorter, &mut InRange).is_err());
        }
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let _ = decode(&bytes, &mut InRange);
    }
}

#[test]
fn a_claim_of_many_records_costs_nothing() {
    let mut bytes = Vec::new();
    varint::put(&mut bytes, u64::MAX);
    bytes.extend([0; 9]);
    assert!(decode(&bytes, &mut InRange).is_err());
    let mut bytes = vec![1];
    varint::put(&mut bytes, u64::MAX);
    assert_eq!(decode(&bytes, &mut InRange), Err(DecodeError::Truncated));
}

#[test]
fn what_cannot_be_written_changes_nothing() {
    let mut encoder = Encoder::new();
    let mut counters = [0; COUNTERS];
    counters[0] = 1;
    encoder.push(5, &counters, &[]).unwrap();
    assert_eq!(encoder.push(5, &counters, &[]), Err(EncodeError::Unsorted(5)));
    assert_eq!(encoder.push(crate::MAX_ID, &counters, &[]), Err(EncodeError::Id(crate::MAX_ID)));
    let twice = [(HistogramKind::Rtt, 1, 1), (HistogramKind::Rtt, 1, 1)];
    assert_eq!(encoder.push(6, &counters, &twice), Err(EncodeError::Buckets(6)));
    let beyond = [(HistogramKind::Rtt, BUCKETS as u16, 1)];
    assert_eq!(encoder.push(6, &counters, &beyond), Err(EncodeError::Bucket(BUCKETS as u16)));
    let mut bytes = Vec::new();
    encoder.finish(&mut bytes);
    let mut collected = Collected::default();
    assert_eq!(decode(&bytes, &mut collected), Ok(1));
    assert_eq!(collected.0[&5].0, counters);
}

/// The size the project aims at: 16 bytes for four counters and three histogram increments.
#[test]
fn a_typical_record_takes_at_most_sixteen_bytes() {
    // A small generator is enough for realistic spread, and it repeats.
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut encoder = Encoder::new();
    for half in 0..10_000 {
        let mut counters = [0; COUNTERS];
        let connections = 1 + random(20);
        counters[Counter::Connections.index()] = connections;
        counters[Counter::Closed.index()] = connections;
        counters[Counter::BytesSent.index()] = connections * (100 + random(400));
        counters[Counter::BytesReceived.index()] = connections * (500 + random(20_000));
        let rtt = 60 + random(40) as u16;
        let buckets = [
            (HistogramKind::Rtt, rtt, connections),
            (HistogramKind::Connect, rtt + random(8) as u16, connections),
            (HistogramKind::Lifetime, 100 + random(60) as u16, connections),
        ];
        encoder.push(half, &counters, &buckets).unwrap();
    }
    let mut bytes = Vec::new();
    encoder.finish(&mut bytes);
    assert!(bytes.len() <= 16 * 10_000, "{} bytes", bytes.len());
}
