//! A report, its queue and a receiver, and the truth of what was counted.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{COUNTERS, Counter, HistogramKind, kernel};
use proto::v1;
use topology::model::{Role, Workload, WorkloadKind};

use super::{
    client_key,
    receiver::{Key, Receiver, Value, Values},
};
use crate::{
    addresses::scoped,
    clock::Moment,
    ledger::{Ledger, Link},
    queue::{Entry, Found, Preface, Queue, Spool},
    report::Report,
    source::SlotChange,
};

/// Longer than a slot or a half may be quiet.
pub(crate) const IDLE: Duration = Duration::from_secs(61);

pub(crate) fn workload(name: &str) -> Arc<Workload> {
    Arc::new(Workload {
        kind: WorkloadKind::Process,
        name: name.to_owned(),
        namespace: String::new(),
        labels: BTreeMap::new(),
    })
}

/// What is left to send of a preface, and the batch after it.
struct Stream {
    preface: Preface,
    next: u64,
}

/// What the kernel has counted in a slot, what the agent has seen of it, and whose it was taken for.
struct Slot {
    key: kernel::HalfKey,
    counted: (u64, BTreeMap<u16, u64>),
    seen: (u64, BTreeMap<u16, u64>),
    /// What any agent has seen of it.
    known: (u64, BTreeMap<u16, u64>),
    workload: Option<Arc<Workload>>,
}
/// Halves that there is room for.
pub(crate) const MOST_HALVES: usize = 65_536;

pub(crate) struct World {
    pub(crate) report: Report,
    pub(crate) queue: Queue,
    pub(crate) receiver: Receiver,
    /// What a receiver that crashes comes back with; it acknowledges no more than that.
    pub(crate) stored: Receiver,
    pub(crate) now: Instant,
    truth: HashMap<Key, Values>,
    slots: BTreeMap<u32, Slot>,
    stream: Option<Stream>,
    ledger: Option<Ledger>,
    /// What the agent before had told of slots.
    links: HashMap<u32, Link>,
    /// Agents that were killed: some names differ from one to the next.
    killed: u32,
    /// One of them has folded halves: their keys are not what they were.
    folded: bool,
}

impl World {
    /// With room for everything.
    pub(crate) fn new() -> Self {
        Self::with(1 << 30, None)
    }

    /// With room for so many halves.
    pub(crate) fn with_room(max_halves: usize) -> Self {
        Self { report: Report::new(max_halves), ..Self::new() }
    }

    pub(crate) fn with(max_bytes: usize, spool: Option<Spool>) -> Self {
        Self {
            report: Report::new(MOST_HALVES),
            queue: Queue::new(max_bytes, spool),
            receiver: Receiver::default(),
            stored: Receiver::default(),
            now: Instant::now(),
            truth: HashMap::new(),
            slots: BTreeMap::new(),
            stream: None,
            ledger: None,
            links: HashMap::new(),
            killed: 0,
            folded: false,
        }
    }

    /// What the agent is to note for the next.
    pub(crate) fn note_in(&mut self, ledger: Ledger) {
        self.ledger = Some(ledger);
    }

    /// The agent is killed, and the next one goes on. Slots have been looked at by nobody since.
    pub(crate) fn go_on(&mut self, ledger: Ledger, queue: Queue) {
        self.stop();
        self.killed += 1;
        self.folded |= self.report.folded() > 0;
        if let Some(slot) = ledger.to_clear() {
            self.slots.remove(&slot);
        }
        let past = ledger.past().unwrap();
        self.report = Report::resume(&past, MOST_HALVES, self.now);
        self.queue = queue.resume(past.last_seq, past.acked, 0);
        self.ledger = Some(ledger);
        self.links.clone_from(&past.links);
        for (number, slot) in &mut self.slots {
            let link = past.links.get(number);
            assert_eq!(link.map(|link| &link.half.workload), slot.workload.as_ref());
            // All of it is told again.
            slot.seen = Default::default();
        }
        self.look();
        let seq = self.report.pass_over();
        if let Some(ledger) = &mut self.ledger {
            ledger.built(seq, &[]);
        }
        self.queue.pass_over(seq, Moment::now());
    }

