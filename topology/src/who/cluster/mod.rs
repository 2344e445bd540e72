//! Services, their pods' addresses and the zones of hosts, as an API server of Kubernetes tells them.
//!
//! Whatever objects say of an address is put together by address, each with who has it: so it does not matter in which
//! order the objects come, nor in how many slices the endpoints of a Service are.

mod asked;
mod claims;
pub mod facts;
pub(crate) mod held;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use self::{
    claims::{Claim, claims_of_service, claims_of_slice, service_of},
    facts::{
        ClusterChange, ClusterKind, ClusterNews, ClusterNode, ClusterService, ClusterSlice,
        ObjectName,
    },
    held::{Held, Known, Roles, Spot},
};
use super::services::ServiceIx;
use crate::base::{paged::Paged, time::Timestamp};

/// Addresses and ports of hosts that are known of all objects together, some hundred bytes each. An object that is more
/// than there is room for is not taken in.
const MOST_CLAIMS: usize = if cfg!(test) { 4_096 } else { 262_144 };

/// Objects of a kind that are known: as many as are read of a list. One may claim nothing.
pub(crate) const MOST_OBJECTS: usize = if cfg!(test) { 4_096 } else { 100_000 };

/// An object, of whatever kind.
type ObjectKey = (ClusterKind, ObjectName);

/// Objects by name.
type Objects<T> = Paged<Arc<ObjectName>, Arc<T>>;

/// Who is known to be at a pod's address and port, by its agent.
pub(crate) type WhoIsThere<'a> = &'a dyn Fn(IpAddr, u16) -> Option<ServiceIx>;

/// What is known of a cluster.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Cluster {
    services: Objects<ClusterService>,
    slices: Objects<ClusterSlice>,
    nodes: Objects<ClusterNode>,
    held: Held,
    /// By kind, since when it is not known what becomes of its objects; `None` while it is.
    lost: [Option<Timestamp>; 3],
    /// By kind, whether its objects have been told at all.
    heard: [bool; 3],
    /// How often an object was not taken in for lack of room.
    refused: u64,
    changed: Changed,
    /// What objects claim: each claim with those who make it.
    #[serde(skip)]
    claims: BTreeMap<Claim, BTreeMap<ObjectKey, Roles>>,
    /// Hosts by address.
    #[serde(skip)]
    hosts: BTreeMap<IpAddr, BTreeSet<ObjectName>>,
}

/// What has changed since that was last asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// Addresses and ports that have another holder.
    pub(crate) spots: BTreeSet<Spot>,
    /// Addresses that have others behind them.
    pub(crate) fronts: BTreeSet<IpAddr>,
}

impl Cluster {
    /// What has to be stored; the rest follows from it.
    pub(crate) fn stored(&self) -> Self {
        Cluster {
            services: self.services.stored(),
            slices: self.slices.stored(),
            nodes: self.nodes.stored(),
            held: self.held.stored(),
            lost: self.lost,
            heard: self.heard,
            refused: self.refused,
            changed: self.changed.clone(),
            ..Cluster::default()
        }
    }

    /// Finishes what was read back.
    pub(crate) fn resume(&mut self) {
        self.services.resume();
        self.slices.resume();
        self.nodes.resume();
        self.held.resume();
        let claims = self.services.iter().map(|(name, service)| {
            ((ClusterKind::Services, ObjectName::clone(name)), claims_of_service(name, service))
        });
        let claims = claims.chain(self.slices.iter().map(|(name, slice)| {
            ((ClusterKind::Slices, ObjectName::clone(name)), claims_of_slice(name, slice))
        }));
        for (object, made) in claims.collect::<Vec<_>>() {
            for (claim, roles) in made {
                self.claims.entry(claim).or_default().insert(object.clone(), roles);
            }
        }
        for (name, node) in self.nodes.iter() {
            for ip in &node.addresses {
                let hosts = self.hosts.entry(ip.to_canonical()).or_default();
                hosts.insert(ObjectName::clone(name));
            }
        }
    }

