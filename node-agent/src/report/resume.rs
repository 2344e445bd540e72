//! Going on where an earlier process of the session was killed.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use common::kernel;
use topology::model::HalfKey;

use super::{Report, half::Half, halves::Retiring};
use crate::{
    ledger::{Key, Link, Past, Values},
    source::SlotChange,
};

impl Report {
    /// The report as the process before left it, but for what slots count: that comes with the first look, and then
    /// [`pass_over`](Self::pass_over).
    #[must_use]
    pub fn resume(past: &Past, max_halves: usize, now: Instant) -> Self {
        let mut report = Self { next_seq: past.last_seq + 1, ..Self::new(max_halves) };
        let mut retiring: VecDeque<Retiring> = VecDeque::new();
        for (seq, key, values) in &past.retired {
            let mut half = report.kept(key, values, now);
            for id in [half.local, half.peer] {
                report.addresses.define(id);
            }
            report.workloads.define(half.key.workload);
            half.sent(*seq);
            half.retired = *seq;
            let id = report.halves.insert_retired(half);
            match retiring.back_mut().filter(|last| last.seq == *seq) {
                Some(last) => last.halves.push(id),
                None => retiring.push_back(Retiring { seq: *seq, halves: vec![id] }),
            }
        }
        report.halves.resume(retiring, past.processes);
        for (key, values) in &past.live {
            let half = report.kept(key, values, now);
            let id = report.halves.insert_known(half);
            report.halves.mark(id);
        }
        report
    }

    /// Everything that is known so far is told by prefaces alone, as of a batch that nobody writes. Of totals in a preface,
    /// which the aggregator knows to be told again, it takes what it lacks, also where it does not keep halves apart. Returns the
    /// number of that batch.
    pub fn pass_over(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        for id in self.halves.take_dirty() {
            let Some(half) = self.halves.get_mut(id) else { continue };
            half.sent(seq);
            self.workloads.define(half.key.workload);
            self.addresses.define(half.local);
            self.addresses.define(half.peer);
        }
        seq
    }

    fn kept(&mut self, key: &Key, values: &Values, now: Instant) -> Half {
        let workload = self.workloads.acquire(&key.workload);
        let (local, peer) = (self.addresses.acquire(&key.local), self.addresses.acquire(&key.peer));
        let key = HalfKey {
            workload,
            local: key.local,
            peer: key.peer,
            server_port: key.server_port,
            client_port: key.client_port,
            role: key.role,
        };
        let mut half = Half::new(key, local, peer, now);
        half.birth = values.birth;
        let buckets: Vec<_> =
            values.buckets.iter().map(|((kind, bucket), count)| (*kind, *bucket, *count)).collect();
        half.add(&values.counters, &buckets);
        half
    }

    /// Adds what a slot gained, as part of the half that it was reported as before.
    pub fn absorb_into(&mut self, change: &SlotChange<'_>, link: &Link, now: Instant) {
        let values = Values { birth: link.birth, ..Values::default() };
        let fresh = self.kept(&link.half, &values, now);
        let id = match self.halves.by_key(&fresh.key) {
            Some(id) => {
                let last = self.last_seq();
                self.workloads.release(fresh.key.workload, last);
                self.addresses.release(fresh.local, last);
                self.addresses.release(fresh.peer, last);
                id
            }
            None => self.halves.insert_known(fresh),
        };
        let before = self.slots.link(change.slot, *change.key, id, now);
        self.count_slots(id, before);
        self.add(id, change, now);
    }

    /// The half that a slot counts for.
    #[must_use]
    pub fn link_of_slot(&self, slot: u32, key: &kernel::HalfKey) -> Option<Link> {
        let half = self.halves.get(self.slots.half(slot, key)?)?;
        Some(Link { owner: key.owner, half: self.half_key(half)?, birth: half.birth })
    }

    /// Halves that the batch with this number retires.
    #[must_use]
    pub fn retired_by(&self, seq: u64) -> Vec<Key> {
        self.halves.retired_by(seq).filter_map(|half| self.half_key(half)).collect()
    }

    fn half_key(&self, half: &Half) -> Option<Key> {
        let workload = Arc::clone(self.workloads.get(half.key.workload)?);
        let HalfKey { local, peer, server_port, client_port, role, .. } = half.key;
        Some(HalfKey { workload, local, peer, server_port, client_port, role })
    }
}
