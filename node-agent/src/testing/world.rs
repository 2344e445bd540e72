//! A report, its queue and a receiver, and the truth of what was counted.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
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
    queue::{Entry, Found, Queue, Spool},
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
    preface: VecDeque<v1::Batch>,
    next: u64,
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
    slots: HashMap<u32, kernel::HalfKey>,
    stream: Option<Stream>,
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
            slots: HashMap::new(),
            stream: None,
        }
    }

    /// Owners 0..3 are two workloads only: their halves meet.
    pub(crate) fn gain(&mut self, slot: u32, owner: u64, port: u16, gain: u64) {
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

    pub(crate) fn free_quiet_slots(&mut self) {
        for slot in self.report.quiet_slots(self.now, IDLE) {
            self.forget(slot);
        }
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
        self.report.expire(self.now);
    }

    /// An interval ends.
    pub(crate) fn build(&mut self) {
        while let Some(batch) = self.report.build() {
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
        self.stream = Some(Stream { preface: preface.into(), next });
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
            if let Some(batch) = stream.preface.pop_front() {
                return Some(batch);
            }
            match self.queue.find(stream.next) {
                Found::NotYet => return None,
                Found::Here(entry) => {
                    stream.next += 1;
                    return Some(entry.batch(&Moment::now(), 0).unwrap());
                }
                Found::Gone => {
                    let next = self.queue.preface_from(stream.next, &mut self.report);
                    (stream.preface, stream.next) = (next.0.into(), next.1);
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
        self.report.let_go(self.queue.start());
    }

    pub(crate) fn assert_true(&self) {
        let zeros = |values: &Values| values.values().all(|value| *value == 0);
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
