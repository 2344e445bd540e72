//! Servers that clients reach by the address of a Service, where nobody tells of a translation.
//!
//! The client's half has the Service's address, the server's its own. That they are of the same connections is noted at
//! the server's address pair and port, of which there is one more for each pod: so it does not matter how many pods a
//! client meets, nor how many it has met. Who is gone leaves one sum behind (see [`Links::let_go`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    edges::Edges,
    half::{HalfIx, Halves},
    link::{Link, LinkIx, LinkKey, Links, Rest},
    tied::extend,
};
use crate::model::Role;

/// So many servers that are gone are no trouble.
const FEW: usize = 64;

/// How clients reach servers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Fronts {
    /// Where servers are, and where their clients find them.
    by_server: BTreeMap<LinkKey, Vec<LinkKey>>,
    /// Where clients find others, too, of whom nobody tells.
    open: BTreeSet<LinkKey>,
}

/// Halves that have come to another link.
pub(crate) struct Led {
    pub(crate) to: LinkIx,
    pub(crate) halves: Vec<HalfIx>,
}

impl Fronts {
    pub(super) fn of(&self, key: &LinkKey) -> &[LinkKey] {
        self.by_server.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn absorb(&mut self, other: Fronts) {
        for (key, fronts) in other.by_server {
            extend(self.by_server.entry(key).or_default(), &fronts);
        }
        self.open.extend(other.open);
    }
}

impl Link {
    fn fronts(&self) -> Option<&Fronts> {
        self.tied.as_ref().map(|tied| &tied.fronts)
    }

    /// Whether a server is known to be reached by another address.
    pub(crate) fn is_led(&self, front: &LinkKey, key: &LinkKey) -> bool {
        self.fronts().is_some_and(|fronts| fronts.of(key).contains(front))
    }

    /// Whether any is.
    pub(crate) fn has_fronts(&self) -> bool {
        self.fronts().is_some_and(|fronts| !fronts.by_server.is_empty())
    }

    /// Whether a client finds others, too, of whom nobody tells.
    pub(crate) fn is_open(&self, front: &LinkKey) -> bool {
        self.fronts().is_some_and(|fronts| fronts.open.contains(front))
    }

    /// It does.
    pub(crate) fn open(&mut self, front: LinkKey) {
        if let Some(tied) = &mut self.tied {
            tied.fronts.open.insert(front);
        }
    }

    /// Many of the servers that it knows of may be gone.
    pub(crate) fn has_let_go(&self) -> bool {
        let known = self.fronts().map_or(0, |fronts| fronts.by_server.len());
        known > FEW && known > 2 * self.halves.len()
    }
}

impl Links {
    /// Servers are reached by another address of their clients, too. `None` when that is known.
    pub(crate) fn lead(&mut self, front: LinkKey, key: LinkKey, edges: &mut Edges) -> Option<Led> {
        let (one, other) = (self.at(&front)?, self.at(&key)?);
        if front == key || self.get(one)?.is_led(&front, &key) {
            return None;
        }
        let led = if one == other {
            Led { to: one, halves: Vec::new() }
        } else {
            let (_, lost) = self.larger(one, other)?;
            let halves = self.get(lost)?.halves.clone();
            let (_, to) = self.unite(one, other, edges)?;
            Led { to, halves }
        };
        let tied = self.get_mut(led.to)?.tied_mut();
        tied.forget_plain();
        extend(tied.fronts.by_server.entry(key).or_default(), &[front]);
        Some(led)
    }

    /// Forgets where servers were of which no half is left. What they had counted is of the Service's address, at their
    /// port.
    pub(crate) fn let_go(&mut self, ix: LinkIx, halves: &Halves) {
        let Some(link) = self.get(ix) else { return };
        let known = link.halves.iter().filter_map(|ix| halves.get(*ix));
        let mut used: BTreeSet<LinkKey> = known.map(|half| link.key_of(half)).collect();
        used.insert(link.key);
        let Some(tied) = &link.tied else { return };
        used.extend(tied.all_told());
        let gone = tied.fronts.by_server.keys().filter(|key| !used.contains(key));
        let gone: Vec<LinkKey> = gone.copied().collect();
        for key in &gone {
            self.forget_key(key, ix);
        }
        let Some(link) = self.get_mut(ix) else { return };
        let mut rests: Vec<Rest> = Vec::new();
        let tied = link.tied.get_or_insert_default();
        for mut rest in std::mem::take(&mut link.rests) {
            let own = rest.reach.first().copied().unwrap_or(link.key);
            let fronts = tied.fronts.of(&own);
            if rest.role == Role::Server
                && let Some(front) = fronts.first()
                && gone.binary_search(&own).is_ok()
            {
                let stands_in = LinkKey { server_port: own.server_port, ..*front };
                rest.reach = vec![stands_in];
                extend(&mut rest.reach, fronts);
            }
            let whose =
                |rest: &Rest| (rest.role, rest.service, rest.client, rest.reach.first().copied());
            match rests.iter_mut().find(|known| whose(known) == whose(&rest)) {
                Some(known) => {
                    extend(&mut known.reach, &rest.reach);
                    known.totals.merge(&rest.totals);
                }
                None => rests.push(rest),
            }
        }
        link.rests = rests;
        for key in &gone {
            tied.forget_key(key);
            tied.fronts.by_server.remove(key);
        }
    }
}
