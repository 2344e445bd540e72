//! A tick: links that changed are paired, and what they gained is published.

use common::HistogramKind;

use super::{Graph, ends::BOTH_FOLDED};
use crate::{
    base::{
        time::Timestamp,
        totals::{EdgeTotals, Measure},
    },
    count::{
        agreement::{Agreement, Lead},
        edges::{EdgeKey, Seen},
        gains::{Change, gains},
        half::Half,
        history::Lost,
        link::{Link, LinkIx, LinkKey, Row},
        most::Most,
        pairing::{Pairing, Pairings, Sides},
        parts::Ends,
    },
    nodes::NodeIx,
    show::step::{EndedStep, Given, GivenSteps, StepEdge},
    who::place::Place,
};

/// What is left to do for a link.
pub(super) struct Next {
    /// It has to be looked at again, whether it changes or not.
    pub(super) again: bool,
    /// There are connections whose owners have to be asked for.
    ask: bool,
}

/// What a row is to come to.
struct Target {
    key: EdgeKey,
    totals: EdgeTotals,
    open: u64,
    seen: Seen,
    /// Between whom; `None` when nobody is at the link any more.
    ends: Option<Ends>,
}

/// What each row gains; one that is not there yet has nothing published.
fn gains_of(
    rows: &[Row],
    targets: &[Target],
    limits: &[u64; Measure::SHARED.len()],
) -> Vec<EdgeTotals> {
    let nothing = EdgeTotals::default();
    let published = rows.iter().map(|row| &row.published).chain(std::iter::repeat(&nothing));
    let changes: Vec<_> = targets
        .iter()
        .zip(published)
        .map(|(Target { key, totals, .. }, published)| Change {
            ends: (key.0, key.1),
            published,
            target: totals,
        })
        .collect();
    gains(&changes, limits)
}

/// Two links were one all the time: what each has published of the same connections by itself is not owed twice. It is
/// published beyond what the link can come to; what is below that may be waiting to be told apart.
fn write_off(rows: &mut [Row], targets: &[Target], most: &Most) {
    let targets = || targets.iter().take(rows.len()).map(|target| &target.totals);
    let all_published: EdgeTotals = sum(rows.iter().map(|row| &row.published));
    let mut cuts: Vec<EdgeTotals> = rows.iter().map(|row| row.published.clone()).collect();
    for measure in Measure::ALL {
        let mut owed = all_published.get(measure).saturating_sub(most.measures[measure.index()]);
        for (cut, target) in cuts.iter_mut().zip(targets()) {
            let published = cut.get(measure);
            let less = published.saturating_sub(target.get(measure)).min(owed);
            owed -= less;
            cut.limit(measure, published - less);
        }
    }
    for kind in HistogramKind::ALL {
        let published = all_published.histogram(kind).count();
        let mut owed = published.saturating_sub(most.samples[kind.index()]);
        for (cut, target) in cuts.iter_mut().zip(targets()) {
            let beyond = cut.histogram(kind).beyond(target.histogram(kind), owed);
            owed -= beyond.count();
            let kept = cut.histogram(kind).beyond(&beyond, u64::MAX);
            *cut.histogram_mut(kind) = kept;
        }
    }
    for (row, cut) in rows.iter_mut().zip(cuts) {
        row.published = cut;
    }
}

fn sum<'a>(all: impl Iterator<Item = &'a EdgeTotals>) -> EdgeTotals {
    let mut sum = EdgeTotals::default();
    all.for_each(|totals| sum.merge(totals));
    sum
}

