//! Rows of the history that hold any bytes.

use common::HistogramKind;
use topology::{EdgeTotals, Entry, Lost, Measure, Seen, Timestamp, model::WorkloadKind};

use super::table::{Edge, Layer, Service, StepBytes, pack};

/// A row: the first byte says of which table.
pub(crate) fn row(data: &[u8]) {
    let Some((table, bytes)) = data.split_first() else { return };
    match table % 4 {
        0 => service(Layer::of(false), bytes),
        1 => drop(postcard::from_bytes::<Edge>(bytes)),
        2 => step(bytes),
        _ => service(Layer::of(true), bytes),
    }
}

/// A service, or a workload on its host: what can be read of it is, written, read as the same.
fn service(layer: &'static Layer, bytes: &[u8]) {
    let Ok(service) = layer.read(bytes) else { return };
    let again = layer.write(&service).and_then(|bytes| layer.read(&bytes));
    assert_eq!(again.as_ref(), Ok(&service), "it is read as something else");
    let node = layer.node(service);
    assert_eq!(layer.key(&node), layer.key(&layer.node(Service::of(&node))));
}

/// A step: what can be read of it is, written, read as the same.
fn step(bytes: &[u8]) {
    let Some((head, entries)) = read(bytes) else { return };
    // Writers go up; the numbers of edges are of 32 bits.
    let in_order = entries.is_sorted_by(|a, b| a.index < b.index);
    if !in_order || entries.iter().any(|entry| u32::try_from(entry.index).is_err()) {
        return;
    }
    let rows =
        entries.iter().map(|entry| (entry.index as u32, &entry.totals, entry.seen, entry.open));
    let packed = pack(head.window.to, head.lost, rows);
    assert!(packed.is_ok(), "it cannot be written: {:?}", packed.err());
    let packed = packed.unwrap_or_default();
    let again = read(&packed).map(|(_, entries)| entries);
    let again = again.unwrap_or_default();
    let same = |a: &Entry, b: &Entry| {
        (a.index, a.open, a.seen) == (b.index, b.open, b.seen) && a.totals == b.totals
    };
    let count = entries.len().max(again.len());
    let alike = entries.iter().zip(&again).filter(|(a, b)| same(a, b)).count();
    assert_eq!(alike, count, "it is read as something else");
}

fn read(bytes: &[u8]) -> Option<(StepBytes<'_>, Vec<Entry>)> {
    let mut step = StepBytes::read(0, bytes).ok()?;
    let mut entries = Vec::new();
    let mut entry = Entry::default();
    while step.next(&mut entry) {
        entries.push(std::mem::take(&mut entry));
    }
    Some((step, entries))
}

/// A row of each table, with its number.
pub(crate) fn rows() -> Vec<Vec<u8>> {
    let service = Service {
        kind: WorkloadKind::Systemd,
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        hosts: vec!["a".to_owned(), "b".to_owned()],
        labels: [("tier".to_owned(), "1".to_owned())].into(),
        zone: String::new(),
    };
    let workload =
        Service { hosts: vec!["a".to_owned()], zone: "east".to_owned(), ..service.clone() };
    let edge = Edge { source: 1, target: 300, server_port: 80 };
    let mut totals = EdgeTotals::default();
    totals.add(Measure::BytesToServer, 1 << 40);
    totals.add(Measure::Connections, 3);
    totals.add_bucket(HistogramKind::Rtt, 40, 2);
    totals.add_bucket(HistogramKind::Rtt, 300, 1);
    let seen = Seen { client: true, server: false, by: topology::Basis::Address };
    let entries = [1, 2, 70_000].map(|number| (number, &totals, seen, u64::from(number % 2)));
    let to = Timestamp::from_unix_ns(10_000_000_000);
    let step = pack(to, Lost::default(), entries.into_iter());
    let services = Layer::of(false).write(&service);
    let workloads = Layer::of(true).write(&workload);
    let parts = [services, postcard::to_stdvec(&edge), step, workloads];
    let parts = parts.into_iter().zip(0..);
    parts.map(|(bytes, table)| [vec![table], bytes.unwrap_or_default()].concat()).collect()
}
