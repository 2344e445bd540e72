//! Files that are not as they were written.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{super::leftover, *};
use crate::testing::receiver::{Receiver, Value};

/// Files of a session that counted `count` bytes in as many intervals, and ended.
fn leave(dir: &Path, max_bytes: u64, count: u64) {
    let mut world = World::with(2_000, Some(spool(dir, max_bytes)));
    for _ in 0..count {
        world.gain(0, 0, 80, 1);
        world.build();
    }
    world.queue.spill(&mut world.report);
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn bytes(receiver: &Receiver) -> u64 {
    let value = Value::Counter(common::Counter::BytesSent);
    receiver.counted.values().filter_map(|values| values.get(&value)).sum()
}

/// Delivers what is there, and removes it.
fn deliver(dir: &Path) -> (Receiver, u64) {
    let shared = Arc::default();
    let mut receiver = Receiver::default();
    for leftover in leftover::find(dir, &hello(2), &shared) {
        assert_eq!(leftover.hello().session, 1);
        receiver.restart();
        let delivery = leftover.delivery(&hello(2));
        for batch in delivery {
            receiver.apply(&batch);
        }
        leftover.remove();
    }
    let left = super::super::spool::Spool::new(dir.to_owned(), 1, hello(2), Arc::clone(&shared));
    assert_eq!(left.bytes(), 0);
    (receiver, left.unreadable())
}

#[test]
fn a_last_report_of_nothing_but_a_preface_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (_shared, ledger) = begun(1 << 20);
    let mut world = World::new();
    world.note_in(ledger);
    world.gain(0, 0, 80, 70);
    let seq = world.report.pass_over();
    let preface = world.report.preface(seq, std::iter::empty());
    assert!(spool(dir.path(), 1 << 20).keep(&preface));
    // Whoever was killed before it could say so writes it once more.
    assert!(spool(dir.path(), 1 << 20).keep(&preface));
    let (receiver, unreadable) = deliver(dir.path());
    assert_eq!((receiver.seq, bytes(&receiver), unreadable), (1, 70, 0));
    assert!(!spool(dir.path(), 0).keep(&preface), "there is no room");
}

#[test]
fn the_next_process_delivers_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    leave(dir.path(), 1 << 20, 300);
    assert_eq!(deliver(dir.path()).0.seq, 300);
    assert!(files(dir.path()).is_empty());
    // In several files, of which the oldest are gone.
    leave(dir.path(), 20_000, 300);
    assert!(files(dir.path()).len() > 3);
    let (receiver, unreadable) = deliver(dir.path());
    assert_eq!((bytes(&receiver), receiver.seq, unreadable), (300, 300, 0));
    assert!(receiver.ages_ns.len() < 300);
    assert_eq!(deliver(dir.path()).0.seq, 0, "once");
}

#[test]
fn what_was_taken_over_before_is_not_counted_again() {
    let dir = tempfile::tempdir().unwrap();
    leave(dir.path(), 20_000, 100);
    let copy = tempfile::tempdir().unwrap();
    for file in files(dir.path()) {
        fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    let (mut receiver, _) = deliver(dir.path());
    let leftovers = leftover::find(copy.path(), &hello(2), &Arc::default());
    receiver.restart();
    let delivery = leftovers[0].delivery(&hello(2));
    for batch in delivery {
        receiver.apply(&batch);
    }
    assert_eq!(bytes(&receiver), 100);
}

#[test]
fn a_file_that_ends_anywhere_gives_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    leave(dir.path(), 1 << 20, 6);
    let path = files(dir.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let mut most = 0;
    for length in 0..=whole.len() {
        files(dir.path()).iter().for_each(|file| fs::remove_file(file).unwrap());
        fs::write(&path, &whole[..length]).unwrap();
        let (receiver, _) = deliver(dir.path());
        let counted = bytes(&receiver);
        assert!(counted >= most && counted <= 6, "{counted} of {length} bytes");
        most = counted;
    }
    assert_eq!(most, 6);
}

#[test]
fn a_file_with_a_wrong_bit_counts_nothing_wrong() {
    let dir = tempfile::tempdir().unwrap();
    leave(dir.path(), 1 << 20, 6);
    let path = files(dir.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        files(dir.path()).iter().for_each(|file| fs::remove_file(file).unwrap());
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, flipped).unwrap();
        let (receiver, unreadable) = deliver(dir.path());
        assert!(bytes(&receiver) < 6, "byte {at} matters");
        let aside = files(dir.path()).iter().any(|file| file.extension().unwrap() == "bad");
        assert_eq!(aside, unreadable > 0, "byte {at}");
    }
}

