use super::*;
use proptest::prelude::*;

fn totals() -> impl Strategy<Value = EdgeTotals> {
    let values = proptest::collection::vec((0..MEASURES, any::<u64>()), 0..6);
    let buckets = proptest::collection::vec((0..3_usize, 0_u16..320, any::<u64>()), 0..9);
    (values, buckets).prop_map(|(values, buckets)| {
        let mut totals = EdgeTotals::default();
        for (measure, value) in values {
            totals.add(Measure::ALL[measure], value);
        }
        for (kind, bucket, count) in buckets {
            totals.add_bucket(HistogramKind::ALL[kind], bucket, count);
        }
        totals
    })
}

#[test]
fn what_was_packed_before_comes_back() {
    let connections = 1 << Measure::Connections.index();
    let samples = 1 << (MEASURES + HistogramKind::Connect.index());
    let mut packer = Packer::default();
    for _ in 0..2 {
        // The index, what there is, connections, two buckets.
        for number in [3, CLIENT | connections | samples, 5, 2, 17, 200, 300, 1] {
            write(&mut packer.bytes, number);
        }
    }
    let bytes = packer.finish();
    let (mut unpacker, mut entry) = (Unpacker::new(&bytes), Entry::default());
    assert_eq!(unpacker.next(&mut entry), Some(()));
    assert_eq!((entry.index, entry.totals.get(Measure::Connections)), (3, 5));
    let histogram = entry.totals.histogram(HistogramKind::Connect);
    assert_eq!(histogram.iter().collect::<Vec<_>>(), [(17, 200), (300, 1)]);
    let head = unpacker.head().unwrap();
    unpacker.pass_values(&head).unwrap();
    assert_eq!((head.index, unpacker.pass_samples(&head)), (6, Some(())));
    assert!(unpacker.head().is_none());
}

#[test]
fn what_was_packed_in_bytes_comes_back() {
    let samples = 1 << (MEASURES + HistogramKind::Connect.index());
    let mut packer = Packer::default();
    for _ in 0..2 {
        // The index, what there is, three numbers: a bucket and its count in one, and in two.
        for number in
            [3, DISTANCES | SERVER | samples, 3, 17 << COUNT_BITS | 2, 282 << COUNT_BITS, 9]
        {
            write(&mut packer.bytes, number);
        }
    }
    let bytes = packer.finish();
    let (mut unpacker, mut entry) = (Unpacker::new(&bytes), Entry::default());
    assert_eq!(unpacker.next(&mut entry), Some(()));
    let histogram = entry.totals.histogram(HistogramKind::Connect);
    assert_eq!(histogram.iter().collect::<Vec<_>>(), [(17, 2), (300, 9)]);
    let head = unpacker.head().unwrap();
    unpacker.pass_values(&head).unwrap();
    assert_eq!((head.index, unpacker.pass_samples(&head)), (6, Some(())));
    assert!(unpacker.head().is_none());
}

proptest! {
    #[test]
    fn what_is_packed_again_as_it_is_comes_back(
        entries in proptest::collection::vec((totals(), any::<bool>(), 0_u64..9), 0..20),
    ) {
        let mut packer = Packer::default();
        for (index, (totals, client, open)) in entries.iter().enumerate() {
            packer.put(index, totals, Seen { client: *client, ..Seen::default() }, *open);
        }
        let bytes = packer.finish();
        let mut unpacker = Unpacker::new(&bytes);
        let mut packer = Packer::behind(vec![7]);
        while let Some((head, raw)) = unpacker.raw() {
            let (expected, client, open) = &entries[head.index];
            prop_assert_eq!((head.seen.client, head.open), (*client, *open));
            let mut totals = EdgeTotals::default();
            raw.add_to(&mut totals);
            prop_assert_eq!(&totals, expected);
            packer.put_raw(3 * head.index, raw);
        }
        let bytes = packer.into_bytes();
        prop_assert_eq!(bytes[0], 7);
        let (mut unpacker, mut entry) = (Unpacker::new(&bytes[1..]), Entry::default());
        for (index, (totals, client, open)) in entries.iter().enumerate() {
            prop_assert_eq!(unpacker.next(&mut entry), Some(()));
            prop_assert_eq!((entry.index, entry.open), (3 * index, *open));
            prop_assert_eq!((&entry.totals, entry.seen.client), (totals, *client));
        }
        prop_assert_eq!(unpacker.next(&mut entry), None);
    }

    #[test]
    fn what_is_packed_comes_back(
        entries in proptest::collection::btree_map(
            0_usize..1 << 30,
            (totals(), any::<bool>(), any::<bool>(), 0_u64..9, 0_u64..10),
            0..20,
        ),
    ) {
        let mut packer = Packer::default();
        for (index, (totals, client, server, open, by)) in &entries {
            let by = Basis::of_number(*by);
            packer.put(*index, totals, Seen { client: *client, server: *server, by }, *open);
        }
        let bytes = packer.finish();
        let mut unpacker = Unpacker::new(&bytes);
        let mut entry = Entry::default();
        for (index, (totals, client, server, open, by)) in entries {
            prop_assert_eq!(unpacker.next(&mut entry), Some(()));
            prop_assert_eq!((entry.index, entry.open), (index, open));
            let by = Basis::of_number(by);
            prop_assert_eq!(entry.seen, Seen { client, server, by });
            prop_assert_eq!(&entry.totals, &totals);
        }
        prop_assert_eq!(unpacker.next(&mut entry), None);
    }

    #[test]
    fn what_is_passed_over_is_not_read(
        entries in proptest::collection::vec((totals(), any::<bool>(), any::<bool>()), 0..20),
    ) {
        let mut packer = Packer::default();
        for (index, (totals, ..)) in entries.iter().enumerate() {
            packer.put(3 * index, totals, Seen::default(), index as u64);
        }
        let bytes = packer.finish();
        let mut unpacker = Unpacker::new(&bytes);
        for (index, (totals, values, samples)) in entries.iter().enumerate() {
            let head = unpacker.head().unwrap();
            prop_assert_eq!((head.index, head.open), (3 * index, index as u64));
            let has_any = HistogramKind::ALL.iter().any(|kind| !totals.histogram(*kind).is_empty());
            let has_any = has_any || totals.values().iter().any(|value| *value > 0);
            prop_assert_eq!(head.has_any(), has_any);
            let mut read = EdgeTotals::default();
            let was_read = if *values {
                unpacker.add_values(&head, &mut read)
            } else {
                unpacker.pass_values(&head)
            };
            prop_assert_eq!(was_read, Some(()));
            let was_read = if *samples {
                unpacker.add_samples(&head, &mut read)
            } else {
                unpacker.pass_samples(&head)
            };
            prop_assert_eq!(was_read, Some(()));
            for measure in Measure::ALL {
                prop_assert_eq!(read.get(measure), if *values { totals.get(measure) } else { 0 });
            }
            for kind in HistogramKind::ALL {
                let expected = samples.then(|| totals.histogram(kind).clone());
                prop_assert_eq!(read.histogram(kind), &expected.unwrap_or_default());
            }
        }
        prop_assert!(unpacker.head().is_none());
    }

    #[test]
    fn broken_bytes_end(bytes: Vec<u8>) {
        let mut unpacker = Unpacker::new(&bytes);
        let mut entry = Entry::default();
        while unpacker.next(&mut entry).is_some() {}
        let mut unpacker = Unpacker::new(&bytes);
        while let Some(head) = unpacker.head() {
            if unpacker.pass_values(&head).and_then(|()| unpacker.pass_samples(&head)).is_none() {
                break;
            }
        }
    }
}
