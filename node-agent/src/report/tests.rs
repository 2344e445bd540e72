use prost::Message as _;
use proto::v1::SectionKind;
use topology::model::{Ends, Scope};

use super::{half::ALARM_EVERY, *};
use crate::{
    addresses::scoped,
    queue::Queue,
    testing::{
        client_key,
        ledger::begun,
        raw,
        receiver::{Receiver, Value, Values},
        world::{IDLE, MOST_HALVES, World, workload},
    },
};

#[test]
fn a_retirement_that_was_applied_but_not_acknowledged_counts_nothing_twice() {
    let mut world = World::new();
    world.gain(0, 0, 80, 100);
    world.restart();
    world.deliver();
    world.pass(2 * IDLE);
    world.deliver();
    assert_eq!(world.receiver.retired, 1);
    world.gain(1, 0, 80, 7);
    world.restart();
    world.deliver();
    world.assert_true();
    assert_eq!(world.report.halves(), 2);
    // The acknowledgement got lost with the stream; the welcome makes up for it.
    world.stored = world.receiver.clone();
    world.restart();
    world.deliver();
    world.assert_true();
    assert_eq!(world.report.halves(), 1);
}

/// A half that ended three times and came again each time, of which the queue has kept nothing.
fn three_lives() -> World {
    let mut world = World::with(0, None);
    for round in 0..3 {
        world.gain(round, 0, 80, 100);
        world.build();
        world.pass(2 * IDLE);
        world.build();
    }
    world.gain(3, 0, 80, 7);
    world.build();
    world.restart();
    world
}

#[test]
fn what_ended_and_came_again_while_batches_were_let_go_is_told_apart() {
    let mut world = three_lives();
    // Each life has a number of its own.
    let preface: Vec<_> = std::iter::from_fn(|| world.next()).collect();
    let numbers: HashSet<_> = preface.iter().map(|batch| batch.seq).collect();
    assert_eq!(numbers, HashSet::from([2, 4, 6, 7]));
    // A stream may break after any message, and what was applied may be stored or not.
    for (messages, stored) in (0..=preface.len()).flat_map(|n| [(n, false), (n, true)]) {
        let mut world = three_lives();
        for batch in std::iter::from_fn(|| world.next()).take(messages).collect::<Vec<_>>() {
            world.receiver.apply(&batch);
        }
        if stored {
            world.stored = world.receiver.clone();
        }
        world.restart();
        world.deliver();
        world.assert_true();
    }
}

#[test]
fn many_halves_go_out_in_several_batches_and_prefaces() {
    let mut world = World::new();
    for slot in 0..5_000 {
        world.gain(slot, 0, slot as u16 + 1, 5);
    }
    world.restart();
    world.deliver();
    assert_eq!(world.receiver.seq, 3);
    world.assert_true();
    world.ack();
    world.restart();
    let preface: Vec<_> = std::iter::from_fn(|| world.next()).collect();
    assert!(preface.len() > 3);
    let last = preface.len() - 1;
    for (number, batch) in preface.iter().enumerate() {
        assert_eq!((batch.seq, batch.preface, batch.more), (3, true, number < last));
    }
    world.receiver = Receiver::default();
    for batch in &preface {
        assert_eq!(world.receiver.seq, 0, "not before the last of them");
        world.receiver.apply(batch);
    }
    assert_eq!(world.receiver.seq, 3);
    world.assert_true();
}

/// Halves, listeners and answers that each need a workload of its own with as much text as there may be.
#[test]
fn workloads_with_all_labels_there_may_be_fit_into_messages() {
    let mut report = Report::new(MOST_HALVES);
    let (now, mut receiver) = (Instant::now(), Receiver::default());
    let large = |number: usize| {
        let text = |prefix: &str| format!("{prefix}-{number}-{}", "x".repeat(240));
        let labels = (0..proto::MAX_LABELS).map(|label| (text(&format!("{label}")), text("value")));
        let mut workload = Workload::clone(&workload(&text("name")));
        workload.labels = labels.collect();
        Arc::new(workload)
    };
    let mut counters = [0; COUNTERS];
    counters[Counter::Connections.index()] = 1;
    report.start();
    for number in 0..300 {
        let key = client_key(number as u64, "10.0.0.2", 80);
        let slot = number as u32;
        let change = SlotChange { slot, key: &key, counters: &counters, users: 0, buckets: &[] };
        report.absorb_as(&change, &large(number), now);
    }
    let address = Address { ip: "10.0.0.1".parse().unwrap(), scope: Scope::Global };
    let listeners: Vec<_> =
        (300..600).map(|number| (large(number), address, 1, number as u16)).collect();
    report.set_listeners(&listeners);
    for number in 600..900 {
        let (client, server) = (address, address);
        let tuple = Tuple { client, client_port: number as u16, server, server_port: 80 };
        report.answer(tuple, Some(large(number)));
    }
    receiver.restart();
    // Each as large as a message at most, which the receiver checks.
    let mut count = 0;
    while let Some(batch) = report.build() {
        receiver.apply(&batch);
        count += 1;
    }
    assert!((20..40).contains(&count), "{count} batches");
    assert_eq!((receiver.counted.len(), receiver.listeners.len()), (300, 300));
    assert_eq!(receiver.answers.iter().filter(|(_, workload)| workload.is_some()).count(), 300);
    let seq = report.last_seq();
    receiver.restart();
    for batch in report.preface(seq, std::iter::empty()) {
        receiver.apply(&batch);
    }
    assert_eq!(receiver.listeners.len(), 300);
}

