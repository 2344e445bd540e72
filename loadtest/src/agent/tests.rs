use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use common::{Counter, HistogramKind};
use prost::Message;
use proto::{
    columns::{Visitor, decode},
    v1::{
        Definitions, HalfDefinition, Listeners, Role, SectionKind, Translations,
        agent_message::Body,
    },
};

use super::{book::Book, outbox::Outbox, *};
use crate::{
    scenario::Scenario,
    totals::{EdgeTotals, HalfTotals},
    world::{Side, World},
};

/// Generation, addresses of the client and the server, and which of them it is.
type Key = (u64, Vec<u8>, Vec<u8>, bool);

/// What survives on the other side.
#[derive(Clone, Default)]
struct Taken {
    applied: u64,
    halves: BTreeMap<Key, HalfTotals>,
    /// What the addresses are that clients know servers by.
    behind: HashMap<Vec<u8>, Vec<u8>>,
}

/// An aggregator of few lines, which does what the protocol says.
#[derive(Default)]
struct Receiver {
    taken: Taken,
    generation: u64,
    addresses: HashMap<u32, Vec<u8>>,
    workloads: HashMap<u32, String>,
    halves: HashMap<u32, Key>,
}

struct Adding<'a> {
    receiver: &'a mut Receiver,
    totals: bool,
}

impl Adding<'_> {
    fn half(&mut self, id: u32) -> &mut HalfTotals {
        let key = self.receiver.halves.get(&id).expect("a half that was defined");
        self.receiver.taken.halves.entry(key.clone()).or_default()
    }
}

impl Visitor for Adding<'_> {
    fn half(&mut self, id: u32) {
        if self.totals {
            *Adding::half(self, id) = HalfTotals::default();
        }
    }

    fn counter(&mut self, id: u32, counter: Counter, value: u64) {
        Adding::half(self, id).counters[counter.index()] += value;
    }

    fn bucket(&mut self, id: u32, kind: HistogramKind, bucket: u16, count: u64) {
        Adding::half(self, id).histograms[kind.index()].add(bucket, count);
    }
}

/// All that halves have counted which end.
#[derive(Default)]
struct Ended(HashMap<u32, HalfTotals>);

impl Visitor for Ended {
    fn half(&mut self, id: u32) {
        self.0.insert(id, HalfTotals::default());
    }

    fn counter(&mut self, id: u32, counter: Counter, value: u64) {
        self.0.entry(id).or_default().counters[counter.index()] = value;
    }

    fn bucket(&mut self, id: u32, kind: HistogramKind, bucket: u16, count: u64) {
        self.0.entry(id).or_default().histograms[kind.index()].add(bucket, count);
    }
}

impl Receiver {
    /// A new stream, with whatever has survived.
    fn open(taken: Taken, generation: u64) -> Self {
        Self { taken, generation, ..Self::default() }
    }

    fn take(&mut self, message: AgentMessage) {
        let Some(Body::Batch(batch)) = message.body else { panic!("no batch") };
        let replayed = batch.seq <= self.taken.applied;
        let (mut retired, mut ended) = (Vec::new(), Ended::default());
        for section in &batch.sections {
            let kind = SectionKind::try_from(section.kind as i32).unwrap();
            match kind {
                SectionKind::Definitions => {
                    let mut wire = Definitions::decode(section.payload.clone()).unwrap();
                    retired.append(&mut wire.retired_halves);
                    self.define(wire);
                }
                SectionKind::Totals | SectionKind::Increments if replayed => {}
                SectionKind::Totals | SectionKind::Increments => {
                    let totals = kind == SectionKind::Totals;
                    let mut adding = Adding { receiver: self, totals };
                    decode(&section.payload, &mut adding).unwrap();
                }
                SectionKind::EndedTotals => {
                    decode(&section.payload, &mut ended).unwrap();
                }
                SectionKind::Listeners => {
                    let wire = Listeners::decode(section.payload.clone()).unwrap();
                    let known = |one: &proto::v1::ListenerState| &self.workloads[&one.workload];
                    assert!(wire.listeners.iter().map(known).all(|name| name.starts_with("svc-")));
                }
                SectionKind::Translations => {
                    let wire = Translations::decode(section.payload.clone()).unwrap();
                    for one in wire.translations {
                        let [ends] = one.ends.try_into().unwrap();
                        let (_, client, server, _) = &self.halves[&one.half];
                        assert_eq!(*client, ends.client.unwrap().ip);
                        self.taken.behind.insert(server.clone(), ends.server.unwrap().ip);
                    }
                }
                _ => {}
            }
        }
        for id in retired {
            let key = self.halves.remove(&id).expect("a half that was defined");
            if !replayed {
                assert_eq!(ended.0.get(&id), self.taken.halves.get(&key), "all it has counted");
            }
        }
        self.taken.applied = self.taken.applied.max(batch.seq);
    }

