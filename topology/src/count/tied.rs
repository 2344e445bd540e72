//! Links that are one, because addresses are translated in between.
//!
//! A host that translates the addresses of a connection tells of each half what the other end sees. The addresses and
//! port of the half and those that the other end sees are then of one link, where all halves of both meet. Of two links
//! that are found to be one, one goes on; what both have counted and published stays with it.
//!
//! Not everybody at such a link can have talked to everybody: a half has to do with those alone that it has an address
//! pair and port in common with, by its own account or by what translations make of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    edges::Edges,
    fronts::Fronts,
    half::{Half, HalfIx},
    link::{Link, LinkIx, LinkKey, Links, Row},
    pairing::{Party, Sides},
};
use crate::{base::time::Timestamp, graph::apart::Asked, model::Role};

/// Address pairs and ports of one link, those apart that Services of Kubernetes lead to.
const MOST_KEYS: usize = 1024;

/// Halves of one link that is tied.
const MOST_HALVES: usize = 4096;

/// Where a link has more address pairs and ports than that leaves room for: so many for each.
const HALVES_OF_KEY: usize = 4;

/// With more than these, it is not asked that its connections be halves of their own: those that were asked go on for a
/// while, and what there is no room for would be `other`'s.
const MANY_HALVES: usize = MOST_HALVES / 4;

/// What translations have told of a link.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tied {
    /// Where its halves meet besides its own key, by [`order`].
    keys: Vec<LinkKey>,
    /// What the other ends of each half see.
    told: BTreeMap<HalfIx, Vec<LinkKey>>,
    /// Halves of which their own hosts have told that.
    told_by_host: BTreeSet<HalfIx>,
    /// How its servers are reached by addresses of Services.
    pub(super) fronts: Fronts,
    /// Since when more is known of who meets here than when it was last published.
    pub(crate) fresh: Option<Timestamp>,
    /// Servers whose hosts were asked to tell their connections apart.
    pub(crate) apart: Asked,
    /// Halves of which it was found that they are the two ends of the same connections, and those of nobody else.
    plain: Option<[HalfIx; 2]>,
}

impl Tied {
    /// The clock was ahead and has been set back: nothing waits for what it said.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        self.fresh = self.fresh.map(|fresh| fresh.min(now));
        self.apart.clear();
    }

    pub(super) const fn forget_plain(&mut self) {
        self.plain = None;
    }

    /// Everything that other ends see.
    pub(super) fn all_told(&self) -> impl Iterator<Item = LinkKey> {
        self.told.values().flatten().copied()
    }

    fn add_key(&mut self, key: LinkKey) {
        if let Err(at) = self.keys.binary_search_by_key(&order(&key), order) {
            self.keys.insert(at, key);
        }
    }

    pub(super) fn forget_key(&mut self, key: &LinkKey) {
        if let Ok(at) = self.keys.binary_search_by_key(&order(key), order) {
            self.keys.remove(at);
        }
    }

    /// Those of the keys with these addresses, wherever they are.
    fn keys_at(&self, port: u16, server: IpAddr, client: IpAddr) -> &[LinkKey] {
        let at = (port, server, client);
        let place = |key: &LinkKey| (key.server_port, key.server.ip(), key.client.ip());
        let from = self.keys.partition_point(|key| place(key) < at);
        let many = self.keys[from..].partition_point(|key| place(key) == at);
        &self.keys[from..from + many]
    }
}

/// Keys of the same addresses, whatever these mean to whom, lie together.
const fn order(key: &LinkKey) -> (u16, IpAddr, IpAddr, LinkKey) {
    (key.server_port, key.server.ip(), key.client.ip(), *key)
}

/// Adds what is not there yet.
pub(crate) fn extend(to: &mut Vec<LinkKey>, more: &[LinkKey]) {
    for key in more {
        if !to.contains(key) {
            to.push(*key);
        }
    }
}