/// Halves with a sample in nearly every bucket that end at the same time.
#[test]
fn halves_with_very_many_samples_end_in_several_batches() {
    let mut report = Report::new(MOST_HALVES);
    let (now, counters) = (Instant::now(), [1 << 40; COUNTERS]);
    let all = HistogramKind::ALL.into_iter();
    let buckets: Vec<_> = all
        .flat_map(|kind| (0..common::BUCKETS as u16).map(move |bucket| (kind, bucket, 1 << 20)))
        .collect();
    for slot in 0..1_100 {
        let key = client_key(0, "10.0.0.2", slot as u16 + 1);
        let change =
            SlotChange { slot, key: &key, counters: &counters, users: 0, buckets: &buckets };
        report.absorb_as(&change, &workload("web"), now);
    }
    // How many halves end in each of these batches, none of which may be too large for a message.
    let ended = |batches: Vec<v1::Batch>| -> Vec<usize> {
        let ends = batches.into_iter().map(|batch| {
            assert!(batch.encoded_len() < proto::MAX_MESSAGE_BYTES, "{}", batch.encoded_len());
            let kind = SectionKind::Definitions as u32;
            let definitions = batch.sections.into_iter().filter(|section| section.kind == kind);
            let definitions = definitions.map(|section| v1::Definitions::decode(section.payload));
            definitions.map(|definitions| definitions.unwrap().retired_halves.len()).sum()
        });
        ends.filter(|ended| *ended > 0).collect()
    };
    let built = |report: &mut Report| std::iter::from_fn(|| report.build()).collect();
    assert!(ended(built(&mut report)).is_empty());
    (0..1_100).for_each(|slot| report.slot_freed(slot));
    report.expire(now + IDLE, usize::MAX);
    let batches = ended(built(&mut report));
    assert!(batches.len() > 3 && batches.iter().sum::<usize>() == 1_100, "{batches:?}");
    // What is not acknowledged is told again, in the name of the same batches.
    let seq = report.last_seq();
    assert_eq!(ended(report.preface(seq, std::iter::empty())), batches);
}

#[test]
fn more_halves_than_there_is_room_for_are_counted_together() {
    let mut world = World::with_room(8);
    for slot in 0..20 {
        world.gain(slot, 0, slot as u16 + 1, 5);
    }
    world.restart();
    world.deliver();
    assert_eq!((world.report.halves(), world.report.folded(), world.report.refused()), (9, 12, 0));
    let sent = |values: &Values| values[&Value::Counter(Counter::BytesSent)];
    let counted = &world.receiver.counted;
    let many: Vec<_> = counted.iter().filter(|(key, _)| key.is_folded()).collect();
    assert_eq!((many.len(), sent(many[0].1)), (1, 60));
    assert_eq!(counted.values().map(sent).sum::<u64>(), 100);
}

#[test]
fn a_half_that_comes_again_is_another_one() {
    let mut report = Report::new(MOST_HALVES);
    let (mut now, name, key) = (Instant::now(), workload("x"), client_key(1, "10.0.0.2", 80));
    let mut counters = [0; COUNTERS];
    counters[Counter::Connections.index()] = 3;
    let mut births = Vec::new();
    for _ in 0..3 {
        let change = SlotChange { slot: 1, key: &key, counters: &counters, users: 0, buckets: &[] };
        report.absorb_as(&change, &name, now);
        let batch = report.build().unwrap();
        let kind = SectionKind::Definitions as u32;
        let section = batch.sections.into_iter().find(|section| section.kind == kind).unwrap();
        let definitions = v1::Definitions::decode(section.payload).unwrap();
        births.extend(definitions.halves.into_iter().map(|half| half.birth));
        report.slot_freed(1);
        now += Duration::from_secs(61);
        report.expire(now, usize::MAX);
        report.build().unwrap();
    }
    assert_eq!(births, [1, 2, 3]);
}

