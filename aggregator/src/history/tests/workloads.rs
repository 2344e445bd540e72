//! What is between workloads on their hosts is kept beside what is between services, and never in its way.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    super::table::{IN_BYTES, LAYERS, META, WITHOUT_WORKLOADS},
    *,
};

#[test]
fn workloads_that_come_and_go_displace_no_services_and_are_folded_beyond_their_room() {
    let mut written = Written::new(2_000_000);
    let mut folded = 0;
    for n in 0..200 {
        let edges = vec![edge("db", 30, 30)];
        let all = on_hosts(&edges).remove(0);
        let part = |client: u64| {
            let source = on_host("web", &format!("c{n}-{client}"), "east");
            let mut totals = EdgeTotals::default();
            totals.add(Measure::BytesToServer, 1);
            StepEdge { source, connections_open: 1, totals, ..all.clone() }
        };
        let step = step_of(10 * n, edges, (0..30).map(part).collect());
        let wrote = written.give(GivenSteps::Ended(step));
        folded += wrote.folded;
        let (_, _, bytes) = written.numbers[1].size();
        // One more edge, and that of `other`.
        let most = 2_000_000 / 100 * 30 / 100 * 15 + 1_000;
        assert!(bytes <= most, "{bytes} bytes after {n} steps");
    }
    assert!(folded > 1_000, "{folded}");
    let all = Window { from: at(0), to: at(2_000) };
    let services = written.older_of_services(all);
    assert_eq!((services.stored_from, bytes(&services)["db"]), (Some(at(0)), 6_000));
    assert_eq!(services.lost.folded, 0);
    // Workloads go back less far; what there is of them adds up, and what has no name is told to have none.
    let workloads = written.database.older(all, END, Grouping::Workload).unwrap();
    assert!(workloads.stored_from > Some(at(0)) && workloads.lost.folded > 0);
    assert!(bytes(&workloads)["other"] >= workloads.lost.folded);
    assert_eq!(sums(&workloads), sums(&written.older_of_services(workloads.window)));
    let written = written.reopened_with(2_000_000);
    let again = written.database.older(all, END, Grouping::Workload).unwrap();
    assert_eq!(bytes(&again), bytes(&workloads));
}

#[test]
fn a_zone_is_that_of_the_time() {
    let mut written = Written::new(PLENTY);
    for (n, zone) in (0..).zip(["east", "east", "west"]) {
        let edges = vec![edge("db", 7, 1)];
        let source = on_host("web", "c0", zone);
        let all = on_hosts(&edges).remove(0);
        let totals = edges[0].totals.clone();
        let finer = vec![StepEdge { source, totals, ..all }];
        written.write(&step_of(10 * n, edges, finer));
    }
    let written = written.reopened();
    let older = |by| written.database.older(Window { from: at(0), to: at(30) }, END, by).unwrap();
    let by_zone = |older: Older| {
        let zone = |id: Id| older.nodes.iter().find(|node| node.id == id).unwrap().zone.clone();
        let bytes = |edge: &topology::ViewEdge| {
            (zone(edge.source), edge.totals.get(Measure::BytesToServer))
        };
        let mut bytes: Vec<_> = older.edges.iter().map(bytes).collect();
        bytes.sort();
        bytes
    };
    assert_eq!(by_zone(older(Grouping::Zone)), [("east".to_owned(), 14), ("west".to_owned(), 7)]);
    // It is one workload all the same.
    assert_eq!(older(Grouping::Workload).edges.len(), 1);
    assert_eq!(older(Grouping::Workload).edges[0].totals.get(Measure::BytesToServer), 21);
}

/// The same after it was a file of a version before, which may lack something.
fn written_before(
    written: Written,
    version: u64,
    lack: impl Fn(&redb::WriteTransaction),
) -> Written {
    let Written { folder, database, numbers, given } = written;
    drop((database, numbers));
    let before = redb::Database::open(folder.path().join("history.redb")).unwrap();
    let writing = before.begin_write().unwrap();
    lack(&writing);
    drop(writing.open_table(META).unwrap().insert("version", version).unwrap());
    writing.commit().unwrap();
    drop(before);
    let (database, aside) = Database::open(folder.path(), 7, PLENTY).unwrap();
    assert_eq!(aside, None);
    let numbers = database.numbers().unwrap();
    Written { folder, database, numbers, given }
}

