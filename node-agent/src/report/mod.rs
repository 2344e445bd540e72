//! What the agent has to tell, and how much of it batches already hold.
//!
//! For each half the report knows what it counted since the map generation began, and the part of it
//! that no batch holds. [`Report::build`] writes that part into the next batch. Batches are kept
//! elsewhere until they are acknowledged; the report forgets them.
//!
//! A receiver that has lost its place, or from which batches were withheld for lack of room, is told
//! *totals* as of some batch: [`Report::preface`]. They are what all batches together hold, less what
//! the batches hold that it will be sent next.
//!
//! Ids keep their meaning within the session for as long as a batch may be sent that uses them. A half
//! that ended is kept until the batch that retired it is acknowledged, because only then is it
//! certain that its last increments arrived.
//!
//! Pure: no I/O and no clock.

mod build;
mod definitions;
mod half;
mod halves;
mod intern;
mod listeners;
mod names;
mod preface;
mod resume;
mod slots;
mod translations;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    COUNTERS, Counter, HistogramKind,
    kernel::{self, role},
};
use proto::{columns::Encoder, v1};
use topology::model::{Address, HalfKey, Listener, Role, Tuple, Workload};

use crate::{addresses::Scopes, runtimes::Names, source::SlotChange};
use half::{BucketRecord, Half};
use halves::Halves;
use intern::Interner;
use listeners::Listeners;
use slots::{NOBODY, Slots};

/// Answers waiting to be sent; more are not given, and the aggregator does without.
const MOST_ANSWERS: usize = proto::MAX_TUPLES;

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absorbed {
    /// It is in the totals.
    Yes,
    /// The slot is new: its owner's workload is needed.
    NeedsWorkload,
}

/// A change that had to wait for its workload.
#[derive(Clone, Debug)]
pub struct DeferredChange {
    slot: u32,
    key: kernel::HalfKey,
    counters: [u64; COUNTERS],
    users: u64,
    buckets: Vec<(HistogramKind, u16, u64)>,
}

impl DeferredChange {
    /// A copy of a change.
    #[must_use]
    pub fn of(change: &SlotChange<'_>) -> Self {
        Self {
            slot: change.slot,
            key: *change.key,
            counters: *change.counters,
            users: change.users,
            buckets: change.buckets.to_vec(),
        }
    }

    /// Number of the slot.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Id of the owner whose workload is needed.
    #[must_use]
    pub fn owner(&self) -> u64 {
        self.key.owner
    }

    /// The change.
    #[must_use]
    pub fn change(&self) -> SlotChange<'_> {
        SlotChange {
            slot: self.slot,
            key: &self.key,
            counters: &self.counters,
            users: self.users,
            buckets: &self.buckets,
        }
    }
}

/// A value that a batch tells whenever it changed.
#[derive(Debug, Default)]
struct Told<T> {
    value: T,
    due: bool,
}

impl<T: PartialEq> Told<T> {
    fn set(&mut self, value: T) {
        if self.value != value {
            self.value = value;
            self.due = true;
        }
    }
}

/// Everything the aggregator is to know of this node.
#[derive(Debug)]
pub struct Report {
    workloads: Interner<Arc<Workload>>,
    addresses: Interner<Address>,
    halves: Halves,
    slots: Slots,
    listeners: Listeners,
    status: Told<v1::NodeStatus>,
    signals: Told<v1::HostSignals>,
    names: Names,
    answers: VecDeque<(Tuple, Option<Arc<Workload>>)>,
    scopes: Scopes,
    translations: translations::Due,
    totals: Encoder,
    increments: Encoder,
    buckets: Vec<BucketRecord>,
    streaming: bool,
    next_seq: u64,
    urgent: bool,
    fold_new: bool,
    folded: u64,
    refused: u64,
}

impl Report {
    /// Knows nothing and has no stream; tells no more than so many halves apart.
    #[must_use]
    pub fn new(max_halves: usize) -> Self {
        Self {
            workloads: Interner::new(),
            addresses: Interner::new(),
            halves: Halves::new(max_halves),
            slots: Slots::default(),
            listeners: Listeners::default(),
            status: Told::default(),
            signals: Told::default(),
            names: Names::default(),
            answers: VecDeque::new(),
            scopes: Scopes::default(),
            translations: translations::Due::default(),
            totals: Encoder::new(),
            increments: Encoder::new(),
            buckets: Vec::new(),
            streaming: false,
            next_seq: 1,
            urgent: false,
            fold_new: false,
            folded: 0,
            refused: 0,
        }
    }

