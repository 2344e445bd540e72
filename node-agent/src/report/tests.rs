use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use topology::model::{Scope, WorkloadKind};

use super::*;
use crate::testing::{
    client_key, raw,
    receiver::{Key, Receiver, Value, Values},
};

const IDLE: Duration = Duration::from_secs(61);

fn workload(name: &str) -> Arc<Workload> {
    Arc::new(Workload {
        kind: WorkloadKind::Process,
        name: name.to_owned(),
        namespace: String::new(),
        labels: BTreeMap::new(),
    })
}

/// A report, a receiver, and the truth.
struct World {
    report: Report,
    receiver: Receiver,
    truth: HashMap<Key, Values>,
    slots: HashMap<u32, kernel::HalfKey>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            report: Report::new(),
            receiver: Receiver::default(),
            truth: HashMap::new(),
            slots: HashMap::new(),
            now: Instant::now(),
        }
    }

    /// Owners 0..3 are two workloads only: their halves meet.
    fn gain(&mut self, slot: u32, owner: u64, port: u16, gain: u64) {
        let key = *self.slots.entry(slot).or_insert_with(|| client_key(owner, "10.0.0.2", port));
        let workload = workload(if key.owner.is_multiple_of(2) { "even" } else { "odd" });
        let mut counters = [0; COUNTERS];
        counters[Counter::BytesSent.index()] = gain;
        let bucket = (gain % 3) as u16;
        let buckets = [(HistogramKind::Rtt, bucket, 1)];
        let change =
            SlotChange { slot, key: &key, counters: &counters, users: 0, buckets: &buckets };
        self.report.absorb_as(&change, &workload, self.now);
        let truth = self.truth.entry(Key {
            workload: Workload::clone(&workload),
            local: scoped(key.local, 1),
            peer: scoped(key.peer, 1),
            server_port: key.server_port,
            client_port: 0,
            role: Role::Client,
        });
        let truth = truth.or_default();
        *truth.entry(Value::Counter(Counter::BytesSent)).or_default() += gain;
        *truth.entry(Value::Bucket(HistogramKind::Rtt, bucket)).or_default() += 1;
    }

    fn free_quiet_slots(&mut self) {
        for slot in self.report.quiet_slots(self.now, IDLE) {
            self.report.slot_freed(slot);
            self.slots.remove(&slot);
        }
    }

    fn restart(&mut self) {
        let acked = self.receiver.restart();
        self.report.restart(acked);
    }

    fn deliver(&mut self) {
        while let Some(batch) = self.report.build() {
            self.receiver.apply(&batch);
        }
    }

    fn assert_true(&self) {
        let zeros = |values: &Values| values.values().all(|value| *value == 0);
        for (key, values) in &self.truth {
            let counted = self.receiver.counted.get(key).cloned().unwrap_or_default();
            for (value, expected) in values {
                assert_eq!(
                    counted.get(value).copied().unwrap_or(0),
                    *expected,
                    "{key:?} {value:?}"
                );
            }
        }
        for (key, values) in &self.receiver.counted {
            assert!(self.truth.contains_key(key) || zeros(values), "{key:?} never was");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Gain {
        slot: u32,
        owner: u64,
        port: u16,
        gain: u64,
    },
    /// The next batch arrives.
    Deliver,
    /// The next batch is sent, and arrives nowhere: the stream is broken.
    Lose,
    /// The last batch that arrived is acknowledged.
    Ack,
    Restart,
    Stop,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u32..6, 0_u64..4, 1_u16..4, 1_u64..1_000)
            .prop_map(|(slot, owner, port, gain)| Step::Gain { slot, owner, port, gain }),
        4 => Just(Step::Deliver),
        2 => Just(Step::Lose),
        3 => Just(Step::Ack),
        2 => Just(Step::Restart),
        1 => Just(Step::Stop),
        3 => (1_u64..70).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_gain_is_counted_once(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        // After a loss nothing arrives until the stream starts anew.
        let mut whole = false;
        for step in steps {
            match step {
                Step::Gain { slot, owner, port, gain } => world.gain(slot, owner, port, gain),
                Step::Deliver if whole => {
                    if let Some(batch) = world.report.build() {
                        world.receiver.apply(&batch);
                    }
                }
                Step::Deliver | Step::Lose => {
                    whole &= world.report.build().is_none();
                }
                Step::Ack if whole => world.report.acked(world.receiver.seq),
                Step::Ack => {}
                Step::Restart => {
                    world.restart();
                    whole = true;
                }
                Step::Stop => {
                    world.report.stop();
                    whole = false;
                    prop_assert!(world.report.build().is_none());
                }
                Step::Pass(seconds) => {
                    world.now += Duration::from_secs(seconds);
                    world.free_quiet_slots();
                    world.report.expire(world.now);
                }
            }
        }
        if !whole {
            world.restart();
        }
        world.deliver();
        prop_assert!(world.report.is_clean());
        world.assert_true();
        // Everything that is quiet ends, and leaves nothing behind.
        world.now += 2 * IDLE;
        world.free_quiet_slots();
        world.report.expire(world.now);
        world.deliver();
        world.report.acked(world.receiver.seq);
        prop_assert_eq!(world.report.halves(), 0);
        prop_assert_eq!((world.report.workloads.len(), world.report.addresses.len()), (0, 0));
        world.assert_true();
    }
}