    /// Whether anything is known of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.slices.is_empty() && self.nodes.is_empty()
    }

    /// Whether a change tells something that is not known.
    pub(crate) fn is_new(&self, change: &ClusterChange) -> bool {
        match change {
            ClusterChange::Service(name, new) => {
                self.services.get(name).map(Arc::as_ref) != new.as_ref()
            }
            ClusterChange::Slice(name, new) => {
                self.slices.get(name).map(Arc::as_ref) != new.as_ref()
            }
            ClusterChange::Node(name, new) => self.nodes.get(name).map(Arc::as_ref) != new.as_ref(),
        }
    }

    /// Whether a change is of an object that is there and not known.
    fn adds(&self, change: &ClusterChange) -> bool {
        match change {
            ClusterChange::Service(name, new) => new.is_some() && !self.services.contains_key(name),
            ClusterChange::Slice(name, new) => new.is_some() && !self.slices.contains_key(name),
            ClusterChange::Node(name, new) => new.is_some() && !self.nodes.contains_key(name),
        }
    }

    /// The objects of a kind that are known.
    pub(crate) fn names(&self, kind: ClusterKind) -> Vec<ObjectName> {
        match kind {
            ClusterKind::Services => names(&self.services),
            ClusterKind::Slices => names(&self.slices),
            ClusterKind::Nodes => names(&self.nodes),
        }
    }

    /// How many objects of a kind are known.
    pub(crate) fn len(&self, kind: ClusterKind) -> usize {
        match kind {
            ClusterKind::Services => self.services.len(),
            ClusterKind::Slices => self.slices.len(),
            ClusterKind::Nodes => self.nodes.len(),
        }
    }

    /// How often an object was not taken in for lack of room.
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Since when it is not known what becomes of objects of a kind.
    pub(crate) fn lost(&self, kind: ClusterKind) -> Option<Timestamp> {
        self.lost[kind.index()]
    }

    /// Whether it is known what becomes of objects of a kind.
    pub(crate) fn is_heard(&self, kind: ClusterKind) -> bool {
        self.heard[kind.index()] && self.lost[kind.index()].is_none()
    }

    /// Nobody has listened since then, unless that began earlier.
    pub(crate) fn unheard_since(&mut self, since: Timestamp) {
        if self.is_empty() {
            // There is nothing that would hold.
            self.heard = [false; 3];
            return;
        }
        self.lost = self.lost.map(|lost| Some(lost.unwrap_or(since)));
    }

    /// The clock was ahead and has been set back.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        self.held.set_back(now);
        self.lost = self.lost.map(|lost| lost.map(|lost| lost.min(now)));
    }

    /// Takes in what is new.
    pub(crate) fn take(&mut self, news: ClusterNews, now: Timestamp, who: WhoIsThere<'_>) {
        match news {
            ClusterNews::Changed(changes) => {
                changes.into_iter().for_each(|change| self.change(change, now, who));
            }
            ClusterNews::Lost(kind, since) => {
                self.lost[kind.index()].get_or_insert(since.min(now));
            }
            ClusterNews::Watched(kind) => {
                self.lost[kind.index()] = None;
                self.heard[kind.index()] = true;
            }
        }
    }

    fn change(&mut self, change: ClusterChange, now: Timestamp, who: WhoIsThere<'_>) {
        let kind = change.kind();
        if self.len(kind) >= MOST_OBJECTS && self.adds(&change) {
            self.refused += 1;
            return;
        }
        // What has changed while nobody listened had changed at some time since.
        let until = self.lost[kind.index()].unwrap_or(now).min(now);
        match change {
            ClusterChange::Service(name, new) => {
                let claims = |service: &ClusterService| claims_of_service(&name, service);
                let old = self.services.get(&name).map(|old| claims(old)).unwrap_or_default();
                let claims = new.as_ref().map(claims).unwrap_or_default();
                if self.claim((kind, name.clone()), old, claims, (until, now), who) {
                    set(&mut self.services, name, new);
                }
            }
            ClusterChange::Slice(name, new) => {
                let claims = |slice: &ClusterSlice| claims_of_slice(&name, slice);
                let old = self.slices.get(&name).map(|old| claims(old)).unwrap_or_default();
                let claims = new.as_ref().map(claims).unwrap_or_default();
                if self.claim((kind, name.clone()), old, claims, (until, now), who) {
                    let old = self.slices.get(&name).map(|old| service_of(&name, old));
                    let of = new.as_ref().map(|new| service_of(&name, new));
                    for service in old.into_iter().chain(of) {
                        self.leads_elsewhere(&service);
                    }
                    set(&mut self.slices, name, new);
                }
            }
            ClusterChange::Node(name, new) => {
                let addresses = self.nodes.get(&name).map(|old| old.addresses.clone());
                for ip in addresses.into_iter().flatten() {
                    take_out(&mut self.hosts, &ip.to_canonical(), &name);
                }
                for ip in new.iter().flat_map(|new| &new.addresses) {
                    self.hosts.entry(ip.to_canonical()).or_default().insert(name.clone());
                }
                set(&mut self.nodes, name, new);
            }
        }
    }

    /// Others are behind the addresses of a Service than before.
    fn leads_elsewhere(&mut self, service: &ObjectName) {
        let known = self.services.get(service);
        let addresses = known.into_iter().flat_map(|service| &service.addresses);
        self.changed.fronts.extend(addresses.map(|ip| ip.to_canonical()));
    }

    /// An object claims other things than before; returns whether there was room for that.
    fn claim(
        &mut self,
        object: ObjectKey,
        old: BTreeMap<Claim, Roles>,
        new: BTreeMap<Claim, Roles>,
        (until, now): (Timestamp, Timestamp),
        who: WhoIsThere<'_>,
    ) -> bool {
        if self.claims.len() + new.len() > MOST_CLAIMS + old.len() {
            self.refused += 1;
            return false;
        }
        let known = |spot, roles: Option<&Roles>| {
            let Spot::Address(ip) = spot else { return Known::new() };
            let ports: BTreeSet<u16> = roles.into_iter().flatten().map(|role| role.port).collect();
            ports.into_iter().filter_map(|port| Some((port, who(ip, port)?))).collect()
        };
        for (claim, was) in old.iter().filter(|(claim, _)| !new.contains_key(*claim)) {
            let Some(made) = self.claims.get_mut(claim) else { continue };
            made.remove(&object);
            let (spot, sort, holder) = claim;
            if made.is_empty() {
                self.claims.remove(claim);
                let known = || known(*spot, Some(was));
                self.held.ends(*spot, (*sort, holder), (until, now), known);
            } else {
                let roles = made.values().flatten().cloned().collect();
                let known = || known(*spot, Some(was));
                self.held.holds(*spot, (*sort, holder), roles, (until, now), known);
            }
            self.changed.spots.insert(*spot);
        }
        for (claim, roles) in new {
            let was = old.get(&claim);
            if was == Some(&roles) {
                continue;
            }
            let (spot, sort, holder) = claim.clone();
            let made = self.claims.entry(claim).or_default();
            made.insert(object.clone(), roles);
            let roles = made.values().flatten().cloned().collect();
            let known = || known(spot, was);
            self.held.holds(spot, (sort, &holder), roles, (until, now), known);
            self.changed.spots.insert(spot);
        }
        true
    }

    /// Forgets who had what long ago; returns what has changed since the last time.
    pub(crate) fn turn(&mut self, now: Timestamp) -> Changed {
        self.held.forget(now);
        std::mem::take(&mut self.changed)
    }

    #[cfg(test)]
    pub(crate) const fn held(&self) -> &Held {
        &self.held
    }

    /// Whether anything has changed since the last time.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed != Changed::default()
    }

    /// Whether [`turn`](Self::turn) has anything to do.
    pub(crate) fn has_news(&self, now: Timestamp) -> bool {
        self.has_changed() || self.held.is_due(now)
    }
}

fn names<T>(objects: &Objects<T>) -> Vec<ObjectName> {
    objects.keys().map(|name| ObjectName::clone(name)).collect()
}

fn set<T>(objects: &mut Objects<T>, name: ObjectName, new: Option<T>) {
    match new {
        Some(new) => objects.insert(Arc::new(name), Arc::new(new)),
        None => drop(objects.remove(&name)),
    }
}

fn take_out<K: Ord>(map: &mut BTreeMap<K, BTreeSet<ObjectName>>, of: &K, name: &ObjectName) {
    if let Some(names) = map.get_mut(of) {
        names.remove(name);
        if names.is_empty() {
            map.remove(of);
        }
    }
}