impl Link {
    /// Everywhere its halves meet.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &LinkKey> {
        let more = self.tied.as_ref().map(|tied| tied.keys.as_slice()).unwrap_or_default();
        std::iter::once(&self.key).chain(more)
    }

    /// Whether its halves meet there.
    pub(super) fn has_key(&self, key: &LinkKey) -> bool {
        let is_tied = |tied: &Tied| tied.keys.binary_search_by_key(&order(key), order).is_ok();
        self.key == *key || self.tied.as_deref().is_some_and(is_tied)
    }

    /// The addresses and port of one of its halves.
    pub(crate) fn key_of(&self, half: &Half) -> LinkKey {
        let Some(tied) = &self.tied else { return self.key };
        let (id, place) = (&half.id.2, half.place);
        let peer = id.peer.ip.to_canonical();
        let (server, client) = match id.role {
            Role::Client => (peer, place.ip()),
            Role::Server => (place.ip(), peer),
        };
        let is_its = |key: &&LinkKey| {
            let (own, other) = match id.role {
                Role::Client => (key.client, key.server),
                Role::Server => (key.server, key.client),
            };
            // The same address may be there twice: as a network of its host has it, and as the fleet does.
            own == place && key.server_port == id.server_port && other.is(half.node(), id.peer)
        };
        let others = tied.keys_at(id.server_port, server, client);
        std::iter::once(&self.key).chain(others).find(is_its).copied().unwrap_or(self.key)
    }

    /// Of a link that is tied: the addresses and port of a half, and what translations make of them.
    pub(crate) fn reach_of(&self, ix: HalfIx, half: &Half) -> Vec<LinkKey> {
        let Some(tied) = &self.tied else { return Vec::new() };
        let told = tied.told.get(&ix).map(Vec::as_slice).unwrap_or_default();
        let own = self.key_of(half);
        let mut reach = vec![own];
        reach.extend(told.iter().filter(|key| **key != own));
        if half.role() == Role::Server {
            extend(&mut reach, tied.fronts.of(&own));
        }
        reach
    }

    /// Whether two halves that are all there is to it are sure to be the two ends of its connections.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = |tied: &Tied| tied.plain.is_some_and(|halves| halves == self.halves[..]);
        self.tied.as_deref().is_none_or(plain)
    }

    /// Whether its sides have not told of the same moment yet since more is known of who meets here: somebody else's part
    /// may be in what a client or a server has counted.
    pub(crate) fn waits_to_fit(&self, sides: &Sides, now: Timestamp, patience: Duration) -> bool {
        let fresh = self.tied.as_ref().and_then(|tied| tied.fresh);
        let waits = fresh.is_some_and(|since| now.since(since) < patience);
        waits && !sides.clients.is_empty() && !sides.servers.is_empty() && !sides.tell_the_same()
    }

    /// Finds out whether it is that.
    pub(crate) fn note_plain(&mut self, sides: &Sides) {
        let Some(tied) = &mut self.tied else { return };
        let known = |client: &Party, server: &Party| client.led_to.is_subset(&server.reach);
        tied.plain = match (
            &sides.clients[..],
            &sides.servers[..],
            <[HalfIx; 2]>::try_from(&self.halves[..]),
        ) {
            ([client], [server], Ok(halves)) if sides.reach.is_none() && known(client, server) => {
                Some(halves)
            }
            _ => None,
        };
    }

    /// Whether its numbers have one place to go: a half at each side, or one alone if that may be, and one edge.
    pub(crate) fn is_ordinary(&self, one_sided: bool) -> bool {
        let is_plain = self.tied.as_ref().is_none_or(|tied| tied.plain.is_some());
        let fits = self.halves.len() == 2 || (one_sided && self.halves.len() == 1);
        self.settled && is_plain && fits && self.rows.len() <= 1
    }

    /// Others may have to do with it now.
    pub(crate) fn forget_plain(&mut self) {
        if let Some(tied) = &mut self.tied {
            tied.plain = None;
        }
    }

    /// More is known of who meets here, if translations have to do with it.
    pub(crate) fn freshen(&mut self, now: Timestamp) {
        if let Some(tied) = &mut self.tied {
            tied.fresh = Some(now);
            tied.plain = None;
        }
    }

    pub(super) fn forget_told(&mut self, half: HalfIx) {
        if let Some(tied) = &mut self.tied {
            tied.told.remove(&half);
            tied.told_by_host.remove(&half);
            tied.plain = None;
        }
    }

    /// A half's own host has told what the other ends of its connections see.
    pub(crate) fn note_told_by_host(&mut self, half: HalfIx) {
        if let Some(tied) = self.tied.as_mut().filter(|tied| tied.told.contains_key(&half)) {
            tied.told_by_host.insert(half);
        }
    }

    /// Whether it has.
    pub(crate) fn is_told_by_host(&self, half: HalfIx) -> bool {
        self.tied.as_ref().is_some_and(|tied| tied.told_by_host.contains(&half))
    }

    pub(super) fn tied_mut(&mut self) -> &mut Tied {
        if self.tied.is_none() {
            for rest in &mut self.rests {
                rest.reach = vec![self.key];
            }
        }
        self.tied.get_or_insert_default()
    }

    /// Whether another half may be of it.
    pub(crate) fn has_room(&self) -> bool {
        let tied = self.tied.as_ref();
        tied.is_none_or(|tied| self.halves.len() < MOST_HALVES.max(HALVES_OF_KEY * tied.keys.len()))
    }

    /// How many halves it has more than leave room for those that may come.
    pub(crate) fn excess(&self) -> usize {
        self.tied.as_ref().map_or(0, |_| self.halves.len().saturating_sub(MANY_HALVES))
    }

    fn has_room_for(&self, other: &Link) -> bool {
        self.keys().count() + other.keys().count() <= MOST_KEYS
            && self.halves.len() + other.halves.len() <= MOST_HALVES
    }

    /// Takes over all that another link has.
    fn absorb(&mut self, mut other: Link, edges: &mut Edges) {
        other.tied_mut();
        let tied = self.tied_mut();
        tied.plain = None;
        tied.add_key(other.key);
        if let Some(theirs) = other.tied {
            theirs.keys.iter().for_each(|key| tied.add_key(*key));
            tied.fronts.absorb(theirs.fronts);
            tied.told.extend(theirs.told);
            tied.told_by_host.extend(theirs.told_by_host);
            tied.apart.extend(theirs.apart);
        }
        self.halves.append(&mut other.halves);
        self.rests.append(&mut other.rests);
        self.first_seen = self.first_seen.min(other.first_seen);
        self.settled |= other.settled;
        self.seeks |= other.seeks;
        self.folded = self.folded.max(other.folded);
        self.agreement = None;
        for row in other.rows {
            self.take_row(row, edges);
        }
        match (&mut self.split, other.split) {
            (Some(split), Some(theirs)) => split.absorb(*theirs),
            (none, theirs) => *none = none.take().or(theirs),
        }
        match (&mut self.late, other.late) {
            (Some(late), Some(theirs)) => late.absorb(*theirs),
            (none, theirs) => *none = none.take().or(theirs),
        }
    }

    fn take_row(&mut self, row: Row, edges: &mut Edges) {
        match self.rows.iter_mut().find(|known| known.edge == row.edge) {
            Some(known) => {
                let (was, more) = (known.open, row.open);
                edges.take_over(known, row);
                known.open = was.saturating_add(more);
                edges.set_open(known, was, known.open);
            }
            None => self.rows.push(row),
        }
    }
}