    /// Adds what a slot gained, if its half is known.
    pub fn absorb(&mut self, change: &SlotChange<'_>, now: Instant) -> Absorbed {
        let Some(half) = self.slots.half(change.slot, change.key) else {
            return Absorbed::NeedsWorkload;
        };
        self.add(half, change, now);
        Absorbed::Yes
    }

    /// Adds what a slot gained, for the workload of its owner.
    pub fn absorb_as(&mut self, change: &SlotChange<'_>, workload: &Arc<Workload>, now: Instant) {
        if self.absorb(change, now) == Absorbed::Yes {
            return;
        }
        let Some(half) = self.half_of(change.key, workload, now) else {
            return self.refuse(change, now);
        };
        let before = self.slots.link(change.slot, *change.key, half, now);
        self.count_slots(half, before);
        self.add(half, change, now);
    }

    /// There is no room for a half: what it counts is lost, at least one connection or failure each time. Its slot is given
    /// back like any other.
    pub fn refuse(&mut self, change: &SlotChange<'_>, now: Instant) {
        self.refused = self.refused.saturating_add(happenings(change.counters).max(1));
        self.slots.link(change.slot, *change.key, NOBODY, now);
        self.slots.touch(change.slot, change.users, now);
    }

    /// Whether halves that are not known yet are counted together, although there might be room.
    pub fn fold_new(&mut self, fold: bool) {
        self.fold_new = fold;
    }

    fn half_of(
        &mut self,
        key: &kernel::HalfKey,
        workload: &Arc<Workload>,
        now: Instant,
    ) -> Option<u32> {
        let role = match key.role {
            role::CLIENT => Role::Client,
            role::SERVER => Role::Server,
            _ => return None,
        };
        let workload = self.workloads.acquire(workload);
        let many = HalfKey::folded(workload, role);
        let mut key = if key.is_folded() {
            many
        } else {
            HalfKey {
                local: self.scopes.of_raw(key.local, key.netns_cookie),
                peer: self.scopes.of_raw(key.peer, key.netns_cookie),
                server_port: key.server_port,
                client_port: key.client_port,
                ..many
            }
        };
        let full = self.fold_new || self.halves.is_full();
        if !key.is_folded() && full && self.halves.by_key(&key).is_none() {
            self.folded = self.folded.saturating_add(1);
            key = many;
        }
        let known = self.halves.by_key(&key);
        if known.is_some() || self.halves.is_overfull() {
            let last = self.last_seq();
            self.workloads.release(workload, last);
            return known;
        }
        let (local, peer) = (self.addresses.acquire(&key.local), self.addresses.acquire(&key.peer));
        Some(self.halves.insert(Half::new(key, local, peer, now)))
    }

    fn count_slots(&mut self, linked: u32, before: Option<u32>) {
        if let Some(half) = self.halves.get_mut(linked) {
            half.slots += 1;
        }
        if let Some(half) = before.and_then(|before| self.halves.get_mut(before)) {
            half.slots = half.slots.saturating_sub(1);
        }
    }

    fn add(&mut self, id: u32, change: &SlotChange<'_>, now: Instant) {
        let closed = self.slots.touch(change.slot, change.users, now);
        let Some(half) = self.halves.get_mut(id) else { return };
        half.add(change.counters, change.buckets);
        half.changed = now;
        if half.may_be_translated(change.counters, now) {
            self.translations.wanted = true;
        }
        let failed = Half::has_failed(change.counters);
        self.urgent |= half.defined == 0 || half.alarmed.raise(failed, closed, now);
        self.halves.mark(id);
    }

    /// Slots that nothing uses and that have been quiet for this long.
    #[must_use]
    pub fn quiet_slots(&self, now: Instant, time: Duration) -> Vec<u32> {
        self.slots.quiet(now, time)
    }

    /// Owners that have a slot.
    pub fn owners(&self) -> impl Iterator<Item = u64> {
        self.slots.owners()
    }

    /// The kernel has taken the slot back.
    pub fn slot_freed(&mut self, slot: u32) {
        if let Some(half) = self.slots.unlink(slot).and_then(|half| self.halves.get_mut(half)) {
            half.slots = half.slots.saturating_sub(1);
        }
    }