#[test]
fn a_file_with_steps_in_bytes_goes_on() {
    let mut written = Written::new(PLENTY);
    written.write(&step(0, vec![edge("db", 5, 0)]));
    let written = written_before(written, IN_BYTES, |_| {});
    let all = Window { from: at(0), to: at(10) };
    assert_eq!(bytes(&written.older_of_services(all))["db"], 5);
    let workloads = written.database.older(all, END, Grouping::Node).unwrap();
    assert_eq!(bytes(&workloads)["db"], 5, "it had them already");
}

#[test]
fn a_file_without_workloads_goes_on_and_has_them_from_then_on() {
    let mut written = Written::new(PLENTY);
    (0..9).for_each(|n| written.write(&step(10 * n, vec![edge("db", 5, 0)])));
    let mut written = written_before(written, WITHOUT_WORKLOADS, |writing| {
        for layer in LAYERS.iter().filter(|layer| layer.finer) {
            writing.delete_table(layer.services).unwrap();
            writing.delete_table(layer.edges).unwrap();
            writing.delete_table(layer.steps).unwrap();
        }
    });
    // What comes late does not make it begin before.
    let late = |from| topology::GivenSteps::Late(vec![step(from, vec![edge("db", 2, 0)])]);
    assert_eq!(written.give(late(80)).dropped, 2);
    written.write(&step(90, vec![edge("db", 7, 0)]));
    assert_eq!(written.give(late(50)).dropped, 2);
    assert_eq!(written.give(late(90)).dropped, 0);
    let all = Window { from: at(0), to: at(100) };
    assert_eq!(bytes(&written.older_of_services(all))["db"], 9 * 5 + 7 + 3 * 2);
    let workloads = written.database.older(all, END, Grouping::Node).unwrap();
    assert_eq!((workloads.stored_from, bytes(&workloads)["db"]), (Some(at(90)), 7 + 2));
}

/// A disk that has so many writes left.
#[derive(Debug)]
struct Failing {
    disk: redb::backends::InMemoryBackend,
    left: Arc<AtomicU64>,
}

impl Failing {
    fn write_one(&self) -> std::io::Result<()> {
        let less = |left: u64| left.checked_sub(1);
        let had = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        had.map(drop).map_err(|_| std::io::Error::from(std::io::ErrorKind::StorageFull))
    }
}

impl redb::StorageBackend for Failing {
    fn len(&self) -> std::io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, length: u64) -> std::io::Result<()> {
        self.write_one()?;
        self.disk.set_len(length)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.write_one()?;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.write_one()?;
        self.disk.write(offset, data)
    }
}

#[test]
fn a_write_that_fails_anywhere_leaves_services_and_workloads_alike() {
    for writes in 0..60 {
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let disk = redb::backends::InMemoryBackend::new();
        let disk = Failing { disk, left: Arc::clone(&left) };
        let database = redb::Builder::new().create_with_backend(disk).unwrap();
        let database = Database::of(database, 7, PLENTY).unwrap();
        let mut numbers = database.numbers().unwrap();
        let give = |number: u64, server: &str, numbers: &mut AllNumbers| {
            let steps = GivenSteps::Ended(step(10 * number, vec![edge(server, 5, 0)]));
            database.write(&Given { number, steps }, numbers)
        };
        give(1, "db", &mut numbers).unwrap();
        left.store(writes, Ordering::Relaxed);
        let wrote = give(2, "cache", &mut numbers).is_ok();
        left.store(u64::MAX, Ordering::Relaxed);
        let all = Window { from: at(0), to: at(99) };
        let told = |by| database.older(all, END, by);
        let (Ok(services), Ok(workloads)) = (told(Grouping::Service), told(Grouping::Workload))
        else {
            // Nothing more can be read of a file that failed, until it is opened again.
            assert!(!wrote, "{writes}");
            continue;
        };
        assert_eq!(bytes(&services), bytes(&workloads), "{writes}");
        assert_eq!(bytes(&services).len(), if wrote { 2 } else { 1 }, "{writes}");
    }
}
