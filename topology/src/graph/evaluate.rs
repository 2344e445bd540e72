//! A tick: links that changed are paired, and what they gained is published.

use std::sync::Arc;

use super::{
    Graph,
    apart::Apart,
    ends::BOTH_FOLDED,
    target::{Target, gains_of, write_off},
};
use crate::{
    base::{time::Timestamp, totals::EdgeTotals},
    count::{
        agreement::{Agreement, Lead},
        edges::{Edge, EdgeKey, Seen},
        half::Half,
        history::Lost,
        link::{Link, LinkIx, LinkKey, Row},
        pairing::{Pairings, Sides},
        parts::Part,
    },
    nodes::NodeIx,
    show::step::{EndedStep, Given, GivenSteps, KnownEdge, KnownEdges, StepEdges},
    who::place::Place,
};

/// What is left to do for a link.
pub(super) struct Next {
    /// It has to be looked at again, whether it changes or not.
    pub(super) again: bool,
    /// There are connections whose owners have to be asked for.
    ask: bool,
}

impl Graph {
    /// Settles and publishes what is due, ends the running step when it is over, and forgets.
    /// To be called about once a second, or less often where nobody looks meanwhile, but soon after the end of each
    /// step; it looks at what changed only.
    pub fn tick(&mut self, now: Timestamp) {
        let now = self.see(now);
        self.ticked_at = now;
        self.behind.forget();
        self.nodes.look_who_is_back(now, self.config.node_return, self.config.catch_up);
        self.take_names();
        for ix in std::mem::take(&mut self.halves.changed) {
            if let Some(half) = self.halves.get_mut(ix) {
                half.changed = false;
                half.changed_at = now;
                self.links.enqueue(half.link);
            }
        }
        for ix in std::mem::take(&mut self.links.queue) {
            if let Some(link) = self.links.get_mut(ix) {
                link.queued = false;
            }
            if self.look_at(ix, now).again {
                self.links.enqueue(ix);
            }
        }
        self.put_late();
        if self.end_step(now) {
            self.expire(now);
            self.turn_cluster(now);
        }
    }

    /// Looks again at links that were left with something open or are new, but for ordinary ones, whose numbers have one
    /// place to go, whenever that is. What has to last for some seconds before it is believed has to be looked at
    /// meanwhile, however seldom ticks are: to be called about once a second where there is no tick.
    pub fn glance(&mut self, now: Timestamp) {
        let now = self.see(now);
        self.behind.forget();
        self.nodes.look_who_is_back(now, self.config.node_return, self.config.catch_up);
        let (one_sided_is_ordinary, queue) =
            (!self.config.watches_cluster, std::mem::take(&mut self.links.queue));
        let mut ordinary = Vec::new();
        for ix in queue {
            let Some(link) = self.links.get_mut(ix) else { continue };
            if link.is_ordinary(one_sided_is_ordinary) {
                ordinary.push(ix);
                continue;
            }
            link.queued = false;
            if self.look_at(ix, now).again {
                self.links.enqueue(ix);
            }
        }
        self.links.queue.append(&mut ordinary);
    }

    /// Evaluates a link.
    pub(super) fn look_at(&mut self, ix: LinkIx, now: Timestamp) -> Next {
        self.looked_at = now;
        if let Some(again) = self.evaluate_pair(ix, now) {
            return Next { again, ask: false };
        }
        let may_open = self.meet_behind(ix, now);
        self.merge_known(ix);
        // Out of its place while it is evaluated: the rest of the graph is needed, too.
        let Some(mut link) = self.links.take(ix) else { return Next { again: false, ask: false } };
        let next = self.evaluate(&mut link, may_open, now);
        self.links.put_back(ix, link);
        if next.ask {
            self.ask(ix, now);
        }
        next
    }

    /// Ends the running step if it is over; returns whether it was.
    fn end_step(&mut self, now: Timestamp) -> bool {
        let hand_over = self.config.hand_over_steps;
        let mut edges = Vec::new();
        if hand_over && self.history.is_step_over(now) {
            edges.reserve_exact(self.edges.running_len());
        }
        let hand_over_edge = |index, edge: &Edge| {
            if hand_over {
                edges.push(KnownEdge { index, key: edge.key, ends: edge.ends });
            }
        };
        let mut parts = Vec::new();
        let hand_over_part = |part: &mut Part| {
            if hand_over {
                let totals = std::mem::take(&mut part.running);
                parts.push((part.edge.index(), part.ends, totals, part.open));
            }
        };
        let ended = self.history.advance(now, &mut self.edges, hand_over_edge, hand_over_part);
        let Some((window, lost, packed)) = ended else { return false };
        if hand_over {
            let number = self.history.next_number();
            self.services.tell_all(&self.nodes);
            let directory = Arc::new(self.directory());
            let edges = StepEdges::known(KnownEdges::of(directory, edges, packed, parts));
            let step = EndedStep { window, lost, edges };
            self.ended.push(Given { number, steps: GivenSteps::Ended(step) });
        }
        true
    }

