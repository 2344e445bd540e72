//! Where there is no room: what counts together then, and how it stays exact.
//!
//! A half that its node has no room for is *folded*: it gets no entry of its own, and what it counts goes to one
//! half for all folded ones of its workload and role, whose peers are `other`. Increments are added as they
//! come. Totals, which a stream tells again after it has lost its place, are told of each, so the folded half
//! must be their sum: what those had counted that ended, and what the stream says of those that are live.

use common::{Counter, HistogramKind};

use super::Graph;
use crate::{
    base::time::Timestamp,
    count::{
        half::{Again, Half, HalfIx},
        history::Lost,
        link::LinkKey,
    },
    error::DefineError,
    model::{HalfKey, Role},
    nodes::NodeIx,
    who::{place::Place, services::WorkloadIx},
};

/// The cause under which it is counted that totals of folded halves do not add up: fewer than were counted before.
const UNCLEAR: &str = "aggregator_folded_unclear";

/// What a total of a folded half is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// All that a new half has counted.
    First,
    /// What a live half has counted, some or all of which may be known.
    Again,
    /// What a half had counted when it ended. Where a stream tells again, it was told again just before.
    Last,
}

impl Graph {
    /// Opens a half, or goes on with it, of which a stream tells anew what it has counted before. Where halves
    /// of its workload and role were folded, one that is not known was one of them.
    ///
    /// # Errors
    /// As [`open_half`](Self::open_half).
    pub fn open_half_again(
        &mut self,
        ix: NodeIx,
        key: HalfKey<WorkloadIx>,
        birth: u64,
        now: Timestamp,
    ) -> Result<HalfIx, DefineError> {
        let epoch = self.nodes.get(ix).ok_or(DefineError::UnknownNode)?.life.epoch;
        let known = self.halves.find(&(ix, epoch, key)).is_some();
        let folded = self.halves.find(&(ix, epoch, key_of_many(key.workload, key.role)));
        match folded {
            Some(_) if !known && !key.is_folded() => {
                self.open(ix, key_of_many(key.workload, key.role), 0, now)
            }
            _ => self.open_half(ix, key, birth, now),
        }
    }

    /// Whether what this half counts is that of many.
    #[must_use]
    pub fn is_folded(&self, half: HalfIx) -> bool {
        self.halves.get(half).is_some_and(|half| is_ours(&half.id.2))
    }

    /// A total of one of the halves that this one stands for.
    pub fn tell_folded(&mut self, half: HalfIx, telling: Telling, counter: Counter, total: u64) {
        match telling {
            Telling::First => self.halves.add(half, counter, total),
            Telling::Again => {
                let told = &mut self.halves.told.entry(half).or_default().all.0[counter.index()];
                *told = told.saturating_add(total);
            }
            Telling::Last => {
                let counts = match self.halves.told.get_mut(&half) {
                    Some(told) => Some(&mut told.ended),
                    None => self.halves.before_mut(half),
                };
                if let Some(counts) = counts {
                    let ended = &mut counts.0[counter.index()];
                    *ended = ended.saturating_add(total);
                }
            }
        }
    }

    /// The same of a bucket.
    pub fn tell_folded_bucket(
        &mut self,
        half: HalfIx,
        telling: Telling,
        kind: HistogramKind,
        bucket: u16,
        total: u64,
    ) {
        match telling {
            Telling::First => self.halves.add_bucket(half, kind, bucket, total),
            Telling::Again => {
                let told = self.halves.told.entry(half).or_default();
                told.all.1[kind.index()].add(bucket, total);
            }
            Telling::Last => {
                let counts = match self.halves.told.get_mut(&half) {
                    Some(told) => Some(&mut told.ended),
                    None => self.halves.before_mut(half),
                };
                if let Some(counts) = counts {
                    counts.1[kind.index()].add(bucket, total);
                }
            }
        }
    }

    /// Everything that has a number of its own was told again of a node's folded halves: what ended with some batch, or all that
    /// are live. Their sums are what they have counted.
    pub fn conclude_folded(&mut self, node: NodeIx) {
        let mut unclear = false;
        for ix in self.halves.told_of(node) {
            let Some(told) = self.halves.told.remove(&ix) else { continue };
            let Again { all, ended } = *told;
            for counter in Counter::ALL {
                self.halves.set_total(ix, counter, all.0[counter.index()]);
            }
            for kind in HistogramKind::ALL {
                for (bucket, total) in all.1[kind.index()].iter() {
                    self.halves.set_bucket_total(ix, kind, bucket, total);
                }
            }
            // Those that are live are told of together.
            let live = all.0 != ended.0;
            let less = |half: &Half| {
                Counter::ALL.into_iter().any(|counter| {
                    let told = half.counted_before(counter).saturating_add(all.0[counter.index()]);
                    half.total(counter) > told
                })
            };
            unclear |= live && self.halves.get(ix).is_some_and(less);
            // Those that ended are not told of again.
            let Some(before) = self.halves.before_mut(ix) else { continue };
            for (before, ended) in before.0.iter_mut().zip(ended.0) {
                *before = before.saturating_add(ended);
            }
            for (before, ended) in before.1.iter_mut().zip(&ended.1) {
                for (bucket, count) in ended.iter() {
                    before.add(bucket, count);
                }
            }
        }
        if unclear {
            self.add_loss(node, UNCLEAR, 1);
        }
    }

    /// What was told again of a node's folded halves, but not to the end, is told once more or not at all.
    pub fn end_telling(&mut self, node: NodeIx) {
        for ix in self.halves.told_of(node) {
            self.halves.told.remove(&ix);
        }
    }

    /// Opens what counts for halves there is no room for, and notes that there is one more of them.
    ///
    /// # Errors
    /// As [`open_half`](Self::open_half).
    pub fn fold_half(
        &mut self,
        ix: NodeIx,
        workload: WorkloadIx,
        role: Role,
        now: Timestamp,
    ) -> Result<HalfIx, DefineError> {
        self.halves_folded += 1;
        self.history.lose(Lost { folded: 1, ..Lost::default() });
        if let Some(node) = self.nodes.get_mut(ix) {
            node.folded.halves += 1;
        }
        self.open(ix, key_of_many(workload, role), 0, now)
    }
}

/// Where a folded half counts: with `other`, by its own side.
pub(super) fn link_of(node: NodeIx, role: Role) -> LinkKey {
    let (own, other) = (Place::Unchosen { node }, Place::Other);
    match role {
        Role::Client => LinkKey { client: own, server: other, server_port: 0 },
        Role::Server => LinkKey { client: other, server: own, server_port: 0 },
    }
}

/// Apart from what agents fold themselves: that is one half to them, with totals of its own.
fn key_of_many(workload: WorkloadIx, role: Role) -> HalfKey<WorkloadIx> {
    HalfKey { client_port: 1, ..HalfKey::folded(workload, role) }
}

fn is_ours(key: &HalfKey<WorkloadIx>) -> bool {
    key.is_folded() && key.client_port == 1
}