impl Graph {
    /// Settles and publishes what is due, ends the running step when it is over, and forgets.
    /// To be called about once a second, or less often where nobody looks meanwhile, but soon after the end of each
    /// step; it looks at what changed only.
    pub fn tick(&mut self, now: Timestamp) {
        let now = self.see(now);
        self.ticked_at = now;
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

    /// Evaluates a link.
    pub(super) fn look_at(&mut self, ix: LinkIx, now: Timestamp) -> Next {
        if let Some(again) = self.evaluate_pair(ix, now) {
            return Next { again, ask: false };
        }
        self.meet_behind(ix, now);
        self.merge_known(ix);
        // Out of its place while it is evaluated: the rest of the graph is needed, too.
        let Some(mut link) = self.links.take(ix) else { return Next { again: false, ask: false } };
        let next = self.evaluate(&mut link, now);
        self.links.put_back(ix, link);
        if next.ask {
            self.ask(ix, now);
        }
        next
    }

    /// Ends the running step if it is over; returns whether it was.
    fn end_step(&mut self, now: Timestamp) -> bool {
        let hand_over = self.config.hand_over_steps;
        let (services, nodes) = (&mut self.services, &self.nodes);
        let mut edges = Vec::new();
        let ended = self.history.advance(now, &mut self.edges, |edge| {
            let ends =
                (services.view_node(edge.key.0, nodes), services.view_node(edge.key.1, nodes));
            if let (true, (Some(source), Some(target))) = (hand_over, ends) {
                edges.push(StepEdge {
                    id: edge.id,
                    source,
                    target,
                    server_port: edge.key.2,
                    seen: edge.seen,
                    connections_open: edge.open,
                    totals: std::mem::take(&mut edge.running),
                });
            }
        });
        let Some((window, lost)) = ended else { return false };
        if hand_over {
            let number = self.history.next_number();
            let step = EndedStep { window, lost, edges };
            self.ended.push(Given { number, steps: GivenSteps::Ended(step) });
        }
        true
    }

    fn evaluate(&mut self, link: &mut Link, now: Timestamp) -> Next {
        let mut sides = self.sides(link, now);
        let apart = self.tell_apart(link, &sides, now);
        let next = Next { again: true, ask: sides.asking || apart };
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
        link.note_plain(&sides);
        let (lasting, waiting) = self.agree(link, &sides, settles, now);
        let undivided = self.divide(link, &mut sides, now);
        self.trim_late(link, &sides);
        if link.tied.as_ref().is_some_and(|tied| tied.fresh.is_some()) {
            sides.most = Some(Box::new(sides.most()));
        }
        let pairings = sides.pair(&lasting);
        let folds = !self.publish(link, &sides, pairings, now) && link.folded < BOTH_FOLDED;
        if folds {
            self.fold_edges(link);
        }
        Self::settle_late(link, waiting, undivided || sides.asking);
        Next { again: waiting || undivided || sides.asking || folds, ..next }
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
        let published = link.rows.iter().filter_map(|row| Some((key(row)?, &row.published)));
        let long = if self.awaits(link, now) {
            self.config.node_return
        } else {
            self.config.agree_for.saturating_mul(2)
        };
        link.split.get_or_insert_default().advance(sides, published, now, long)
    }

    /// What of the sides' disagreement counts, and whether there is more of it.
    fn agree(&self, link: &mut Link, sides: &Sides, settles: bool, now: Timestamp) -> (Lead, bool) {
        let Some(lead) = sides.lead().filter(|lead| *lead != Lead::default()) else {
            link.agreement = None;
            return (Lead::default(), false);
        };
        if sides.are_shared() && self.awaits(link, now) {
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

    /// Publishes what was gained; returns whether there was room for all of it.
    fn publish(&mut self, link: &mut Link, sides: &Sides, found: Pairings, now: Timestamp) -> bool {
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
            let edge = self.edges.refer((target.key, ends), &self.services, node, now);
            room &= edge.is_some();
            let row = |edge| Row { edge, published: EdgeTotals::default(), open: 0, part: None };
            // Nearly all links have one row for good.
            link.rows.reserve_exact(1);
            link.rows.extend(edge.map(row));
            edge.is_some()
        });
        if let Some(tied) = &mut link.tied
            && tied.fresh.take().is_some()
            && let Some(most) = &sides.most
        {
            write_off(&mut link.rows, &targets, most);
        }
        let gains = gains_of(&link.rows, &targets, &limits);
        for ((row, gain), target) in link.rows.iter_mut().zip(&gains).zip(&targets) {
            if let Some(ends) = target.ends {
                self.edges.place(row, ends, now);
            }
            if !gain.is_zero() {
                row.published.merge(gain);
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
            let gains = gains_of(&link.rows, &targets, &found.limits);
            let gains = targets.into_iter().zip(gains).filter(|(_, gain)| !gain.is_zero());
            seen.extend(gains.map(|(target, gain)| (target.key, gain, target.seen)));
        }
        self.links.put_back(ix, link);
        seen
    }

    /// What each row is to come to, those that are not there yet last.
    fn targets(&mut self, link: &Link, sides: &Sides, found: Vec<Pairing>) -> Vec<Target> {
        let target = |key| Target {
            key,
            totals: EdgeTotals::default(),
            open: 0,
            seen: Seen::default(),
            ends: None,
        };
        let known = self.known_ends(link);
        let asking = self.asking(link);
        let edges = link.rows.iter().filter_map(|row| self.edges.get(row.edge));
        let mut targets: Vec<_> = edges.map(|edge| target(edge.key)).collect();
        for pairing in found {
            let (key, seen) = self.edge_of(&asking, sides, &pairing);
            let at = match targets.iter().position(|target| target.key == key) {
                Some(at) => at,
                None if pairing.totals.is_zero() && pairing.open == 0 => continue,
                None => {
                    targets.push(target(key));
                    targets.len() - 1
                }
            };
            let target = &mut targets[at];
            target.open = target.open.saturating_add(pairing.open);
            target.seen.merge(seen);
            let ends = self.ends_of(&known, sides, &pairing);
            target.ends = Some(match target.ends {
                Some(others) => (others.0.or(ends.0), others.1.or(ends.1)),
                None => ends,
            });
            if target.totals.is_zero() {
                target.totals = pairing.totals;
            } else {
                target.totals.merge(&pairing.totals);
            }
        }
        targets
    }
}
