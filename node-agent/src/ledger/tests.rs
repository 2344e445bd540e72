use proptest::prelude::*;
use topology::model::{Address, Role, Scope};

use super::*;
use crate::testing::{
    ledger::{IDENTITY, begun},
    world::workload,
};

fn key(name: &str) -> Key {
    let address = |ip: &str| Address { ip: ip.parse().unwrap(), scope: Scope::Global };
    HalfKey {
        workload: workload(name),
        local: address("10.0.0.1"),
        peer: address("10.0.0.2"),
        server_port: 80,
        client_port: 0,
        role: Role::Client,
    }
}

/// A slot counts for a half, the `birth`th.
fn linked(owner: u64, half: &Key, birth: u64) -> Link {
    Link { owner, half: half.clone(), birth }
}

fn counters(value: u64) -> [u64; COUNTERS] {
    std::array::from_fn(|index| value * (index as u64 + 1))
}

/// What a ledger knows, in a form that can be compared.
type State = (
    u64,
    BTreeMap<u32, (u64, String)>,
    BTreeMap<String, (Vec<u64>, usize)>,
    Vec<(u64, String, Vec<u64>)>,
);

fn state(past: &Past) -> State {
    let name = |key: &Key| format!("{} {}", key.workload.name, key.server_port);
    let links = past.links.iter();
    let links = links.map(|(slot, link)| (*slot, (link.owner, link.half.workload.name.clone())));
    let live = past.live.iter().filter(|(_, values)| *values != Values::default());
    let live =
        live.map(|(key, values)| (name(key), (values.counters.to_vec(), values.buckets.len())));
    let retired = past.retired.iter();
    let retired = retired.map(|(seq, key, values)| (*seq, name(key), values.counters.to_vec()));
    (past.last_seq, links.collect(), live.collect(), retired.collect())
}

impl Ledger {
    /// As if it had been opened.
    fn state(&self) -> State {
        let past = Past {
            last_seq: self.store.get(Word::LastSeq),
            acked: self.store.get(Word::Acked),
            processes: 1,
            links: self.links.clone(),
            live: self.live.iter().map(|(key, values)| (key.clone(), values.clone())).collect(),
            retired: self.retired.iter().cloned().collect(),
        };
        state(&past)
    }
}

#[test]
fn what_is_noted_is_there_for_the_next() {
    let (shared, mut ledger) = begun(64 << 10 << 1 << 1);
    let (web, job) = (key("web"), key("job"));
    assert!(ledger.past().is_none(), "there was nobody before");
    ledger.link(3, linked(7, &web, 1));
    ledger.link(4, linked(8, &job, 2));
    let bucket = (HistogramKind::Rtt, 5, 9);
    assert!(ledger.fold(4, &counters(1), &[bucket]));
    ledger.cleared();
    ledger.link(4, linked(8, &job, 2));
    assert!(ledger.fold(4, &counters(2), &[bucket]));
    ledger.built(12, &[]);

    let mut next = shared.open();
    assert_eq!((next.session(), next.generation(), next.settings()), (43, 42, 47));
    assert_eq!(next.to_clear(), Some(4));
    next.cleared();
    assert_eq!(next.to_clear(), None);
    let past = next.past().unwrap();
    assert_eq!(past.links.keys().copied().collect::<Vec<_>>(), [3]);
    let (half, values) = past.live[0].clone();
    assert_eq!((values.birth, values.counters, half), (2, counters(3), job));
    assert_eq!(past.links[&3], linked(7, &web, 1));
    assert_eq!(values.buckets[&(HistogramKind::Rtt, 5)], 18);
    assert_eq!((past.last_seq, past.retired.len()), (12, 0));

    next.built(13, &[past.live[0].0.clone()]);
    let retired = shared.open().past().unwrap().retired;
    assert_eq!((retired[0].0, retired[0].2.counters), (13, counters(3)));
    next.acked(13);
    assert_eq!(shared.open().past().unwrap().retired.len(), 0);
}

#[test]
fn one_that_is_not_finished_or_not_of_this_version_is_refused() {
    let memory = || Box::new(Memory::new(HEAD_BYTES * 3));
    assert!(matches!(Ledger::open(memory()), Err(LedgerError::Unfinished)));
    let ledger = Ledger::create(memory(), &IDENTITY, 10);
    assert!(matches!(Ledger::open(ledger.store), Err(LedgerError::Unfinished)));
    let mut ledger = Ledger::create(memory(), &IDENTITY, 10);
    ledger.finish();
    ledger.store.set(Word::Version, 99);
    assert!(matches!(Ledger::open(ledger.store), Err(LedgerError::Version(99))));
    let (shared, mut ledger) = begun(1 << 20);
    ledger.link(1, linked(1, &key("web"), 1));
    shared.clone().write(HEAD_BYTES + 12, &[0xff]);
    let opened = Ledger::open(Box::new(shared));
    assert!(matches!(opened, Err(LedgerError::Damaged(0))));
}