#[test]
fn a_file_of_another_node_or_version_is_put_aside() {
    for other in [
        v1::Hello { node: "n2".to_owned(), ..hello(2) },
        v1::Hello { protocol_version: 2, ..hello(2) },
    ] {
        let dir = tempfile::tempdir().unwrap();
        leave(dir.path(), 1 << 20, 6);
        assert!(leftover::find(dir.path(), &other, &Arc::default()).is_empty());
        assert_eq!(files(dir.path())[0].extension().unwrap(), "bad");
    }
}

#[test]
fn a_file_that_rots_under_the_session_costs_resolution_and_no_number() {
    for rotten in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::with(2_000, Some(spool(dir.path(), 20_000)));
        for number in 0..100 {
            world.gain(0, 0, 80, number);
            world.build();
        }
        let path = files(dir.path()).remove(rotten);
        let mut content = fs::read(&path).unwrap();
        let half = content.len() / 2;
        content[half] ^= 1;
        fs::write(&path, content).unwrap();
        world.restart();
        world.deliver();
        world.assert_true();
        let state = world.queue.state();
        assert_eq!(state.spool_unreadable, 1);
        assert!(state.folded.batches > 0);
    }
}

#[test]
fn without_a_folder_to_write_to_it_goes_on_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    fs::write(&path, "a file").unwrap();
    let (_, state) = outage(4_000, Some(spool(&path, 1 << 20)), 500);
    assert_eq!(state.spool_failures, 1, "and not once more for each batch");
    assert!(state.folded.batches > 400);
}

/// A file system with little room, as long as this lives.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> nix::Result<Self> {
        let dir = tempfile::tempdir().unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(None::<&str>, dir.path(), Some("tmpfs"), flags, Some("size=16k"))?;
        Ok(Self(dir))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = nix::mount::umount(self.0.path());
    }
}

#[test]
fn a_disk_that_is_full_costs_resolution_and_no_number() {
    let Ok(small) = Small::new() else {
        return crate::testing::skipped("file systems cannot be mounted here: not root?");
    };
    let (mut world, state) = outage(4_000, Some(spool(small.0.path(), 1 << 20)), 500);
    assert_eq!(state.spool_failures, 1, "it is not tried for each batch");
    assert_eq!(state.spool_unreadable, 0, "half a frame is not left");
    assert!((1..450).contains(&state.folded.batches), "{state:?}");
    // What was written before is delivered, and gone.
    world.ack();
    assert_eq!(fs::read_dir(small.0.path()).unwrap().count(), 0);
}

/// A disk that can hang and fail; `None` for users who may not make one, which is said.
fn disk() -> Option<(tempfile::TempDir, testbed::disk::Disk)> {
    let dir = tempfile::tempdir().unwrap();
    match testbed::disk::Disk::in_folder(dir.path()) {
        Ok(disk) => Some((dir, disk)),
        Err(error) => {
            crate::testing::skipped(&format!("no disk that hangs or fails: {error}"));
            None
        }
    }
}

#[test]
fn a_disk_that_hangs_delays_what_it_is_to_hold_and_costs_nothing() {
    let Some((_dir, disk)) = disk() else { return };
    let mut world = World::with(2_000, Some(spool(disk.path(), 1 << 20)));
    for _ in 0..50 {
        world.gain(0, 0, 80, 100);
        world.build();
    }
    std::thread::scope(|scope| {
        let frozen = disk.freeze().unwrap();
        let writing = scope.spawn(|| {
            for _ in 0..50 {
                world.gain(0, 0, 80, 100);
                world.build();
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        assert!(!writing.is_finished(), "it waits");
        drop(frozen);
        writing.join().unwrap();
    });
    let state = world.queue.state();
    assert_eq!((state.spool_slow, state.spool_failures, state.folded.batches), (1, 0, 0));
    world.restart();
    world.deliver();
    world.assert_true();
}

#[test]
fn a_disk_that_turns_read_only_costs_resolution_and_no_number() {
    let Some((_dir, disk)) = disk() else { return };
    let mut world = World::with(2_000, Some(spool(disk.path(), 1 << 20)));
    for round in 0..2 {
        for _ in 0..100 {
            world.gain(0, 0, 80, 100);
            world.build();
        }
        if round == 0 {
            disk.fail().unwrap();
        }
    }
    let state = world.queue.state();
    assert_eq!(state.spool_failures, 1, "it is not tried for each batch");
    assert!(state.folded.batches > 0);
    world.restart();
    world.deliver();
    world.assert_true();
}