#[test]
fn a_retirement_that_was_applied_but_not_acknowledged_counts_nothing_twice() {
    let mut world = World::new();
    world.gain(0, 0, 80, 100);
    world.restart();
    world.deliver();
    world.now += 2 * IDLE;
    world.free_quiet_slots();
    world.report.expire(world.now);
    world.deliver();
    assert_eq!(world.receiver.retired, 1);
    // The acknowledgement got lost with the stream; the welcome makes up for it.
    world.gain(1, 0, 80, 7);
    world.restart();
    world.deliver();
    world.assert_true();
}

#[test]
fn many_halves_go_out_in_several_batches() {
    let mut world = World::new();
    for slot in 0..5_000 {
        world.gain(slot, 0, slot as u16 + 1, 5);
    }
    world.restart();
    let mut batches = 0;
    while let Some(batch) = world.report.build() {
        world.receiver.apply(&batch);
        batches += 1;
    }
    assert_eq!(batches, 3);
    world.assert_true();
}

#[test]
fn more_halves_than_there_is_room_for_are_counted_as_refused() {
    let mut report = Report::new();
    let now = Instant::now();
    let name = workload("x");
    let mut counters = [0; COUNTERS];
    counters[Counter::Connections.index()] = 3;
    for number in 0..halves::MOST_HALVES as u32 + 2 {
        let slot = number % kernel::SLOTS;
        let mut key = client_key(1, "10.0.0.2", (number % 60_000) as u16);
        key.client_port = (number / 60_000) as u16;
        let change = SlotChange { slot, key: &key, counters: &counters, users: 0, buckets: &[] };
        report.absorb_as(&change, &name, now);
    }
    assert_eq!(report.halves(), halves::MOST_HALVES);
    assert_eq!(report.refused(), 6);
}

#[test]
fn a_role_or_slot_that_does_not_exist_takes_no_memory() {
    let mut report = Report::new();
    let now = Instant::now();
    let key = client_key(1, "10.0.0.2", 80);
    let change =
        SlotChange { slot: u32::MAX, key: &key, counters: &[0; COUNTERS], users: 0, buckets: &[] };
    report.absorb_as(&change, &workload("x"), now);
    assert!(report.quiet_slots(now + IDLE, IDLE).is_empty());
    let key = kernel::HalfKey { role: 9, ..key };
    report.absorb_as(&SlotChange { slot: 0, key: &key, ..change }, &workload("x"), now);
    assert_eq!(report.refused(), 1);
}