/// Birth of each half that batches define, with the port of its server.
fn births(batches: impl IntoIterator<Item = v1::Batch>) -> Vec<(u32, u64)> {
    let kind = SectionKind::Definitions as u32;
    let sections = batches.into_iter().flat_map(|batch| batch.sections);
    let definitions = sections.filter(|section| section.kind == kind);
    let definitions = definitions.map(|it| v1::Definitions::decode(it.payload).unwrap());
    let mut births: Vec<_> = definitions
        .flat_map(|definitions| definitions.halves)
        .map(|half| (half.server_port, half.birth))
        .collect();
    births.sort_unstable();
    births
}

#[test]
fn the_next_agent_tells_halves_by_the_numbers_they_had() {
    let (shared, ledger) = begun(1 << 20);
    let mut world = World::new();
    world.note_in(ledger);
    // Another aggregator has heard of the first life and of its end, this one of nothing; of what is live, one half has
    // a slot and one none.
    for (slot, port) in [(0, 80), (1, 80), (2, 81)] {
        world.gain(slot, 0, port, 100);
        world.build();
        world.pass(if slot == 0 { 2 * IDLE } else { Duration::ZERO });
        world.build();
    }
    world.fold(2);
    world.forget(2);
    for agent in 1..=2 {
        world.go_on(shared.open(), Queue::new(1 << 20, None));
        world.gain(2 + agent, 0, 81 + agent as u16, 100);
        world.build();
        world.restart();
        let known = births(std::iter::from_fn(|| world.next()));
        let later = (0..agent).map(|agent| (82 + agent, ((u64::from(agent) + 1) << 40) + 1));
        let expected = [(80, 1), (80, 2), (81, 3)].into_iter().chain(later);
        assert_eq!(known, expected.collect::<Vec<_>>());
        world.stop();
    }
}

#[test]
fn what_a_scan_leaves_makes_room_soon() {
    let mut world = World::new();
    world.restart();
    let most = (MOST_HALVES / 4 * 3) as u32;
    for (few, ended) in [(most - 1, 0), (2, most + 1)] {
        let before = world.report.halves() as u32;
        for number in before..before + few {
            world.gain(number % 1_000, 0, (number % 60_000) as u16, 1);
            world.forget(number % 1_000);
        }
        world.build();
        world.pass(Duration::from_secs(3));
        world.deliver();
        assert_eq!(world.receiver.retired as u32, ended);
    }
    world.ack();
    assert_eq!((world.report.halves(), world.report.names()), (0, 0));
}

#[test]
fn a_role_or_slot_that_does_not_exist_takes_no_memory() {
    let mut report = Report::new(MOST_HALVES);
    let now = Instant::now();
    let key = client_key(1, "10.0.0.2", 80);
    let change =
        SlotChange { slot: u32::MAX, key: &key, counters: &[0; COUNTERS], users: 0, buckets: &[] };
    report.absorb_as(&change, &workload("x"), now);
    assert!(report.quiet_slots(now + IDLE, IDLE).is_empty());
    let key = kernel::HalfKey { role: 9, ..key };
    let change = SlotChange { slot: 0, key: &key, ..change };
    report.absorb_as(&change, &workload("x"), now);
    assert_eq!(report.refused(), 1);
}