    /// `may_open` says that some of what its clients have may be with others, of whom nobody tells.
    fn evaluate(&mut self, link: &mut Link, may_open: bool, now: Timestamp) -> Next {
        let mut sides = self.sides(link, now);
        let apart = self.tell_apart(link, &sides, now);
        let next = Next { again: true, ask: sides.asking || apart != Apart::Nothing };
        if link.is_gathering(now) {
            return next;
        }
        let both = !sides.clients.is_empty() && !sides.servers.is_empty() && !sides.has_strangers();
        let old = now.since(link.first_seen) >= self.config.settle_after
            && !self.lacks_a_late_side(link, &sides, now);
        let waits = link.waits_to_fit(&sides, now, self.config.settle_after);
        let settles = !link.settled && !waits && (old || (both && !sides.asking));
        link.settled |= settles;
        if waits || !link.settled {
            return next;
        }
        match may_open {
            true => link.forget_plain(),
            false => link.note_plain(&sides),
        }
        let waits = may_open || (sides.are_shared() && self.awaits(link, now));
        let (lasting, waiting) = self.agree(link, &sides, (settles, waits), now);
        let undivided = self.divide(link, &mut sides, now);
        self.trim_late(link, &sides);
        if link.tied.as_ref().is_some_and(|tied| tied.fresh.is_some()) {
            sides.most = Some(Box::new(sides.most()));
        }
        let pairings = sides.pair(&lasting);
        let is_split = !undivided && !sides.asking;
        let open = waiting || !is_split;
        let folds = !self.publish(link, &sides, pairings, open, now) && link.folded < BOTH_FOLDED;
        if folds {
            self.fold_edges(link);
        }
        Self::settle_late(link, waiting, !is_split);
        let again = open || folds || apart == Apart::Waits;
        Next { again, ..next }
    }

    /// Whether nobody has told of one side, and it is that of a host which has not caught up, or may be after a start: it
    /// may be about to tell who is there, and edges to somebody else would stay.
    fn lacks_a_late_side(&self, link: &Link, sides: &Sides, now: Timestamp) -> bool {
        let patience = self.config.node_return;
        let empty = (sides.clients.is_empty(), sides.servers.is_empty());
        let lags = |key: &LinkKey| {
            let place = match empty {
                (true, false) => key.client,
                (false, true) => key.server,
                _ => return false,
            };
            match self.evidence.host_of(place).and_then(|host| self.nodes.get(host)) {
                Some(host) => host.lags(now, patience),
                None => place != Place::Other && self.nodes.coming_back(),
            }
        };
        now.since(link.first_seen) < self.config.catch_up && link.keys().any(lags)
    }

    /// Splits what servers counted for several clients together, and tells whether there is more.
    fn divide(&self, link: &mut Link, sides: &mut Sides, now: Timestamp) -> bool {
        if sides.wholes.is_empty() {
            if link.tied.is_some() {
                // What it said before is published.
                link.split = None;
            }
            return false;
        }
        let key = |row: &Row| self.edges.get(row.edge).map(|edge| edge.key);
        let published =
            link.rows.iter().filter_map(|row| Some((key(row)?, self.edges.published(row))));
        let long = if self.awaits(link, now) {
            self.config.node_return
        } else {
            self.config.agree_for.saturating_mul(2)
        };
        link.split.get_or_insert_default().advance(sides, published, now, long)
    }

    /// What of the sides' disagreement counts, and whether there is more of it. None does while it `waits`.
    fn agree(
        &self,
        link: &mut Link,
        sides: &Sides,
        (settles, waits): (bool, bool),
        now: Timestamp,
    ) -> (Lead, bool) {
        let Some(lead) = sides.lead().filter(|lead| *lead != Lead::default()) else {
            link.agreement = None;
            return (Lead::default(), false);
        };
        if waits {
            let fresh = link.agreement.as_ref().is_some_and(|old| old.seen_before().is_some());
            let agreement = Agreement::new(lead, now, settles || fresh);
            link.agreement = Some(Box::new(agreement));
            return (Lead::default(), true);
        }
        let new = || Box::new(Agreement::new(lead, now, settles));
        let agreement = link.agreement.get_or_insert_with(new);
        let lasting = agreement.lasting(lead, now, self.config.agree_for);
        (lasting, lasting != lead)
    }