#[test]
fn a_new_half_and_a_first_failure_are_urgent_and_traffic_is_not() {
    let mut world = World::new();
    world.restart();
    world.deliver();
    assert!(world.report.take_urgent());
    world.gain(0, 0, 80, 1);
    assert!(world.report.take_urgent(), "new");
    world.deliver();
    world.gain(0, 0, 80, 1);
    assert!(!world.report.take_urgent(), "known");
    let key = client_key(0, "10.0.0.2", 80);
    let mut counters = [0; COUNTERS];
    counters[Counter::FailedRefused.index()] = 1;
    let change = SlotChange { slot: 0, key: &key, counters: &counters, users: 0, buckets: &[] };
    for urgent in [true, false] {
        world.report.absorb(&change, world.now);
        assert_eq!(world.report.take_urgent(), urgent);
    }
    world.now += ALARM_EVERY;
    world.report.absorb(&change, world.now);
    assert!(world.report.take_urgent());
}

#[test]
fn the_last_close_of_what_was_seen_open_is_urgent() {
    let mut world = World::new();
    world.restart();
    world.gain(0, 0, 80, 1);
    world.deliver();
    world.report.take_urgent();
    let key = client_key(0, "10.0.0.2", 80);
    let mut counters = [0; COUNTERS];
    counters[Counter::BytesSent.index()] = 1;
    // Open, moving, and closed; then another one that came and went between two looks.
    for (users, urgent) in [(1, false), (1, false), (0, true), (0, false)] {
        let change = SlotChange { slot: 0, key: &key, counters: &counters, users, buckets: &[] };
        world.report.absorb(&change, world.now);
        assert_eq!(world.report.take_urgent(), urgent, "{users} users");
    }
}

#[test]
fn listeners_are_told_whole_and_then_by_changes() {
    let mut world = World::new();
    let on = |name: &str, port| (workload(name), scoped(raw("::"), 1), 1_u64, port);
    world.report.set_listeners(&[on("a", 1), on("b", 2), on("b", 2)]);
    world.restart();
    world.deliver();
    assert_eq!(world.receiver.listeners.len(), 2);
    world.report.set_listeners(&[on("b", 2), on("c", 3)]);
    world.deliver();
    let names: HashSet<_> =
        world.receiver.listeners.iter().map(|l| (l.workload.name.as_str(), l.port)).collect();
    assert_eq!(names, HashSet::from([("b", 2), ("c", 3)]));
    world.report.set_listeners(&[on("b", 2)]);
    world.report.stop();
    world.report.set_listeners(&[]);
    world.restart();
    world.deliver();
    assert!(world.receiver.listeners.is_empty(), "none at all is told, too");
    assert_eq!(world.report.workloads.len(), 0);
}

#[test]
fn status_and_signals_are_told_at_the_start_and_when_they_change() {
    let mut world = World::new();
    let status = v1::NodeStatus {
        losses: [("hints_full".to_owned(), 3)].into(),
        ..v1::NodeStatus::default()
    };
    world.report.set_status(status.clone());
    world.report.set_runqueue(vec![(3, 9)]);
    world.restart();
    world.deliver();
    assert_eq!(world.receiver.status, status);
    assert_eq!(world.receiver.signals.signals[0].counts, [9]);
    world.report.set_status(status);
    world.report.set_runqueue(vec![(3, 9)]);
    assert!(world.report.is_clean(), "nothing new");
    world.report.set_runqueue(vec![(3, 10)]);
    world.deliver();
    assert_eq!(world.receiver.signals.signals[0].counts, [10]);
}

#[test]
fn answers_name_their_workload() {
    let mut world = World::new();
    let address = |ip| Address { ip, scope: Scope::Global };
    let tuple = Tuple {
        client: address("10.0.0.1".parse().unwrap()),
        client_port: 4_000,
        server: address("10.0.0.2".parse().unwrap()),
        server_port: 80,
    };
    world.report.answer(tuple, None);
    assert!(world.report.answers.is_empty(), "nobody asked");
    world.restart();
    world.report.answer(tuple, Some(workload("curl")));
    world.report.answer(tuple, None);
    world.deliver();
    let answers = &world.receiver.answers;
    assert_eq!(answers[0].1.as_ref().unwrap().name, "curl");
    assert_eq!(answers[1].1, None);
    assert_eq!(world.report.workloads.len(), 0);
}
