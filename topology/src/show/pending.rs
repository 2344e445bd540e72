//! What is shown of links before it is published.

use crate::{
    Graph,
    base::{time::Timestamp, totals::EdgeTotals},
    count::{
        agreement::Lead,
        edges::{EdgeKey, Seen},
        link::{Link, LinkIx},
    },
};

/// What a link has for an edge beyond what is published.
pub(crate) struct Pending {
    pub(crate) key: EdgeKey,
    /// That of the edge, if there is one.
    pub(crate) place: Option<usize>,
    pub(crate) totals: EdgeTotals,
    pub(crate) seen: Seen,
    pub(crate) open: u64,
}

impl Graph {
    /// Links of which something is shown that is not published. Most that are looked at again have settled long ago: one
    /// side waits for the other.
    pub(super) fn links_pending(&self) -> Vec<LinkIx> {
        let has_any = |link: &Link| {
            let agreement = link.agreement.as_ref();
            !link.settled || agreement.is_some_and(|agreement| agreement.seen_before().is_some())
        };
        let queue = self.links.queue.iter().copied();
        queue.filter(|ix| self.links.get(*ix).is_some_and(has_any)).collect()
    }

    /// What unsettled links have so far, and what those that have just settled showed before.
    pub(crate) fn pending(&mut self, now: Timestamp) -> Vec<Pending> {
        let mut pending = Vec::new();
        for ix in self.links_pending() {
            let Some(link) = self.links.get(ix) else { continue };
            if link.settled {
                let seen = self.seen_before(ix, now).into_iter();
                pending.extend(seen.map(|(key, totals, seen)| {
                    let place = self.edges.place_of(key);
                    Pending { key, place, totals, seen, open: 0 }
                }));
                continue;
            }
            let asking = self.asking_anew(link);
            let mut sides = self.sides(link, now);
            sides.divide();
            for pairing in sides.pair(&Lead::UNLIMITED).pairings {
                let (key, seen) = self.edge_of(&asking, &sides, &pairing);
                let (totals, open) = (pairing.totals, pairing.open);
                pending.push(Pending { key, place: self.edges.place_of(key), totals, seen, open });
            }
        }
        pending
    }
}