    fn define(&mut self, wire: Definitions) {
        self.workloads.extend(wire.workloads.into_iter().map(|one| (one.id, one.name)));
        let addresses = wire.addresses.into_iter();
        self.addresses.extend(addresses.map(|one| (one.id, one.address.unwrap().ip)));
        for half in wire.halves {
            let HalfDefinition { id, workload, local, peer, role, .. } = half;
            assert!(self.workloads.contains_key(&workload));
            let mut ends = (self.addresses[&local].clone(), self.addresses[&peer].clone());
            let client = role == i32::from(Role::Client);
            if !client {
                std::mem::swap(&mut ends.0, &mut ends.1);
            }
            self.halves.insert(id, (self.generation, ends.0, ends.1, client));
        }
    }

    /// What edges have counted by all there is.
    fn ledger(&self, world: &World) -> Ledger {
        let service_of = |ip: &Vec<u8>| {
            let ip = self.taken.behind.get(ip).unwrap_or(ip);
            let number = u32::from_be_bytes([0, ip[1], ip[2], ip[3]]) - 1;
            world.instances[number as usize].service
        };
        let mut ledger = Ledger::new();
        for ((_, client, server, is_client), totals) in &self.taken.halves {
            let edge =
                crate::world::Edge { client: service_of(client), server: service_of(server) };
            let number = world.edges.iter().position(|one| *one == edge).unwrap() as u32;
            let side = if *is_client { Side::Client } else { Side::Server };
            ledger.entry(number).or_default().add(side, totals);
        }
        ledger
    }
}

/// Without what is open, which the receiver does not work out.
fn counted(mut ledger: Ledger) -> Ledger {
    for totals in ledger.values_mut() {
        totals.numbers[crate::totals::Number::Open as usize] = 0;
    }
    ledger.retain(|_, totals| *totals != EdgeTotals::default());
    ledger
}

/// One agent through broken streams, receivers that fall back to what they have acknowledged, and
/// starts of its own; whether what was taken in the end is what was counted.
fn play(seed: u64) {
    let mut fleet = Scenario::load("smoke").unwrap().fleet;
    (fleet.agents, fleet.churn) = (3, 2.0);
    let world = Arc::new(World::new(&fleet, seed, 60));
    let plan = world.plans().swap_remove(0);
    let mut random = Random::of(&[seed, 99]);
    let (mut book, mut outbox) = (Book::new(Arc::clone(&world), plan), Outbox::default());
    let mut durable = Taken::default();
    let mut receiver = Receiver::open(Taken::default(), 1);
    let mut tick = 0;
    while tick < 60 || outbox.len() > 0 {
        if tick < 60 {
            for draft in book.tick(tick).unwrap() {
                outbox.push(draft, Instant::now());
            }
            tick += 1;
        }
        for _ in 0..random.below(4) {
            if let Some(message) = outbox.next() {
                receiver.take(message);
            }
        }
        if random.chance(0.4) {
            durable = receiver.taken.clone();
        }
        // An acknowledgement may be lost, and a receiver, with what it has not acknowledged.
        if random.chance(0.5) {
            outbox.ack(durable.applied);
            book.acked(outbox.acked);
        }
        if random.chance(0.15) {
            // A stream breaks; half of the time the receiver loses what is not durable, too.
            let taken = if random.chance(0.5) { durable.clone() } else { receiver.taken.clone() };
            receiver = Receiver::open(taken, receiver.generation);
            outbox.welcome(durable.applied);
            book.acked(outbox.acked);
            outbox.rewind(&book).unwrap();
        }
        if outbox.len() == 0 && random.chance(0.3) {
            book.renew();
            outbox = Outbox::default();
            durable.applied = 0;
            receiver.taken.applied = 0;
            receiver = Receiver::open(receiver.taken, receiver.generation + 1);
        }
    }
    let (taken, wanted) = (counted(receiver.ledger(&world)), counted(book.ledger()));
    for (edge, totals) in &wanted {
        assert_eq!(taken.get(edge), Some(totals), "seed {seed}, edge {edge}");
    }
    assert_eq!(taken.len(), wanted.len());
}

