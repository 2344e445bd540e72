//! Where halves meet.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    addresses::Addresses,
    agreement::Agreement,
    edges::EdgeIx,
    half::{Half, HalfIx},
    late::Late,
    parts::PartIx,
    split::Split,
    tied::{Tied, extend},
};
use crate::{
    base::{
        arena::{Arena, Key},
        index::Index,
        time::Timestamp,
        totals::EdgeTotals,
    },
    model::Role,
    who::{place::Place, services::ServiceIx},
};

pub(crate) type LinkIx = Key<Link>;

/// Client address, server address, server port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LinkKey {
    pub(crate) client: Place,
    pub(crate) server: Place,
    pub(crate) server_port: u16,
}

/// The meeting point of the halves of two addresses and a port, and of what translations make of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) key: LinkKey,
    pub(crate) halves: Vec<HalfIx>,
    /// What forgotten halves had counted.
    pub(crate) rests: Vec<Rest>,
    pub(crate) first_seen: Timestamp,
    pub(crate) settled: bool,
    /// It is on the list of links to look at in the next tick.
    pub(crate) queued: bool,
    /// When the present wait for further halves began, and how long it lasts.
    gathering: (Timestamp, Timestamp),
    /// What it has published, edge by edge.
    pub(crate) rows: Vec<Row>,
    /// Where its two sides disagree.
    pub(crate) agreement: Option<Box<Agreement>>,
    /// How far its edges are folded: 1, a side is `other`; 2, both are.
    pub(crate) folded: u8,
    /// Where there are several on both sides: what servers counted for all clients together.
    pub(crate) split: Option<Box<Split>>,
    /// What came late and is not published yet.
    pub(crate) late: Option<Box<Late>>,
    /// What translations have told of it.
    pub(crate) tied: Option<Box<Tied>>,
    /// Whom Kubernetes knows behind its addresses, or in front of them, is to be looked for.
    pub(crate) seeks: bool,
}

/// What a link has published for an edge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) edge: EdgeIx,
    /// `None` where the edge's series has it: [`Edges::published`](super::edges::Edges::published).
    pub(super) own: Option<Box<EdgeTotals>>,
    /// Connections open now, by the last evaluation.
    pub(crate) open: u64,
    /// The part of the edge that it counts for; `None` for that of the edge's first ends.
    pub(crate) part: Option<PartIx>,
}

/// What forgotten halves of one service had counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rest {
    pub(crate) role: Role,
    pub(crate) service: ServiceIx,
    /// Whose connections they were, when that was in question and answered.
    pub(crate) client: Option<ServiceIx>,
    /// Of a link that is tied: their addresses and port, then what translations made of them.
    pub(crate) reach: Vec<LinkKey>,
    pub(crate) totals: EdgeTotals,
}

impl Link {
    fn new(key: LinkKey, now: Timestamp) -> Self {
        Link {
            key,
            halves: Vec::new(),
            rests: Vec::new(),
            first_seen: now,
            settled: false,
            queued: false,
            gathering: (now, now),
            rows: Vec::new(),
            agreement: None,
            folded: 0,
            split: None,
            late: None,
            tied: None,
            seeks: true,
        }
    }

    /// Starts or prolongs the wait for further halves; never beyond `at_most` in all.
    pub(crate) fn gather(&mut self, now: Timestamp, wait: Duration, at_most: Duration) {
        if self.gathering.1 < now {
            self.gathering.0 = now;
        }
        self.gathering.1 = now.plus(wait).min(self.gathering.0.plus(at_most));
    }

    pub(crate) fn is_gathering(&self, now: Timestamp) -> bool {
        now < self.gathering.1
    }

    /// Keeps what a half has counted, for whom of the clients, after it is forgotten.
    pub(crate) fn keep(
        &mut self,
        ix: HalfIx,
        half: &Half,
        counted: Vec<(Option<ServiceIx>, EdgeTotals)>,
    ) {
        let reach = self.reach_of(ix, half);
        self.forget_told(ix);
        for (client, totals) in counted {
            self.keep_part(half, client, &reach, totals);
        }
    }

    fn keep_part(
        &mut self,
        half: &Half,
        client: Option<ServiceIx>,
        reach: &[LinkKey],
        totals: EdgeTotals,
    ) {
        let (role, service) = (half.role(), half.service);
        let same = |rest: &&mut Rest| {
            (rest.role, rest.service, rest.client) == (role, service, client)
                && rest.reach.first() == reach.first()
        };
        match self.rests.iter_mut().find(same) {
            Some(rest) => {
                extend(&mut rest.reach, reach);
                rest.totals.merge(&totals);
            }
            None => {
                self.rests.reserve_exact(1);
                self.rests.push(Rest { role, service, client, reach: reach.to_vec(), totals });
            }
        }
    }
}

/// What forgotten halves had counted is kept apart for so many services of a link.
const RESTS: usize = 64;

impl Link {
    /// Whether there are too many services that no half of the link is of any more.
    pub(crate) fn is_crowded(&self) -> bool {
        // At a link that is tied, one service may have been behind many addresses.
        let whose = |rest: &Rest| (rest.role, rest.service, rest.client);
        self.rests.len() > RESTS
            && self.rests.iter().map(whose).collect::<HashSet<_>>().len() > RESTS
    }

