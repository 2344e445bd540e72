//! Translated addresses: halves that the same connections are seen by under different ones.

use super::Graph;
use crate::{
    base::time::Timestamp,
    count::{
        half::HalfIx,
        link::{LinkIx, LinkKey},
    },
    model::Ends,
    who::place::Place,
};

/// What is remembered of one half. A service that has had more servers than that is joined in part.
const MOST: usize = 256;

/// The cause under which it is counted that there is more, or that a link would become too large.
const NO_ROOM: &str = "aggregator_translations_refused";

impl Graph {
    /// What the other ends of a half's connections see, as far as addresses are translated in between. What was told before
    /// stays true: the half has counted some of it. Halves on both sides of a translation are of one link from then on.
    pub fn add_translations(
        &mut self,
        ix: HalfIx,
        ends: impl IntoIterator<Item = Ends>,
        now: Timestamp,
    ) {
        let now = self.see(now);
        let Some(half) = self.halves.get(ix).filter(|half| !half.id.2.is_folded()) else { return };
        let (node, link) = (half.node(), half.link);
        let Some(boot) = self.nodes.get(node).map(|node| node.life.boot) else { return };
        let own = self.links.get(link).map(|link| link.key_of(half));
        let place = |address| Place::of(node, boot, address);
        let key = |ends: Ends| LinkKey {
            client: place(ends.client),
            server: place(ends.server),
            server_port: ends.server_port,
        };
        let is_place = |place: Place| !matches!(place, Place::Unchosen { .. } | Place::Other);
        let mut told: Vec<LinkKey> = ends
            .into_iter()
            .map(key)
            .filter(|key| is_place(key.client) && is_place(key.server) && Some(*key) != own)
            .collect();
        let other_scopes: Vec<_> =
            told.iter().flat_map(|key| self.links.counterparts(key)).collect();
        told.extend(other_scopes);
        told.retain(|key| Some(*key) != own);
        let by_host = !told.is_empty();
        self.tie(ix, told, now);
        let link = self.halves.get(ix).filter(|_| by_host).map(|half| half.link);
        if let Some(link) = link.and_then(|link| self.links.get_mut(link)) {
            link.note_told_by_host(ix);
        }
    }

    /// A half meets those to whom an address that its host takes for its own, or does not, has another scope.
    pub(super) fn tie_scopes(&mut self, ix: HalfIx, now: Timestamp) {
        let Some(half) = self.halves.get(ix).filter(|half| !half.id.2.is_folded()) else { return };
        let Some(key) = self.links.get(half.link).map(|link| link.key_of(half)) else { return };
        let others = self.links.counterparts(&key);
        if !others.is_empty() {
            self.tie(ix, others, now);
        }
    }

    pub(super) fn tie(&mut self, ix: HalfIx, mut told: Vec<LinkKey>, now: Timestamp) {
        let Some(half) = self.halves.get(ix) else { return };
        let (node, mut link) = (half.node(), half.link);
        told.sort_unstable();
        told.dedup();
        let known = self.links.told(link, ix);
        told.retain(|key| !known.contains(key));
        let shares = &mut self.halves.translations;
        let most = told.len().min(MOST.saturating_sub(known.len()));
        let mut room = 0;
        while room < most && shares.has_room(node) {
            shares.take(node, 1);
            room += 1;
        }
        let mut refused = told.len().saturating_sub(room);
        told.truncate(room);
        let (too_large, gone) = self.links.tie(link, ix, &told, &mut self.edges);
        refused += too_large;
        let noted = told.len() - too_large;
        self.halves.translations.give(node, too_large);
        for (lost, kept) in gone {
            if lost == link {
                link = kept;
            }
            self.move_to_link(kept);
        }
        if refused > 0 {
            self.add_loss(node, NO_ROOM, refused as u64);
        }
        if noted == 0 {
            return;
        }
        if let Some(link) = self.links.get_mut(link) {
            link.gather(now, self.config.gather_for, self.config.settle_after);
            link.freshen(now);
        }
        self.halves.mark(ix);
        self.links.enqueue(link);
    }

    /// Finishes what was read back: whose the translations are that are known.
    pub(super) fn count_translations(&mut self) {
        let told = self.halves.pairs();
        let told = told.map(|(ix, half)| (half.node(), self.links.told(half.link, ix).len()));
        let told: Vec<_> = told.filter(|(_, told)| *told > 0).collect();
        told.into_iter().for_each(|(node, told)| self.halves.translations.take(node, told));
    }

    /// A link has taken over another: its halves are to know.
    fn move_to_link(&mut self, ix: LinkIx) {
        let Some(link) = self.links.get(ix) else { return };
        for half in &link.halves {
            if let Some(half) = self.halves.get_mut(*half) {
                half.link = ix;
            }
        }
    }
}
