use std::{path::Path, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    ledger::LEAST,
    testing::{
        ledger::begun,
        world::{IDLE, World},
    },
};

mod files;

pub(super) fn hello(session: u64) -> v1::Hello {
    v1::Hello { protocol_version: 1, node: "n1".to_owned(), session, ..v1::Hello::default() }
}

pub(super) fn spool(dir: &Path, max_bytes: u64) -> Spool {
    Spool::new(dir.to_owned(), max_bytes, hello(1), Arc::default())
}

#[derive(Clone, Debug)]
enum Step {
    Gain {
        slot: u32,
        owner: u64,
        port: u16,
        gain: u64,
    },
    /// An interval ends.
    Build,
    /// The next message arrives.
    Arrive,
    /// The next message is lost, and the stream with it.
    Lose,
    /// What has arrived is stored and acknowledged.
    Ack,
    Restart,
    Stop,
    /// The receiver forgets what it has not stored.
    Crash,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u32..6, 0_u64..4, 1_u16..4, 1_u64..1_000)
            .prop_map(|(slot, owner, port, gain)| Step::Gain { slot, owner, port, gain }),
        6 => Just(Step::Build),
        6 => Just(Step::Arrive),
        1 => Just(Step::Lose),
        3 => Just(Step::Ack),
        2 => Just(Step::Restart),
        1 => Just(Step::Stop),
        1 => Just(Step::Crash),
        3 => (1_u64..70).prop_map(Step::Pass),
    ]
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Gain { slot, owner, port, gain } => world.gain(slot, owner, port, gain),
        Step::Build => world.build(),
        Step::Arrive => {
            if let Some(batch) = world.next() {
                world.receiver.apply(&batch);
            }
        }
        Step::Lose => {
            world.next();
            world.stop();
        }
        Step::Ack => world.ack(),
        Step::Restart => world.restart(),
        Step::Stop => world.stop(),
        Step::Crash => world.crash(),
        Step::Pass(seconds) => world.pass(Duration::from_secs(seconds)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_gain_is_counted_once(
        memory in prop_oneof![Just(0_usize), Just(500), Just(2_000), Just(1 << 20)],
        files in prop_oneof![3 => Just(0_u64), 1 => Just(6_000), 1 => Just(1 << 20)],
        steps in prop::collection::vec(step(), 0..90),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let spool = (files > 0).then(|| spool(dir.path(), files));
        let mut world = World::with(memory, spool);
        for step in steps {
            take(&mut world, step);
        }
        world.restart();
        world.deliver();
        prop_assert!(world.report.is_clean());
        world.assert_true();
        let folded = world.queue.state().folded.batches;
        prop_assert!(memory < 1 << 20 || folded == 0, "there was room");
        // Everything that is quiet ends, and leaves nothing behind.
        world.pass(2 * IDLE);
        world.deliver();
        world.ack();
        prop_assert!(world.queue.is_settled());
        prop_assert_eq!(world.report.halves(), 0);
        prop_assert_eq!(world.report.names(), 0);
        world.assert_true();
        let state = world.queue.state();
        prop_assert_eq!((state.batches, state.memory_bytes, state.spool_bytes), (0, 0, 0));
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[derive(Clone, Debug)]
enum Life {
    Step(Step),
    /// Something is counted that the agent does not come to see before it is killed.
    Unseen(u32, u64, u16, u64),
    /// The agent is killed; whether its files are delivered or lost.
    Kill(bool),
    /// It is killed when it has noted what a slot had counted, and not cleared it.
    KillWhileFreeing(u32),
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![
        20 => step().prop_map(Life::Step),
        2 => (0_u32..6, 0_u64..4, 1_u16..4, 1_u64..1_000)
            .prop_map(|(slot, owner, port, gain)| Life::Unseen(slot, owner, port, gain)),
        2 => any::<bool>().prop_map(Life::Kill),
        1 => (0_u32..6).prop_map(Life::KillWhileFreeing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_gain_is_counted_once_whenever_agents_are_killed(
        memory in prop_oneof![Just(500_usize), Just(2_000), Just(1 << 20)],
        files in prop_oneof![Just(0_u64), Just(6_000), Just(1 << 20)],
        // Of the ledger, beyond which halves are folded.
        room in prop_oneof![Just(600_usize), Just(1_500), Just(1 << 20)],
        steps in prop::collection::vec(life(), 0..120),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let new_queue = || {
            Queue::new(memory, (files > 0).then(|| spool(dir.path(), files)))
        };
        let (shared, ledger) = begun(2 * (3 * LEAST + room));
        let mut world = World::new();
        world.queue = new_queue();
        world.note_in(ledger);
        let kill = |world: &mut World, delivered: bool| {
            for leftover in leftover::find(dir.path(), &hello(1), &Arc::default()) {
                if delivered {
                    world.receiver.restart();
                    for batch in leftover.delivery(&hello(1)) {
                        world.receiver.apply(&batch);
                    }
                }
                leftover.remove();
            }
            world.go_on(shared.open(), new_queue());
        };
        for life in steps {
            match life {
                Life::Step(step) => take(&mut world, step),
                Life::Unseen(slot, owner, port, gain) => world.gain_unseen(slot, owner, port, gain),
                Life::Kill(delivered) => kill(&mut world, delivered),
                Life::KillWhileFreeing(slot) => {
                    world.look();
                    world.fold(slot);
                    kill(&mut world, false);
                }
            }
        }
        world.restart();
        world.deliver();
        prop_assert!(world.report.is_clean());
        world.assert_true();
        // Where there is little room not all can end at once.
        for _ in 0..3 {
            world.pass(2 * IDLE);
            world.deliver();
            world.ack();
        }
        prop_assert!(world.queue.is_settled());
        prop_assert_eq!((world.report.halves(), world.report.names()), (0, 0));
        world.assert_true();
        let past = shared.open().past().unwrap();
        prop_assert_eq!((past.links.len(), past.live.len(), past.retired.len()), (0, 0, 0));
    }
}

/// Runs a world through an outage of some intervals; returns what the queue made of it.
fn outage(memory: usize, spool: Option<Spool>, intervals: u64) -> (World, State) {
    let mut world = World::with(memory, spool);
    world.gain(0, 0, 80, 1);
    world.restart();
    world.deliver();
    world.ack();
    world.stop();
    for number in 0..intervals {
        world.gain((number % 5) as u32, 0, 80 + (number % 5) as u16, number);
        world.build();
    }
    let state = world.queue.state();
    world.restart();
    world.deliver();
    world.assert_true();
    (world, state)
}

#[test]
fn an_outage_that_memory_has_room_for_keeps_every_interval() {
    let (world, state) = outage(1 << 20, None, 500);
    assert_eq!((state.batches, state.folded), (500, Folded::default()));
    assert_eq!(world.receiver.ages_ns.len(), 502, "one before, and one after");
}

#[test]
fn an_outage_beyond_memory_goes_to_files_and_keeps_every_interval() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, state) = outage(2_000, Some(spool(dir.path(), 1 << 20)), 500);
    assert_eq!((state.batches, state.folded), (500, Folded::default()));
    assert!(state.memory_bytes <= 2_000 && state.spool_bytes > 10_000, "{state:?}");
    assert_eq!(world.receiver.ages_ns.len(), 502);
    world.ack();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_outage_beyond_every_bound_loses_the_oldest_intervals_and_no_number() {
    let (world, state) = outage(4_000, None, 500);
    assert!(state.memory_bytes <= 4_000, "{state:?}");
    assert!(state.folded.batches > 400 && state.folded.span_ns > 0, "{state:?}");
    let folded = world.queue.state().folded.batches;
    assert_eq!(world.receiver.ages_ns.len() as u64, 502 - folded);
    let dir = tempfile::tempdir().unwrap();
    let (_, state) = outage(2_000, Some(spool(dir.path(), 20_000)), 500);
    assert!(state.spool_bytes <= 20_000, "{state:?}");
    assert!((100..400).contains(&state.folded.batches), "{state:?}");
    assert_eq!(state.spool_unreadable + state.spool_failures, 0);
}

#[test]
fn a_preface_is_as_old_as_the_last_batch_it_stands_for() {
    let dir = tempfile::tempdir().unwrap();
    for spool in [None, Some(spool(dir.path(), 20_000))] {
        let before = Moment::now();
        let (mut world, _) = outage(4_000, spool, 500);
        let (mut preface, next) = world.queue.preface(&mut world.report);
        let now = Moment::now();
        let Found::Here(entry) = world.queue.find(next) else { panic!("{next} is gone") };
        while let Some(batch) = preface.next(&now) {
            let ended = now.boot_ns - batch.age_ns;
            assert!((before.boot_ns..=entry.ended.boot_ns).contains(&ended));
        }
    }
}

#[test]
fn a_stream_that_is_too_slow_is_told_totals_instead() {
    let mut world = World::with(1_000, None);
    world.restart();
    for number in 0..100 {
        world.gain(0, 0, 80, number);
        world.build();
        if number % 10 == 0 {
            let batch = world.next().unwrap();
            world.receiver.apply(&batch);
        }
    }
    world.deliver();
    world.assert_true();
    assert!(world.receiver.prefaces > 1);
}
