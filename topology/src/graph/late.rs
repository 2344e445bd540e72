//! Batches that come late: their gains are placed in the steps of which they tell.
//!
//! A late batch is a tick of its own: what other batches brought before it is evaluated first, then what it brings
//! itself, and the gains that follow from it go to its step (`count/late.rs` has how). Batches that come in
//! time have no part in this.

use std::{collections::HashMap, sync::Arc};

use common::COUNTERS;

use super::Graph;
use crate::{
    base::{histogram::Histogram, time::Timestamp, totals::EdgeTotals},
    count::{
        edges::{EdgeKey, Seen},
        half::HalfIx,
        link::{Link, LinkIx, Row},
        packed::Packer,
        pairing::Sides,
    },
    show::step::{EndedStep, Given, GivenSteps, KnownEdge, KnownEdges, StepEdges},
};

/// A batch that tells of a step that is over, while it is added.
pub struct LateBatch {
    step: Timestamp,
    /// What the halves in it had counted before.
    before: HashMap<HalfIx, Before>,
}

type Before = Box<([u64; COUNTERS], [Histogram; common::HISTOGRAMS])>;

impl Graph {
    /// The moment up to which a batch tells, by the aggregator's clock, given how long ago its agent says that
    /// was: not before the graph began, nor before what its node has told already.
    #[must_use]
    pub fn moment(
        &self,
        node: crate::NodeIx,
        age: std::time::Duration,
        now: Timestamp,
    ) -> Timestamp {
        let now = now.max(self.clock);
        let told = self.nodes.get(node).and_then(|node| node.told.until()).unwrap_or_default();
        now.minus(age).max(self.history.first()).max(told).min(now)
    }

    /// Begins a batch that tells up to a moment; `None` when that is in time, and there is nothing more to do
    /// about it. Else every half that the batch changes is to be [noted](LateBatch::note) before, and the batch to be
    /// [ended](Self::end_late).
    pub fn begin_late(&mut self, moment: Timestamp, now: Timestamp) -> Option<LateBatch> {
        let now = self.see(now);
        let step = self.history.step_of(moment, now)?;
        let changed = self.changed_links(now);
        self.look_at_all(changed, now);
        Some(LateBatch { step, before: HashMap::new() })
    }

    /// Ends a late batch: what it brought is published, or noted until it can be.
    pub fn end_late(&mut self, batch: LateBatch, now: Timestamp) {
        let now = self.see(now);
        for ix in &self.halves.changed {
            let (Some(half), Some(before)) = (self.halves.get(*ix), batch.before.get(ix)) else {
                continue;
            };
            let (mut was, mut is) = (EdgeTotals::default(), EdgeTotals::default());
            was.add_half(half.role(), &before.0, &before.1);
            is.add_half(half.role(), &half.counters, &half.histograms);
            if let (Some(gained), Some(link)) = (is.less(&was), self.links.get_mut(half.link)) {
                let late = link.late.get_or_insert_default();
                late.add(half.role(), half.service, batch.step, &gained);
            }
        }
        let changed = self.changed_links(now);
        self.telling_of = Some(batch.step);
        self.look_at_all(changed, now);
        self.telling_of = None;
    }

    /// Links of halves that have changed, which then count as looked at.
    fn changed_links(&mut self, now: Timestamp) -> Vec<LinkIx> {
        let mut links = Vec::new();
        for ix in std::mem::take(&mut self.halves.changed) {
            if let Some(half) = self.halves.get_mut(ix) {
                half.changed = false;
                half.changed_at = now;
                links.push(half.link);
            }
        }
        links.sort_unstable();
        links.dedup();
        links
    }

    fn look_at_all(&mut self, links: Vec<LinkIx>, now: Timestamp) {
        self.behind.forget();
        for ix in links {
            let next = self.look_at(ix, now);
            if next.again {
                self.links.enqueue(ix);
            }
        }
    }

    /// Forgets what is noted of a link that the other side had told in time.
    pub(super) fn trim_late(&self, link: &mut Link, sides: &Sides) {
        if let Some(late) = &mut link.late {
            late.trim(sides, &link.rows, &self.edges);
        }
    }

    /// Forgets what is noted of a link once it cannot be published any more; `waiting` says that one side waits for
    /// the other, `holding` that nothing of it is certain yet.
    pub(super) fn settle_late(link: &mut Link, waiting: bool, holding: bool) {
        let Some(late) = &mut link.late else { return };
        if !holding {
            late.keep_shared();
        }
        if !(waiting || holding) || late.is_empty() {
            link.late = None;
        }
    }

    /// Publishes a gain of a link of which something came late.
    pub(super) fn gain_late(
        &mut self,
        late: &mut crate::count::late::Late,
        row: &Row,
        key: EdgeKey,
        gain: &EdgeTotals,
        seen: Seen,
        now: Timestamp,
    ) {
        let mut before = EdgeTotals::default();
        for (step, part) in late.take((key.0, key.1), gain) {
            if self.history.gain(step, row, &part, seen) {
                before.merge(&part);
                self.edges.gain_before(row, &part, now);
            }
        }
        // What is placed is never more than the gain.
        let rest = gain.less(&before).unwrap_or_default();
        if !rest.is_zero() {
            self.edges.gain(row, &rest, seen, now);
        }
    }

    /// Puts what came late since the last tick into the steps it belongs to.
    pub(super) fn put_late(&mut self) {
        let (late, mut late_parts) = self.history.put_late();
        if late.is_empty() || !self.config.hand_over_steps {
            return;
        }
        let length = self.history.step();
        let mut steps = Vec::new();
        for (from, gained) in late {
            let (mut edges, mut packer) = (Vec::new(), Packer::default());
            for (ix, (totals, seen)) in gained {
                if let Some(edge) = self.edges.get(ix) {
                    let index = ix.index();
                    edges.push(KnownEdge { index, key: edge.key, ends: edge.ends });
                    packer.put(index, &totals, seen, 0);
                }
            }
            let window = crate::Window { from, to: from.plus(length) };
            let parts = late_parts.remove(&from).unwrap_or_default().into_iter();
            let parts = parts.filter_map(|(ix, totals)| {
                let part = self.edges.parts.get(ix)?;
                Some((part.edge.index(), part.ends, totals, 0))
            });
            steps.push((window, edges, packer.finish(), parts.collect()));
        }
        self.services.tell_all(&self.nodes);
        let directory = Arc::new(self.directory());
        let steps = steps.into_iter().map(|(window, edges, packed, parts)| {
            let edges = KnownEdges::of(Arc::clone(&directory), edges, packed.into(), parts);
            let (lost, edges) = (crate::Lost::default(), StepEdges::known(edges));
            EndedStep { window, lost, edges }
        });
        let steps = steps.collect();
        let number = self.history.next_number();
        self.ended.push(Given { number, steps: GivenSteps::Late(steps) });
    }
}

impl LateBatch {
    /// Notes what a half has counted before the batch.
    pub fn note(&mut self, graph: &Graph, half: HalfIx) {
        if let Some(known) = graph.halves.get(half) {
            let before = || Box::new((known.counters, known.histograms.clone()));
            self.before.entry(half).or_insert_with(before);
        }
    }
}
