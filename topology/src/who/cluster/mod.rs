//! Services, their pods' addresses and the zones of hosts, as an API server of Kubernetes tells them.
//!
//! Whatever objects say of an address is put together by address, each with who has it: so it does not matter in which
//! order the objects come, nor in how many slices the endpoints of a Service are.

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
    held::{Held, Roles, Sort, Span, Spot},
};
use crate::base::time::Timestamp;

/// Addresses and ports of hosts that are known of all objects together, some hundred bytes each. An object that is more
/// than there is room for is not taken in.
const MOST_CLAIMS: usize = if cfg!(test) { 4_096 } else { 262_144 };

/// Objects of a kind that are known: as many as are read of a list. One may claim nothing.
pub(crate) const MOST_OBJECTS: usize = if cfg!(test) { 4_096 } else { 100_000 };

/// Endpoints of a Service that are looked at to know who is behind its address.
pub(crate) const MOST_BEHIND: usize = 64;

/// An object, of whatever kind.
type ObjectKey = (ClusterKind, ObjectName);

/// What is known of a cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cluster {
    services: BTreeMap<ObjectName, ClusterService>,
    slices: BTreeMap<ObjectName, ClusterSlice>,
    nodes: BTreeMap<ObjectName, ClusterNode>,
    held: Held,
    /// By kind, since when it is not known what becomes of its objects; `None` while it is.
    lost: [Option<Timestamp>; 3],
    /// How often an object was not taken in for lack of room.
    refused: u64,
    /// Addresses and ports that have another holder, or others behind them, since they were last asked for.
    changed: BTreeSet<Spot>,
    /// What objects claim: each claim with those who make it.
    #[serde(skip)]
    claims: BTreeMap<Claim, BTreeMap<ObjectKey, Roles>>,
    /// Slices of each service.
    #[serde(skip)]
    slices_of: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    /// Hosts by address.
    #[serde(skip)]
    hosts: BTreeMap<IpAddr, BTreeSet<ObjectName>>,
}

