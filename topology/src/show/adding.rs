//! Adds up what edges had in steps.

use std::{collections::HashMap, sync::Arc};

use super::{pending::Pending, view::SeenBy};
use crate::{
    base::{
        arena::Arena,
        id::Id,
        totals::{EdgeTotals, Measure},
    },
    count::{
        edges::{Edge, EdgeKey, Seen},
        history::Packed,
        packed::{Packer, Unpacker},
    },
    model::WorkloadKind,
    who::services::Service,
};

/// An edge while its parts are added up.
pub(super) struct Sum {
    pub(super) key: EdgeKey,
    /// Unless it was never published.
    pub(super) id: Option<Id>,
    /// The place of the edge, if it was.
    pub(super) place: usize,
    pub(super) totals: EdgeTotals,
    pub(super) seen: Seen,
    pub(super) open: u64,
    /// Nothing of it was published.
    pub(super) pending: bool,
    /// There are samples that may not be in its totals yet.
    sampled: bool,
}

impl Sum {
    fn new(key: EdgeKey, id: Option<Id>) -> Self {
        Sum {
            key,
            id,
            place: usize::MAX,
            totals: EdgeTotals::default(),
            seen: Seen::default(),
            open: 0,
            pending: id.is_none(),
            sampled: false,
        }
    }

    /// Whether it moved anything in the window or has a connection open at its end.
    pub(super) fn is_shown(&self) -> bool {
        self.open > 0 || self.sampled || !self.totals.is_zero()
    }

    /// Whether only one side has seen it, although the other is covered.
    pub(super) fn is_one_sided(&self, services: &Arena<Service>) -> bool {
        let connected = self.open > 0 || self.totals.get(Measure::Connections) > 0;
        let ends = (services.get(self.key.0), services.get(self.key.1));
        let ((Some(client), Some(server)), true) = (ends, connected && !self.pending) else {
            return false;
        };
        let missing = match SeenBy::of(self.seen) {
            SeenBy::Both => return false,
            SeenBy::Client => server,
            SeenBy::Server => client,
        };
        !matches!(missing.kind, WorkloadKind::External | WorkloadKind::Other)
    }
}

/// An edge that may have a sum.
struct Known {
    key: EdgeKey,
    id: Id,
    /// Which, if it has one.
    sum: Option<u32>,
}

/// Everything that was added up.
pub(super) struct Added {
    pub(super) sums: Vec<Sum>,
    /// By the place of the edge.
    known: Vec<Option<Known>>,
    /// What was added up, but for the running step.
    packed: Vec<Arc<[u8]>>,
    /// What edges gained in the running step, and have open.
    running: Option<Arc<[u8]>>,
}

impl Added {
    /// Nothing yet, of these edges.
    pub(super) fn new(edges: &Arena<Edge>, running: bool) -> Self {
        let mut known: Vec<Option<Known>> = Vec::new();
        known.resize_with(edges.places(), || None);
        let mut packer = Packer::default();
        for (ix, edge) in edges.iter() {
            if let Some(known) = known.get_mut(ix.index()) {
                *known = Some(Known { key: edge.key, id: edge.id, sum: None });
            }
            if running && edge.is_running() {
                packer.put(ix.index(), &edge.running, edge.seen, edge.open);
            }
        }
        let running = running.then(|| packer.finish().into());
        Added { sums: Vec::new(), known, packed: Vec::new(), running }
    }

    /// Adds all steps, but for samples: the sum of those before the last, the last, and the running one.
    pub(super) fn add(&mut self, before: Arc<[u8]>, last: Vec<Packed>) {
        self.packed.push(before);
        self.packed.extend(last.into_iter().map(|step| step.bytes));
        self.packed.extend(self.running.take());
        for (at, bytes) in self.packed.iter().enumerate() {
            let mut unpacker = Unpacker::new(bytes);
            while let Some(head) = unpacker.head() {
                let known = self.known.get_mut(head.index).and_then(Option::as_mut);
                let Some(Known { key, id, sum }) = known else {
                    let passed = unpacker.pass_values(&head);
                    if passed.and_then(|()| unpacker.pass_samples(&head)).is_none() {
                        break;
                    }
                    continue;
                };
                let sum = *sum.get_or_insert_with(|| {
                    self.sums.push(Sum { place: head.index, ..Sum::new(*key, Some(*id)) });
                    self.sums.len() as u32 - 1
                });
                let Some(sum) = self.sums.get_mut(sum as usize) else { continue };
                sum.seen.merge(head.seen);
                sum.open = if at > 0 { head.open } else { sum.open };
                sum.sampled |= head.has_samples();
                let added = unpacker.add_values(&head, &mut sum.totals);
                if added.and_then(|()| unpacker.pass_samples(&head)).is_none() {
                    break;
                }
            }
        }
    }

    /// Adds what is shown before it is published.
    pub(super) fn add_pending(&mut self, pending: Vec<Pending>) {
        if pending.is_empty() {
            return;
        }
        let sums = &mut self.sums;
        let mut by_key: HashMap<EdgeKey, usize> =
            sums.iter().enumerate().map(|(at, sum)| (sum.key, at)).collect();
        for Pending { key, totals, seen, open } in pending {
            let at = *by_key.entry(key).or_insert_with(|| {
                sums.push(Sum::new(key, None));
                sums.len() - 1
            });
            if let Some(sum) = sums.get_mut(at) {
                sum.totals.merge(&totals);
                sum.seen.merge(seen);
                sum.open = sum.open.saturating_add(open);
            }
        }
    }

    /// Adds the samples of all steps: those of a sum, by where it was among all, to the one of `to` that `place` says.
    pub(super) fn add_samples<T>(
        &self,
        to: &mut [T],
        place: impl Fn(usize) -> Option<usize>,
        totals: impl Fn(&mut T) -> &mut EdgeTotals,
    ) {
        for bytes in &self.packed {
            let mut unpacker = Unpacker::new(bytes);
            while let Some(head) = unpacker.head() {
                let known = self.known.get(head.index).and_then(Option::as_ref);
                let sum = known.and_then(|known| known.sum);
                let at = sum.and_then(|sum| place(sum as usize));
                let passed = unpacker.pass_values(&head);
                let added = passed.and_then(|()| match at.and_then(|at| to.get_mut(at)) {
                    Some(one) => unpacker.add_samples(&head, totals(one)),
                    None => unpacker.pass_samples(&head),
                });
                if added.is_none() {
                    break;
                }
            }
        }
    }

    /// The sums, with the samples of all steps.
    pub(super) fn whole(mut self) -> Vec<Sum> {
        let mut sums = std::mem::take(&mut self.sums);
        self.add_samples(&mut sums, Some, |sum| &mut sum.totals);
        sums
    }

    /// Those that are to be shown.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Sum> {
        self.sums.iter().filter(|sum| sum.is_shown())
    }
}