    /// Whether one of a link's hosts has been gone for so short a time that it may be about to say what it counted.
    fn awaits(&self, link: &Link, now: Timestamp) -> bool {
        let halves = link.halves.iter().filter_map(|ix| self.halves.get(*ix));
        halves.filter(|half| half.ended.is_none()).any(|half| {
            self.nodes.get(half.node()).is_some_and(|node| {
                !node.connected() && now.since(node.left_at) < self.config.node_return
            })
        })
    }

    /// The next time, the link's edges are folded further.
    fn fold_edges(&mut self, link: &mut Link) {
        link.folded += 1;
        if link.folded > 1 {
            return;
        }
        self.edges.folded += 1;
        self.history.lose(Lost { folded: 1, ..Lost::default() });
        if let Some(node) = self.node_of(link).and_then(|node| self.nodes.get_mut(node)) {
            node.folded.edges += 1;
        }
    }

    /// The node on whose behalf a link is there.
    pub(super) fn node_of(&self, link: &Link) -> Option<NodeIx> {
        link.halves.iter().find_map(|ix| self.halves.get(*ix)).map(Half::node)
    }

    /// Publishes what was gained; returns whether there was room for all of it. `open` says that there is more, which
    /// waits for the other side, or to be told apart.
    fn publish(
        &mut self,
        link: &mut Link,
        sides: &Sides,
        found: Pairings,
        open: bool,
        now: Timestamp,
    ) -> bool {
        let node = self.node_of(link).unwrap_or_default();
        let mut room = true;
        let limits = found.limits;
        let mut targets = self.targets(link, sides, found.pairings);
        let mut at = 0;
        targets.retain(|target| {
            at += 1;
            if at <= link.rows.len() {
                return true;
            }
            let ends = target.ends.unwrap_or_default();
            let row = self.edges.refer((target.key, ends), &self.services, node, now);
            let is_there = row.is_some();
            room &= is_there;
            // Nearly all links have one row for good.
            link.rows.reserve_exact(1);
            link.rows.extend(row);
            is_there
        });
        if let Some(tied) = &mut link.tied
            && tied.fresh.take().is_some()
            && let Some(most) = &sides.most
        {
            write_off((&mut link.rows, &mut self.edges), &targets, most);
        }
        let gains = gains_of((&link.rows, &self.edges), &targets, &limits);
        for ((row, gain), target) in link.rows.iter_mut().zip(&gains).zip(&targets) {
            if let Some(ends) = target.ends {
                self.edges.place(row, ends, now);
            }
            let published = self.edges.published(row);
            if open && sides.are_shared() && target.is_in_question(published, gain) {
                continue;
            }
            if !gain.is_zero() {
                self.edges.publish(row, gain);
                match &mut link.late {
                    None => self.edges.gain(row, gain, target.seen, now),
                    Some(late) => {
                        self.gain_late(late, row, target.key, gain, target.seen, now);
                    }
                }
            }
            let was = std::mem::replace(&mut row.open, target.open);
            self.edges.set_open(row, was, target.open);
        }
        if link.rows.len() > 1 {
            let feeds = |target: &Target| target.open > 0 || !target.totals.is_zero();
            let feeds: Vec<_> = targets.iter().map(feeds).collect();
            self.fold_rows(link, &feeds);
        }
        room
    }

    /// What a settled link is about to publish of what it showed while it was pending.
    pub(crate) fn seen_before(
        &mut self,
        ix: LinkIx,
        now: Timestamp,
    ) -> Vec<(EdgeKey, EdgeTotals, Seen)> {
        // Out of its place while it is looked at, as in a tick.
        let Some(link) = self.links.take(ix) else { return Vec::new() };
        let mut seen = Vec::new();
        if let Some(lead) = link.agreement.as_ref().and_then(|agreement| agreement.seen_before()) {
            let mut sides = self.sides(&link, now);
            let found = sides.pair(lead);
            let targets = self.targets(&link, &sides, found.pairings);
            let gains = gains_of((&link.rows, &self.edges), &targets, &found.limits);
            let gains = targets.into_iter().zip(gains).filter(|(_, gain)| !gain.is_zero());
            seen.extend(gains.map(|(target, gain)| (target.key, gain, target.seen)));
        }
        self.links.put_back(ix, link);
        seen
    }
}
