//! What the rows of a link are to come to, and what each of them gains.

use common::HistogramKind;

use super::Graph;
use crate::{
    base::totals::{EdgeTotals, Measure},
    count::{
        edges::{EdgeKey, Edges, Seen},
        gains::{Change, gains},
        link::{Link, Row},
        most::Most,
        pairing::{Pairing, Sides},
        parts::Ends,
    },
};

/// What a row is to come to.
pub(super) struct Target {
    pub(super) key: EdgeKey,
    pub(super) totals: EdgeTotals,
    pub(super) open: u64,
    pub(super) seen: Seen,
    /// Between whom; `None` when nobody is at the link any more.
    pub(super) ends: Option<Ends>,
}

impl Target {
    /// Whether somebody was there, and nothing of it is sure to belong here: one side has told of it alone.
    pub(super) fn is_in_question(&self, published: &EdgeTotals, gain: &EdgeTotals) -> bool {
        self.totals.tells() && !published.tells() && !gain.tells()
    }
}

/// What each row gains; one that is not there yet has nothing published.
pub(super) fn gains_of(
    (rows, edges): (&[Row], &Edges),
    targets: &[Target],
    limits: &[u64; Measure::SHARED.len()],
) -> Vec<EdgeTotals> {
    let nothing = EdgeTotals::default();
    let published = rows.iter().map(|row| edges.published(row)).chain(std::iter::repeat(&nothing));
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
pub(super) fn write_off((rows, edges): (&mut [Row], &mut Edges), targets: &[Target], most: &Most) {
    let targets = || targets.iter().take(rows.len()).map(|target| &target.totals);
    let all_published: EdgeTotals = sum(rows.iter().map(|row| edges.published(row)));
    let mut cuts: Vec<EdgeTotals> = rows.iter().map(|row| edges.published(row).clone()).collect();
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
        *edges.published_mut(row) = cut;
    }
}

fn sum<'a>(all: impl Iterator<Item = &'a EdgeTotals>) -> EdgeTotals {
    let mut sum = EdgeTotals::default();
    all.for_each(|totals| sum.merge(totals));
    sum
}

impl Graph {
    /// What each row is to come to, those that are not there yet last.
    pub(super) fn targets(
        &mut self,
        link: &Link,
        sides: &Sides,
        found: Vec<Pairing>,
    ) -> Vec<Target> {
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