#[test]
fn a_new_half_and_a_first_failure_are_urgent_and_traffic_is_not() {
    let mut world = World::new();
    world.restart();
    assert!(world.report.take_urgent());
    world.deliver();
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
fn closes_do_not_keep_a_failure_and_failures_no_close() {
    let key = client_key(0, "10.0.0.2", 80);
    let mut failed = [0; COUNTERS];
    failed[Counter::FailedRefused.index()] = 1;
    let nothing = [0; COUNTERS];
    let change = |counters, users| SlotChange { slot: 0, key: &key, counters, users, buckets: &[] };
    let (open, closed, failed) = (change(&nothing, 1), change(&nothing, 0), change(&failed, 1));
    for order in [[closed, failed], [failed, closed]] {
        let mut world = World::new();
        world.restart();
        world.gain(0, 0, 80, 1);
        world.deliver();
        world.report.take_urgent();
        for change in order {
            world.report.absorb(&open, world.now);
            assert!(!world.report.take_urgent());
            world.report.absorb(&change, world.now);
            assert!(world.report.take_urgent(), "{change:?}");
        }
    }
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
    // To one that knows nothing the preface tells all there are.
    world.ack();
    world.receiver = Receiver::default();
    world.restart();
    world.deliver();
    assert_eq!(world.receiver.listeners.len(), 2);
    world.report.set_listeners(&[on("b", 2)]);
    world.stop();
    world.build();
    world.report.set_listeners(&[]);
    world.restart();
    world.deliver();
    assert!(world.receiver.listeners.is_empty(), "none at all is told, too");
    world.ack();
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
    assert_eq!(world.report.workloads.len(), 1, "the batch may have to be sent again");
    world.ack();
    assert_eq!(world.report.workloads.len(), 0);
}

#[test]
fn what_the_other_end_sees_is_told_once_and_in_each_preface() {
    let mut world = World::new();
    world.gain(0, 0, 80, 100);
    assert!(world.report.take_untranslated(), "a new half");
    let slots: Vec<_> = world.report.ends_of_slots(None).collect();
    assert_eq!(slots.len(), 1);
    assert!(slots[0].live);
    assert!(!world.report.ends_of_slots(Some(world.now)).next().unwrap().live, "nothing since");
    world.gain(0, 0, 80, 1);
    assert!(world.report.take_untranslated(), "not looked for yet");
    world.report.looked_for_translations(world.now);
    world.gain(0, 0, 80, 1);
    assert!(!world.report.take_untranslated(), "looked for, and nothing found");
    let ends = |last: u8| Ends {
        client: Address { ip: [10, 0, 0, 1].into(), scope: Scope::Global },
        server: Address { ip: [10, 0, 0, last].into(), scope: Scope::Global },
        server_port: 8080,
    };
    world.restart();
    assert!(!world.report.translate(slots[0].half, [ends(2), ends(3)]));
    world.deliver();
    let told = |world: &World| world.receiver.ends.values().flatten().copied().collect::<Vec<_>>();
    assert_eq!(told(&world), [ends(2), ends(3)]);
    assert!(!world.report.translate(slots[0].half, [ends(3)]));
    assert!(world.report.is_clean(), "nothing new");
    world.report.translate(slots[0].half, [ends(4)]);
    world.deliver();
    world.receiver = Receiver::default();
    world.restart();
    world.deliver();
    assert_eq!(told(&world), [ends(2), ends(3), ends(4)]);
    assert!(!world.report.translate(slots[0].half, (0..=255).map(ends)));
    let more = Ends { server_port: 1, ..ends(1) };
    assert!(world.report.translate(slots[0].half, [more]), "no room");
    assert!(!world.report.translate(slots[0].half, [more]), "which is known by now");
    assert!(!world.report.take_untranslated());
    for (again, counted) in [(true, false), (false, true), (false, false)] {
        assert_eq!(world.report.untranslatable(slots[0].half), counted);
        assert_eq!(world.report.take_untranslated(), again);
    }
}

#[test]
fn many_translations_go_out_in_several_batches_and_prefaces() {
    let mut world = World::new();
    for slot in 0..400 {
        world.gain(slot, 0, slot as u16 + 1, 5);
    }
    let halves: Vec<u32> = world.report.ends_of_slots(None).map(|ends| ends.half).collect();
    let address = |number: u16| {
        let ip = std::net::Ipv6Addr::new(0xfd77, !0, !0, !0, !0, !0, !0, number).into();
        Address { ip, scope: Scope::Network(u64::MAX) }
    };
    let ends = |number| Ends { client: address(0), server: address(number), server_port: !0 };
    let most: Vec<_> = (0..proto::MAX_ENDS as u16).map(ends).collect();
    world.restart();
    for half in &halves {
        assert!(!world.report.translate(*half, most.iter().copied()));
    }
    let told = |batch: &v1::Batch| {
        let kind = SectionKind::Translations as u32;
        let sections = batch.sections.iter().filter(|section| section.kind == kind);
        sections.map(|section| section.payload.len()).sum::<usize>()
    };
    let whole = |world: &World| {
        let ends = world.receiver.ends.values();
        (ends.len(), ends.map(|ends| ends.len()).min())
    };
    // All at once, and then of a node that comes again.
    for _ in 0..2 {
        world.receiver = Receiver::default();
        world.restart();
        world.build();
        let batches: Vec<_> = std::iter::from_fn(|| world.next()).collect();
        assert!(batches.iter().filter(|batch| told(batch) > 0).count() > 6);
        for batch in &batches {
            assert!(told(batch) < (1 << 20) + (32 << 10), "{}", told(batch));
            world.receiver.apply(batch);
        }
        assert_eq!(whole(&world), (400, Some(proto::MAX_ENDS)));
        world.assert_true();
        world.ack();
    }
    assert!(world.report.is_clean());
}