#[test]
fn when_it_is_full_notes_are_refused_and_nothing_is_lost() {
    let (shared, mut ledger) = begun((3 * LEAST + 4_096) * 2);
    let mut slots = 0..;
    while ledger.has_room() {
        let slot = slots.next().unwrap();
        ledger.link(slot, linked(1, &key(&format!("web-{slot}")), 1));
    }
    let apart = slots.start;
    assert!((50..200).contains(&apart), "{apart}");
    assert_eq!(ledger.retirable(), FEW);
    // A second slot of a half takes little.
    let before = store::split(ledger.active).1;
    for slot in slots.by_ref().take(4_000) {
        assert!(ledger.has_room_for_slot());
        ledger.link(slot, linked(1, &key("web-0"), 1));
    }
    assert!(store::split(ledger.active).1 - before < 4_000 * 24);
    let buckets = [(HistogramKind::Rtt, 500, u64::MAX); 20_000];
    assert!(!ledger.fold(0, &counters(1), &buckets), "a slot that cannot be noted stays");
    assert_eq!(ledger.state(), state(&shared.open().past().unwrap()));
    // Retirements have room of their own.
    ledger.built(1, &[key("web-1")]);
    assert_eq!(shared.open().past().unwrap().retired.len(), 1);
    assert_eq!((ledger.retirable(), ledger.has_room()), (0, false));
    // What is given back and taken over makes room.
    for slot in 2..4_000 {
        assert!(ledger.fold(slot, &counters(1), &[]));
        ledger.cleared();
    }
    let ended: Vec<_> = (2..apart).map(|slot| key(&format!("web-{slot}"))).collect();
    ledger.built(2, &ended);
    ledger.acked(2);
    assert!(ledger.has_room());
    assert_eq!(ledger.retirable(), MANY);
}

#[test]
fn a_note_that_could_not_be_made_is_made_up_for() {
    let (shared, mut ledger) = begun((3 * LEAST + 4_096) * 2);
    ledger.link(1, linked(1, &key("web"), 1));
    ledger.give_up();
    let open = || Ledger::open(Box::new(shared.clone()));
    assert!(matches!(open(), Err(LedgerError::Incomplete)));
    let mut folded = 0;
    while open().is_err() {
        assert!(folded < 10_000, "all is written anew once there is no more room");
        ledger.link(2, linked(1, &key("job"), 2));
        assert!(ledger.fold(2, &counters(1), &[]));
        ledger.cleared();
        folded += 1;
    }
    assert!(folded > 10, "{folded}");
    let past = open().unwrap().past().unwrap();
    assert_eq!((past.live[0].1.counters, past.links.len()), (counters(folded), 1));
    assert_eq!(ledger.state(), state(&past));
}

#[test]
fn losses_count_on_over_restarts() {
    let (shared, mut ledger) = begun(RESERVED * 4);
    let mut losses = vec![("report_full", 5)];
    ledger.carry(&mut losses);
    assert_eq!(losses, [("report_full", 5)]);
    assert_eq!(ledger.hints_missed(10), 10);
    let mut next = shared.open();
    next.ignore_hints(1_010);
    assert_eq!(next.hints_missed(1_012), 12, "those that came while nobody was there are none");
    let mut losses = vec![("report_full", 2)];
    next.carry(&mut losses);
    next.carry(&mut vec![("report_full", 3)]);
    assert_eq!(losses, [("report_full", 7)]);
    let mut losses = Vec::new();
    shared.open().carry(&mut losses);
    assert_eq!(losses, [("report_full", 8)]);
}

#[derive(Clone, Debug)]
enum Step {
    Link(u32, u8),
    Fold(u32, u64),
    Build(Option<u8>),
    Ack(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u32..6, 0_u8..3).prop_map(|(slot, name)| Step::Link(slot, name)),
        4 => (0_u32..6, 1_u64..1 << 40).prop_map(|(slot, value)| Step::Fold(slot, value)),
        2 => prop::option::of(0_u8..3).prop_map(Step::Build),
        1 => (0_u64..40).prop_map(Step::Ack),
    ]
}

fn take(ledger: &mut Ledger, step: &Step) {
    match step {
        // A slot is one's until it is folded.
        Step::Link(slot, _) if ledger.links.contains_key(slot) => {}
        Step::Link(slot, name) => {
            ledger.link(*slot, linked(1, &key(&format!("workload-{name}")), u64::from(*name) + 1));
        }
        Step::Fold(slot, value) => {
            if ledger.fold(*slot, &counters(*value), &[(HistogramKind::Rtt, 1, *value)]) {
                ledger.cleared();
            }
        }
        Step::Build(retired) => {
            let retired = retired.map(|name| key(&format!("workload-{name}")));
            let seq = ledger.store.get(Word::LastSeq) + 1;
            ledger.built(seq, retired.as_slice());
        }
        Step::Ack(seq) => ledger.acked((*seq).min(ledger.store.get(Word::LastSeq))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whenever the process is killed, the next one finds what was noted before the last step, or after it.
    #[test]
    fn a_kill_at_any_store_leaves_all_or_nothing_of_a_step(
        steps in prop::collection::vec(step(), 1..60),
        stores in 0_usize..250,
        room in 0_usize..3_000,
    ) {
        let (shared, mut ledger) = begun((RESERVED + 3_000 + room) * 2);
        let mut known = vec![ledger.state()];
        shared.die_after(stores);
        for step in &steps {
            let seq_before = ledger.store.get(Word::LastSeq);
            take(&mut ledger, step);
            if shared.is_dead() {
                // Number and retirement are two stores: a number that was not used does no harm.
                let mut numbered = known.last().unwrap().clone();
                numbered.0 = seq_before + 1;
                known.push(numbered);
                known.push(ledger.state());
                break;
            }
            known = vec![ledger.state()];
        }
        let next = shared.open();
        let mut found = state(&next.past().unwrap());
        let acked = next.store.get(Word::Acked);
        found.3.retain(|(seq, ..)| *seq > acked);
        let fits = known.iter_mut().any(|known| {
            known.3.retain(|(seq, ..)| *seq > acked);
            // The number is in memory that the dead process no longer wrote to.
            known.0 = if known.0 == found.0 + 1 { found.0 } else { known.0 };
            *known == found
        });
        prop_assert!(fits, "{found:?} is none of {known:?}");
        if let Some(slot) = next.to_clear() {
            prop_assert!(!next.links.contains_key(&slot));
        }
    }
}