    /// Finds halves that ended, so many at most; they are retired in the next batch. Names that nothing speaks of any more
    /// are forgotten.
    pub fn expire(&mut self, now: Instant, most: usize) {
        self.halves.expire(now, most);
        self.forget_names(now);
    }

    /// These are all listening sockets now.
    pub fn set_listeners(&mut self, listeners: &[(Arc<Workload>, Address, u64, u16)]) {
        let mut now = HashSet::with_capacity(listeners.len());
        for (workload, address, network_namespace, port) in listeners {
            let workload = self.workloads.acquire(workload);
            let (address, network_namespace) = (*address, *network_namespace);
            if !now.insert(Listener { workload, address, network_namespace, port: *port }) {
                let last = self.last_seq();
                self.workloads.release(workload, last);
            }
        }
        let last = self.last_seq();
        for workload in self.listeners.set(now) {
            self.workloads.release(workload, last);
        }
        self.urgent |= !self.listeners.is_clean();
    }

    /// What the node says of itself.
    pub fn set_status(&mut self, status: v1::NodeStatus) {
        self.status.set(status);
    }

    /// Cumulative histogram of the run-queue latency.
    pub fn set_runqueue(&mut self, buckets: Vec<(u16, u64)>) {
        if buckets.is_empty() {
            return;
        }
        let (buckets, counts) =
            buckets.into_iter().map(|(bucket, count)| (u32::from(bucket), count)).unzip();
        let kind = v1::HostSignalKind::RunqueueLatency.into();
        self.signals
            .set(v1::HostSignals { signals: vec![v1::HostSignal { kind, buckets, counts }] });
    }

    /// Whose a connection was; `None` when this host does not know.
    pub fn answer(&mut self, tuple: Tuple, workload: Option<Arc<Workload>>) {
        if self.streaming && self.answers.len() < MOST_ANSWERS {
            self.answers.push_back((tuple, workload));
            self.urgent = true;
        }
    }

    /// A stream begins. The next batch tells anew what is not in a preface.
    pub fn start(&mut self) {
        self.status.due = true;
        self.signals.due = !self.signals.value.signals.is_empty();
        self.streaming = true;
        self.urgent = true;
    }

    /// The stream ended.
    pub fn stop(&mut self) {
        self.streaming = false;
        self.answers.clear();
    }

    /// Every batch up to this one is taken over for good.
    pub fn acked(&mut self, seq: u64) {
        let last = self.last_seq();
        let (workloads, addresses) = (&mut self.workloads, &mut self.addresses);
        self.halves.acked(seq, |half| {
            workloads.release(half.key.workload, last);
            addresses.release(half.local, last);
            addresses.release(half.peer, last);
        });
    }

    /// No batch up to this one will be sent any more, whether or not it arrived.
    pub fn let_go(&mut self, seq: u64) {
        self.workloads.let_go(seq);
        self.addresses.let_go(seq);
    }

    /// Number of the last batch that was built; 0 for none.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Whether something came in that the next interval would be late for; asking clears it.
    pub fn take_urgent(&mut self) -> bool {
        std::mem::take(&mut self.urgent)
    }

    /// Halves known at the moment.
    #[must_use]
    pub fn halves(&self) -> usize {
        self.halves.len()
    }

    /// Workloads and addresses that have an id.
    #[cfg(test)]
    pub(crate) fn names(&self) -> usize {
        self.workloads.len() + self.addresses.len()
    }

    /// Slots whose half was counted together with others because there were too many.
    #[must_use]
    pub fn folded(&self) -> u64 {
        self.folded
    }

    /// Connections and failures not counted because there was not even room for a half that stands for many.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// Connections and failed attempts in these increments.
fn happenings(counters: &[u64; COUNTERS]) -> u64 {
    const COUNTED: [Counter; 7] = [
        Counter::Connections,
        Counter::Adopted,
        Counter::FailedRefused,
        Counter::FailedTimeout,
        Counter::FailedUnreachable,
        Counter::FailedAborted,
        Counter::FailedLocal,
    ];
    COUNTED.iter().fold(0, |sum, counter| sum.saturating_add(counters[counter.index()]))
}

#[cfg(test)]
mod tests;