    /// Something is counted, and seen. Owners 0..3 are two workloads only: their halves meet.
    pub(crate) fn gain(&mut self, slot: u32, owner: u64, port: u16, gain: u64) {
        self.gain_unseen(slot, owner, port, gain);
        self.look_at(slot..=slot);
    }

    /// Something is counted that the agent has not seen.
    pub(crate) fn gain_unseen(&mut self, slot: u32, owner: u64, port: u16, gain: u64) {
        let slot = self.slots.entry(slot).or_insert_with(|| Slot {
            key: client_key(owner, "10.0.0.2", port),
            counted: Default::default(),
            seen: Default::default(),
            known: Default::default(),
            workload: None,
        });
        slot.counted.0 += gain;
        *slot.counted.1.entry((gain % 3) as u16).or_default() += 1;
    }

    /// The agent looks at the kernel.
    pub(crate) fn look(&mut self) {
        self.look_at(0..=u32::MAX);
    }

    fn look_at(&mut self, slots: RangeInclusive<u32>) {
        // As the agent does: what is known to be part of a half first.
        let mut numbers: Vec<u32> = self.slots.range(slots).map(|(number, _)| *number).collect();
        numbers.sort_by_key(|number| !self.links.contains_key(number));
        for number in &numbers {
            let Some(slot) = self.slots.get_mut(number) else { continue };
            if slot.seen == slot.counted {
                continue;
            }
            let owner = slot.key.owner;
            let name = || {
                let name = if owner.is_multiple_of(2) { "even" } else { "odd" };
                // Some are named as before.
                if self.killed == 0 || number.is_multiple_of(2) {
                    workload(name)
                } else {
                    workload(&format!("{name} {}", self.killed))
                }
            };
            let workload = slot.workload.get_or_insert_with(name);
            let mut counters = [0; COUNTERS];
            let sent = slot.counted.0 - slot.seen.0;
            counters[Counter::BytesSent.index()] = sent;
            let gained = slot.counted.1.iter().map(|(bucket, count)| {
                let seen = slot.seen.1.get(bucket).copied().unwrap_or(0);
                (HistogramKind::Rtt, *bucket, count - seen)
            });
            let buckets: Vec<_> = gained.filter(|(.., count)| *count > 0).collect();
            let (slot_number, key) = (*number, &slot.key);
            let change = SlotChange {
                slot: slot_number,
                key,
                counters: &counters,
                users: 0,
                buckets: &buckets,
            };
            let link = self.links.remove(number);
            if let (None, Some(ledger)) = (&link, &mut self.ledger) {
                self.report.fold_new(!ledger.has_room());
            }
            match link {
                Some(link) => self.report.absorb_into(&change, &link, self.now),
                None => self.report.absorb_as(&change, workload, self.now),
            }
            if let Some(ledger) = &mut self.ledger {
                assert!(ledger.has_room_for_slot());
                ledger.link(*number, self.report.link_of_slot(*number, key).unwrap());
            }
            let truth = self.truth.entry(Key {
                workload: Workload::clone(workload),
                local: scoped(key.local, 1),
                peer: scoped(key.peer, 1),
                server_port: key.server_port,
                client_port: 0,
                role: Role::Client,
            });
            let truth = truth.or_default();
            // What an agent before had seen is among it already.
            *truth.entry(Value::Counter(Counter::BytesSent)).or_default() +=
                slot.counted.0 - slot.known.0;
            for (bucket, count) in &slot.counted.1 {
                let known = slot.known.1.get(bucket).copied().unwrap_or(0);
                let bucket = Value::Bucket(HistogramKind::Rtt, *bucket);
                *truth.entry(bucket).or_default() += count - known;
            }
            slot.known = slot.counted.clone();
            slot.seen = slot.counted.clone();
        }
    }

    pub(crate) fn free_quiet_slots(&mut self) {
        self.look();
        for slot in self.report.quiet_slots(self.now, IDLE) {
            if self.fold(slot)
                && let Some(ledger) = &mut self.ledger
            {
                ledger.cleared();
            }
            self.forget(slot);
        }
    }