    /// Lets `other` stand for services that are gone, on every side of everything that was counted.
    pub(crate) fn fold_rests(&mut self, gone: &HashSet<(Role, ServiceIx)>, other: ServiceIx) {
        let name = |role, service| if gone.contains(&(role, service)) { other } else { service };
        let mut rests: Vec<Rest> = Vec::new();
        for mut rest in std::mem::take(&mut self.rests) {
            rest.service = name(rest.role, rest.service);
            rest.client = rest.client.map(|client| name(Role::Client, client));
            let own = |rest: &Rest| rest.reach.first().copied().filter(|_| rest.service != other);
            let whose = |rest: &Rest| (rest.role, rest.service, rest.client, own(rest));
            match rests.iter_mut().find(|known| whose(known) == whose(&rest)) {
                Some(known) => {
                    extend(&mut known.reach, &rest.reach);
                    known.totals.merge(&rest.totals);
                }
                None => rests.push(rest),
            }
        }
        self.rests = rests;
        if let Some(split) = &mut self.split {
            split.rename(|client| name(Role::Client, client), |server| name(Role::Server, server));
        }
    }
}

/// Every link.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Links {
    links: Arena<Link>,
    #[serde(skip)]
    by_key: Index<Link>,
    /// Keys with an address that one side alone takes for its host's own, by what others make of them.
    #[serde(skip)]
    pub(super) scoped: HashMap<LinkKey, Vec<LinkKey>>,
    /// Where each link is, as long as somebody asks.
    #[serde(skip)]
    pub(super) addresses: Option<Addresses>,
    /// Links to look at in the next tick.
    pub(crate) queue: Vec<LinkIx>,
}

impl Links {
    /// What has to be stored; the rest follows from it.
    pub(crate) fn stored(&self) -> Self {
        Links { links: self.links.clone(), queue: self.queue.clone(), ..Links::default() }
    }

    /// Finishes what was read back.
    pub(crate) fn resume(&mut self) {
        let links = self.links.clone();
        for (ix, link) in links.iter() {
            for key in link.keys() {
                self.by_key.add(key, ix);
                self.note_scoped(key);
            }
        }
    }

    /// The clock was ahead and has been set back: nothing waits for what it said.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        for link in self.links.iter_mut() {
            link.first_seen = link.first_seen.min(now);
            link.agreement = None;
            if let Some(split) = &mut link.split {
                split.wait_anew();
            }
            if let Some(tied) = &mut link.tied {
                tied.set_back(now);
            }
            if link.gathering.0 > now {
                link.gathering = (now, now);
            }
        }
    }

    pub(crate) fn get(&self, ix: LinkIx) -> Option<&Link> {
        self.links.get(ix)
    }

    pub(crate) fn get_mut(&mut self, ix: LinkIx) -> Option<&mut Link> {
        self.links.get_mut(ix)
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// Every link with its place.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (LinkIx, &Link)> {
        self.links.iter()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().map(|(_, link)| link)
    }

    pub(crate) fn meet(&mut self, key: LinkKey, now: Timestamp) -> LinkIx {
        if let Some(ix) = self.at(&key) {
            return ix;
        }
        let ix = self.links.insert(Link::new(key, now));
        self.note_key(&key, ix);
        ix
    }

    pub(super) fn note_key(&mut self, key: &LinkKey, ix: LinkIx) {
        self.by_key.add(key, ix);
        self.note_scoped(key);
        self.note_addresses(key, ix);
    }

    pub(super) fn forget_key(&mut self, key: &LinkKey, ix: LinkIx) {
        self.by_key.remove(key, ix);
        self.forget_scoped(key);
        self.forget_addresses(key, ix);
    }

    pub(crate) fn remove(&mut self, ix: LinkIx) -> Option<Link> {
        let link = self.links.remove(ix)?;
        for key in link.keys() {
            self.forget_key(key, ix);
        }
        Some(link)
    }

    /// Which link is at these addresses and this port, if it is in its place.
    pub(crate) fn at(&self, key: &LinkKey) -> Option<LinkIx> {
        self.by_key.find(key, |ix| self.get(ix).is_some_and(|link| link.has_key(key)))
    }

    /// Takes a link out for a moment.
    pub(crate) fn take(&mut self, ix: LinkIx) -> Option<Link> {
        self.links.take(ix)
    }

    /// Puts back a link that was taken out.
    pub(crate) fn put_back(&mut self, ix: LinkIx, link: Link) {
        self.links.put_back(ix, link);
    }

    pub(crate) fn enqueue_all(&mut self) {
        let all: Vec<_> = self.links.iter().map(|(ix, _)| ix).collect();
        all.into_iter().for_each(|ix| self.enqueue(ix));
    }

    pub(crate) fn enqueue(&mut self, ix: LinkIx) {
        if let Some(link) = self.links.get_mut(ix)
            && !link.queued
        {
            link.queued = true;
            self.queue.push(ix);
        }
    }
}