impl Cluster {
    /// Finishes what was read back.
    pub(crate) fn resume(&mut self) {
        let claims = self.services.iter().map(|(name, service)| {
            ((ClusterKind::Services, name.clone()), claims_of_service(name, service))
        });
        let claims = claims.chain(self.slices.iter().map(|(name, slice)| {
            ((ClusterKind::Slices, name.clone()), claims_of_slice(name, slice))
        }));
        for (object, made) in claims.collect::<Vec<_>>() {
            for (claim, roles) in made {
                self.claims.entry(claim).or_default().insert(object.clone(), roles);
            }
        }
        for (name, slice) in &self.slices {
            let of = self.slices_of.entry(service_of(name, slice)).or_default();
            of.insert(name.clone());
        }
        for (name, node) in &self.nodes {
            for ip in &node.addresses {
                self.hosts.entry(ip.to_canonical()).or_default().insert(name.clone());
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
            ClusterChange::Service(name, new) => self.services.get(name) != new.as_ref(),
            ClusterChange::Slice(name, new) => self.slices.get(name) != new.as_ref(),
            ClusterChange::Node(name, new) => self.nodes.get(name) != new.as_ref(),
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
            ClusterKind::Services => self.services.keys().cloned().collect(),
            ClusterKind::Slices => self.slices.keys().cloned().collect(),
            ClusterKind::Nodes => self.nodes.keys().cloned().collect(),
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

    /// Nobody has listened since then, unless that began earlier.
    pub(crate) fn unheard_since(&mut self, since: Timestamp) {
        self.lost = self.lost.map(|lost| Some(lost.unwrap_or(since)));
    }

    /// The clock was ahead and has been set back.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        self.held.set_back(now);
        self.lost = self.lost.map(|lost| lost.map(|lost| lost.min(now)));
    }

    /// Takes in what is new.
    pub(crate) fn take(&mut self, news: ClusterNews, now: Timestamp) {
        match news {
            ClusterNews::Changed(changes) => {
                changes.into_iter().for_each(|change| self.change(change, now));
            }
            ClusterNews::Lost(kind, since) => {
                self.lost[kind.index()].get_or_insert(since.min(now));
            }
            ClusterNews::Watched(kind) => self.lost[kind.index()] = None,
        }
    }

    fn change(&mut self, change: ClusterChange, now: Timestamp) {
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
                let old = self.services.get(&name).map(claims).unwrap_or_default();
                let claims = new.as_ref().map(claims).unwrap_or_default();
                if self.claim((kind, name.clone()), old, claims, until, now) {
                    set(&mut self.services, name, new);
                }
            }
            ClusterChange::Slice(name, new) => {
                let claims = |slice: &ClusterSlice| claims_of_slice(&name, slice);
                let old = self.slices.get(&name).map(claims).unwrap_or_default();
                let claims = new.as_ref().map(claims).unwrap_or_default();
                if self.claim((kind, name.clone()), old, claims, until, now) {
                    let old = self.slices.get(&name).map(|old| service_of(&name, old));
                    if let Some(old) = old {
                        take_out(&mut self.slices_of, &old, &name);
                        self.leads_elsewhere(&old);
                    }
                    if let Some(of) = new.as_ref().map(|new| service_of(&name, new)) {
                        self.leads_elsewhere(&of);
                        self.slices_of.entry(of).or_default().insert(name.clone());
                    }
                    set(&mut self.slices, name, new);
                }
            }
            ClusterChange::Node(name, new) => {
                for ip in self.nodes.get(&name).into_iter().flat_map(|old| &old.addresses) {
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
        self.changed.extend(addresses.map(|ip| Spot::Address(ip.to_canonical())));
    }

    /// An object claims other things than before; returns whether there was room for that.
    fn claim(
        &mut self,
        object: ObjectKey,
        old: BTreeMap<Claim, Roles>,
        new: BTreeMap<Claim, Roles>,
        until: Timestamp,
        now: Timestamp,
    ) -> bool {
        if self.claims.len() + new.len() > MOST_CLAIMS + old.len() {
            self.refused += 1;
            return false;
        }
        for (claim, _) in old.iter().filter(|(claim, _)| !new.contains_key(*claim)) {
            let Some(made) = self.claims.get_mut(claim) else { continue };
            made.remove(&object);
            let (spot, sort, holder) = claim;
            if made.is_empty() {
                self.claims.remove(claim);
                self.held.ends(*spot, (*sort, holder), until, now);
                self.changed.insert(*spot);
            } else {
                let roles = made.values().flatten().cloned().collect();
                self.held.holds(*spot, (*sort, holder), roles, until, now);
                self.changed.insert(*spot);
            }
        }
        for (claim, roles) in new {
            if old.get(&claim) == Some(&roles) {
                continue;
            }
            let (spot, sort, holder) = claim.clone();
            let made = self.claims.entry(claim).or_default();
            made.insert(object.clone(), roles);
            let roles = made.values().flatten().cloned().collect();
            self.held.holds(spot, (sort, &holder), roles, until, now);
            self.changed.insert(spot);
        }
        true
    }

    /// The Service whose an address was, as it is told; of an address that is a covered host's own, at a port that leads
    /// from there to a Service. Until hosts are known, every address may be one's.
    pub(crate) fn who(
        &self,
        ip: IpAddr,
        port: Option<u16>,
        covered_host: bool,
        span: Span,
    ) -> Option<(&Arc<ObjectName>, Sort)> {
        let is_host = self.hosts.contains_key(&ip);
        let by_port = || {
            let port = port.filter(|_| is_host)?;
            self.held.who(Spot::NodePort(port), Some(port), false, span)
        };
        if covered_host {
            return by_port();
        }
        let shared = is_host || self.nodes.is_empty();
        self.held.who(Spot::Address(ip), port, shared, span).or_else(by_port)
    }

    /// The Service that an address stands for, with all of its pods.
    pub(crate) fn service_at(&self, ip: IpAddr, port: u16, span: Span) -> Option<&Arc<ObjectName>> {
        let (service, sort) = self.held.who(Spot::Address(ip), Some(port), false, span)?;
        (sort == Sort::Service).then_some(service)
    }

    /// Where the pods are that are ready to serve a port of a Service, the first ones by address: `None` when there are
    /// too many to look at.
    pub(crate) fn behind(
        &self,
        service: &ObjectName,
        port: u16,
    ) -> Option<BTreeSet<(IpAddr, u16)>> {
        let mut behind = BTreeSet::new();
        let Some(known) = self.services.get(service) else { return Some(behind) };
        let Some(named) = known.ports.iter().find(|known| known.port == port) else {
            return Some(behind);
        };
        let slices = self.slices_of.get(service).into_iter().flatten();
        for slice in slices.filter_map(|name| self.slices.get(name)) {
            let Some((_, target)) = slice.ports.iter().find(|(name, _)| *name == named.name) else {
                continue;
            };
            let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
            for ip in ready.flat_map(|endpoint| &endpoint.addresses) {
                behind.insert((ip.to_canonical(), *target));
                if behind.len() > MOST_BEHIND {
                    return None;
                }
            }
        }
        Some(behind)
    }

    /// Addresses of Services, and ports there, that lead to a pod's port now.
    pub(crate) fn fronts(&self, ip: IpAddr, port: u16) -> Vec<(IpAddr, u16)> {
        let mut fronts = Vec::new();
        for name in self.held.services(Spot::Address(ip), port) {
            let Some(service) = self.services.get(name) else { continue };
            for front in service.ports.iter().map(|port| port.port) {
                if self.behind(name, front).is_some_and(|behind| behind.contains(&(ip, port))) {
                    let addresses = service.addresses.iter();
                    fronts.extend(addresses.map(|address| (address.to_canonical(), front)));
                }
            }
        }
        fronts
    }

    /// The zone of a host: of the one that is called so, else of the only one that has one of these addresses.
    pub(crate) fn zone(&self, host: &str, addresses: impl Iterator<Item = IpAddr>) -> Option<&str> {
        let zone = |name: &ObjectName| {
            let zone = self.nodes.get(name).map(|node| node.zone.as_str());
            zone.filter(|zone| !zone.is_empty())
        };
        let called = ObjectName::new("", host);
        if self.nodes.contains_key(&called) {
            return zone(&called);
        }
        let hosts = addresses.filter_map(|ip| self.hosts.get(&ip.to_canonical())).flatten();
        let hosts: BTreeSet<&ObjectName> = hosts.collect();
        match hosts.into_iter().collect::<Vec<_>>()[..] {
            [only] => zone(only),
            _ => None,
        }
    }

    /// Forgets who had what long ago; returns what has another holder, or others behind it, since the
    /// last time.
    pub(crate) fn turn(&mut self, now: Timestamp) -> BTreeSet<Spot> {
        self.held.forget(now);
        std::mem::take(&mut self.changed)
    }

    #[cfg(test)]
    pub(crate) const fn held(&self) -> &Held {
        &self.held
    }

    /// Whether [`turn`](Self::turn) has anything to do.
    pub(crate) fn has_news(&self, now: Timestamp) -> bool {
        !self.changed.is_empty() || self.held.is_due(now)
    }
}

fn set<T>(map: &mut BTreeMap<ObjectName, T>, name: ObjectName, new: Option<T>) {
    match new {
        Some(new) => drop(map.insert(name, new)),
        None => drop(map.remove(&name)),
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