#[test]
fn what_is_taken_is_what_was_counted_whatever_breaks() {
    (0..40).for_each(play);
}

#[test]
fn a_preface_is_as_of_the_last_acknowledged_batch() {
    let mut fleet = Scenario::load("smoke").unwrap().fleet;
    fleet.agents = 1;
    let world = Arc::new(World::new(&fleet, 1, 10));
    let plan = world.plans().swap_remove(0);
    let (mut book, mut outbox) = (Book::new(Arc::clone(&world), plan), Outbox::default());
    let mut before = Ledger::new();
    for tick in 0..4 {
        for draft in book.tick(tick).unwrap() {
            outbox.push(draft, Instant::now());
        }
        if tick == 1 {
            before = book.ledger();
        }
    }
    let seqs = |outbox: &mut Outbox| -> Vec<_> {
        let next = std::iter::from_fn(|| outbox.next());
        next.map(|message| match message.body {
            Some(Body::Batch(batch)) => batch.seq,
            _ => 0,
        })
        .collect()
    };
    // Nothing is acknowledged: there is nothing to say before the first batch.
    outbox.welcome(0);
    outbox.rewind(&book).unwrap();
    assert_eq!(seqs(&mut outbox), [1, 2, 3, 4]);
    assert_eq!(outbox.ack(2).len(), 2);
    book.acked(2);
    outbox.welcome(1);
    outbox.rewind(&book).unwrap();
    let mut receiver = Receiver::open(Taken::default(), 1);
    receiver.take(outbox.next().unwrap());
    // What had ended by then is all that a receiver without a memory lacks.
    let (told, before) = (counted(receiver.ledger(&world)), counted(before));
    let sum = |ledger: &Ledger| ledger.values().map(|one| one.numbers[0]).sum::<u64>();
    assert!(sum(&told) <= sum(&before) && sum(&told) * 10 > sum(&before) * 8);
    assert_eq!(seqs(&mut outbox), [3, 4]);
    outbox.welcome(0);
    outbox.rewind(&book).unwrap();
    assert_eq!(seqs(&mut outbox), [2, 3, 4]);
}

#[test]
fn an_agent_that_starts_anew_does_not_go_on_with_an_old_hello() {
    let fleet = Scenario::load("smoke").unwrap().fleet;
    let world = Arc::new(World::new(&fleet, 1, 10));
    let plan = world.plans().swap_remove(0);
    let address = ([127, 0, 0, 1], 1).into();
    let shared = Arc::new(Shared::new(world, 1, address, Duration::from_secs(1), true));
    let folder = tempfile::tempdir().unwrap();
    let tls = crate::pki::Authority::make(folder.path()).unwrap().node("node-0").unwrap();
    let (_to, commands) = mpsc::channel(1);
    let (ledgers, _all) = mpsc::unbounded_channel();
    let mut agent = Agent::new(0, shared, tls, plan, commands, ledgers);
    let before = agent.hello();
    agent.connecting = Some(agent.connect());
    agent.obey(Command::Restart);
    agent.settle();
    assert!(agent.connecting.is_none());
    let after = agent.hello();
    assert!(before.session != after.session && before.generation != after.generation);
}