impl Links {
    /// Notes what the other ends of a half see, nothing of which is known yet. What there is no room for may be told
    /// again. Returns how many of them there was no room for, and the links that are
    /// one now: each that is gone, and the one that it has become.
    pub(crate) fn tie(
        &mut self,
        mut ix: LinkIx,
        half: HalfIx,
        told: &[LinkKey],
        edges: &mut Edges,
    ) -> (usize, Vec<(LinkIx, LinkIx)>) {
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for key in told {
            let full =
                self.get(ix).is_none_or(|link| link.keys().take(MOST_KEYS).count() == MOST_KEYS);
            match self.at(key) {
                Some(other) if other == ix => {}
                Some(other) => match self.join(ix, other, edges) {
                    Some((lost, joined)) => {
                        gone.push((lost, joined));
                        ix = joined;
                    }
                    None => continue,
                },
                None if full => continue,
                None => {
                    self.note_key(key, ix);
                    if let Some(link) = self.get_mut(ix) {
                        link.tied_mut().add_key(*key);
                    }
                }
            }
            kept.push(*key);
        }
        if let Some(link) = self.get_mut(ix).filter(|_| !kept.is_empty()) {
            let tied = link.tied_mut();
            tied.plain = None;
            tied.told.entry(half).or_default().extend(&kept);
        }
        (told.len() - kept.len(), gone)
    }

    /// The link of these addresses and port.
    pub(crate) fn find(&self, key: &LinkKey) -> Option<&Link> {
        self.get(self.at(key)?)
    }

    /// What the other ends of a half see, as far as that was told.
    pub(crate) fn told(&self, ix: LinkIx, half: HalfIx) -> &[LinkKey] {
        let tied = self.get(ix).and_then(|link| link.tied.as_ref());
        tied.and_then(|tied| tied.told.get(&half)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Makes one link of two: which is gone, and which goes on. `None` when that would be too large.
    fn join(&mut self, one: LinkIx, other: LinkIx, edges: &mut Edges) -> Option<(LinkIx, LinkIx)> {
        let (first, second) = (self.get(one)?, self.get(other)?);
        if !first.has_room_for(second) {
            return None;
        }
        self.unite(one, other, edges)
    }

    /// The same, however large that is.
    pub(super) fn unite(
        &mut self,
        one: LinkIx,
        other: LinkIx,
        edges: &mut Edges,
    ) -> Option<(LinkIx, LinkIx)> {
        let (kept, lost) = self.larger(one, other)?;
        let gone = self.remove(lost)?;
        for key in gone.keys() {
            self.note_key(key, kept);
        }
        self.get_mut(kept)?.absorb(gone, edges);
        Some((lost, kept))
    }

    /// Which of two links has more halves, and which has not.
    pub(super) fn larger(&self, one: LinkIx, other: LinkIx) -> Option<(LinkIx, LinkIx)> {
        let (first, second) = (self.get(one)?, self.get(other)?);
        let larger = first.halves.len() >= second.halves.len();
        Some(if larger { (one, other) } else { (other, one) })
    }
}