    /// Notes what a slot has counted. Returns whether there was such a slot.
    pub(crate) fn fold(&mut self, number: u32) -> bool {
        let Some(slot) = self.slots.get(&number) else { return false };
        let mut counters = [0; COUNTERS];
        counters[Counter::BytesSent.index()] = slot.seen.0;
        let buckets = slot.seen.1.iter();
        let buckets: Vec<_> =
            buckets.map(|(bucket, count)| (HistogramKind::Rtt, *bucket, *count)).collect();
        if let Some(ledger) = &mut self.ledger {
            assert!(ledger.fold(number, &counters, &buckets));
        }
        true
    }

    /// The kernel takes a slot back.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.report.slot_freed(slot);
        self.slots.remove(&slot);
    }

    /// Time passes, and what is quiet ends.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.free_quiet_slots();
        let most = self.ledger.as_ref().map_or(usize::MAX, Ledger::retirable);
        self.report.expire(self.now, most);
    }

    /// An interval ends.
    pub(crate) fn build(&mut self) {
        self.look();
        while let Some(batch) = self.report.build() {
            if let Some(ledger) = &mut self.ledger {
                ledger.built(batch.seq, &self.report.retired_by(batch.seq));
            }
            self.queue.push(Entry::of(&batch, Moment::now()), &mut self.report);
        }
        self.report.let_go(self.queue.start());
    }

    /// A stream begins. The welcome tells what is stored, not what is applied besides.
    pub(crate) fn restart(&mut self) {
        self.receiver.restart();
        self.acked(self.stored.seq);
        self.report.start();
        let (preface, next) = self.queue.preface(&mut self.report);
        self.stream = Some(Stream { preface, next });
    }

    /// The stream breaks.
    pub(crate) fn stop(&mut self) {
        self.stream = None;
        self.report.stop();
    }

    /// The receiver loses what it had not stored.
    pub(crate) fn crash(&mut self) {
        self.stop();
        self.receiver = self.stored.clone();
    }

    /// The next message of the stream, if there is one.
    pub(crate) fn next(&mut self) -> Option<v1::Batch> {
        let stream = self.stream.as_mut()?;
        loop {
            if let Some(batch) = stream.preface.next(&Moment::now()) {
                return Some(batch);
            }
            match self.queue.find(stream.next) {
                Found::NotYet => return None,
                Found::Here(entry) => {
                    stream.next += 1;
                    return Some(entry.batch(&Moment::now(), 0).unwrap());
                }
                Found::Gone => {
                    (stream.preface, stream.next) =
                        self.queue.preface_from(stream.next, &mut self.report);
                }
            }
        }
    }

    /// Builds, and sends everything.
    pub(crate) fn deliver(&mut self) {
        self.build();
        while let Some(batch) = self.next() {
            self.receiver.apply(&batch);
        }
    }

    /// The receiver stores what it has, and acknowledges it if there is a stream.
    pub(crate) fn ack(&mut self) {
        self.stored = self.receiver.clone();
        if self.stream.is_some() {
            self.acked(self.stored.seq);
        }
    }

    pub(crate) fn acked(&mut self, seq: u64) {
        self.queue.acked(seq);
        self.report.acked(seq);
        if let Some(ledger) = &mut self.ledger {
            ledger.acked(seq);
        }
        self.report.let_go(self.queue.start());
    }

    pub(crate) fn assert_true(&self) {
        let zeros = |values: &Values| values.values().all(|value| *value == 0);
        let sent = |values: &Values| values[&Value::Counter(Counter::BytesSent)];
        let all: u64 = self.truth.values().map(sent).sum();
        assert_eq!(self.receiver.folding.bytes, all, "also where halves are not kept apart");
        if self.folded || self.report.folded() > 0 {
            let counted = self.receiver.counted.values();
            let sent = |values: &Values| values.get(&Value::Counter(Counter::BytesSent)).copied();
            assert_eq!(counted.filter_map(sent).sum::<u64>(), all);
            return;
        }
        for (key, values) in &self.truth {
            let counted = self.receiver.counted.get(key).cloned().unwrap_or_default();
            for (value, expected) in values {
                let counted = counted.get(value).copied().unwrap_or(0);
                assert_eq!(counted, *expected, "{key:?} {value:?}");
            }
        }
        for (key, values) in &self.receiver.counted {
            assert!(self.truth.contains_key(key) || zeros(values), "{key:?} never was");
        }
    }
}
