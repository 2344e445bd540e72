//! The node's own addresses, per network namespace, and the scope of an address.

mod interfaces;
mod networks;
mod scope;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use topology::model::Address;

use crate::owners::{NamespaceMember, ProcFs};
use interfaces::{Found, Target};
pub(crate) use networks::fuzzing;
#[cfg(test)]
pub(crate) use scope::scoped;
pub use scope::{Scopes, canonical};

/// All namespaces are looked into this often; a new one at once.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Networks that are this host's alone are looked for at most this often.
const NETWORKS_EVERY: Duration = Duration::from_millis(200);

/// Addresses of a namespace that can no longer be entered are announced for this long.
const KEEP: Duration = Duration::from_secs(60);

/// Namespaces known at a time; more are not announced.
const NAMESPACES: usize = 1_024;

/// Addresses announced; more are not.
const ADDRESSES: usize = 8_192;

/// Processes remembered per namespace as ways into it.
const ENTRANCES: usize = 8;

/// An address and the network namespace (by cookie; 0 when not known) whose interface has it.
pub type OwnAddress = (Address, u64);

#[derive(Debug)]
struct Namespace {
    entrances: Vec<PathBuf>,
    addresses: Vec<IpAddr>,
    /// When its addresses were last read.
    seen: Instant,
    /// Not looked into yet.
    fresh: bool,
}

/// Keeps the node's addresses up to date.
#[derive(Debug)]
pub struct Addresses {
    procfs: ProcFs,
    own_cookie: Option<u64>,
    own: Vec<IpAddr>,
    namespaces: BTreeMap<u64, Namespace>,
    looked: Option<Instant>,
    announced: Option<BTreeSet<OwnAddress>>,
    scopes: Scopes,
    /// When the host's own networks were last looked for.
    networks_looked: Option<Instant>,
}

impl Addresses {
    /// Knows no addresses yet.
    #[must_use]
    pub fn new(procfs: ProcFs) -> Self {
        Self {
            procfs,
            own_cookie: crate::netns::cookie().ok(),
            own: Vec::new(),
            namespaces: BTreeMap::new(),
            looked: None,
            announced: None,
            scopes: Scopes::default(),
            networks_looked: None,
        }
    }

    /// Takes note of processes in namespaces and looks where it is due. Returns all addresses
    /// when they are not those returned before.
    pub fn refresh(
        &mut self,
        members: Vec<NamespaceMember>,
        now: Instant,
    ) -> Option<Vec<OwnAddress>> {
        for member in members {
            self.note(member, now);
        }
        let all = self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK_EVERY);
        if !all && !self.namespaces.values().any(|namespace| namespace.fresh) {
            return None;
        }
        if all {
            self.looked = Some(now);
            self.own = interfaces::here();
        }
        for found in interfaces::look_into(self.targets(all)) {
            self.take(found, now);
        }
        self.namespaces.retain(|_, namespace| now.duration_since(namespace.seen) < KEEP);
        let addresses = self.all();
        if self.announced.as_ref() == Some(&addresses) {
            return None;
        }
        let list = addresses.iter().copied().collect();
        self.announced = Some(addresses);
        Some(list)
    }

    /// Cookie of the host's own network namespace, where the kernel tells.
    #[must_use]
    pub fn host_namespace(&self) -> Option<u64> {
        self.own_cookie
    }

    /// What addresses mean on this host, as of the last look.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        self.scopes.clone()
    }

    /// Looks for networks that are this host's alone. They come before what is on them: to be called before new halves
    /// are.
    pub fn look_for_networks(&mut self, now: Instant) -> Scopes {
        let recent = |looked: Instant| now.duration_since(looked) < NETWORKS_EVERY;
        if !self.networks_looked.is_some_and(recent) {
            self.networks_looked = Some(now);
            match networks::local() {
                Ok(local) => {
                    let scopes = Scopes::new(self.own_cookie, local);
                    if scopes != self.scopes {
                        self.scopes = scopes;
                    }
                }
                Err(error) => tracing::debug!(%error, "interfaces cannot be listed"),
            }
        }
        self.scopes()
    }

    /// Does some work in each of these network namespaces that there is time for until the deadline, as far as there is a
    /// way into them.
    pub fn within<T: Send>(
        &self,
        cookies: impl Iterator<Item = u64>,
        deadline: Instant,
        work: impl FnMut(u64) -> T + Send,
    ) -> Vec<(u64, Option<T>)> {
        let targets = cookies.map(|cookie| {
            let namespace = self.namespaces.get(&cookie);
            let entrances = namespace.map(|it| it.entrances.clone()).unwrap_or_default();
            Target { cookie, entrances }
        });
        interfaces::work_in(targets.collect(), deadline, work)
    }

    fn note(&mut self, member: NamespaceMember, now: Instant) {
        let cookie = member.network_namespace;
        if Some(cookie) == self.own_cookie
            || (self.namespaces.len() >= NAMESPACES && !self.namespaces.contains_key(&cookie))
        {
            return;
        }
        let entrance = self.procfs.path(member.tgid, "ns/net");
        let namespace = self.namespaces.entry(cookie).or_insert_with(|| Namespace {
            entrances: Vec::new(),
            addresses: Vec::new(),
            seen: now,
            fresh: true,
        });
        // Old ones stay: what has lived for long will live on.
        namespace.entrances.truncate(ENTRANCES - 1);
        namespace.entrances.push(entrance);
        namespace.fresh |= namespace.addresses.is_empty();
    }

    fn targets(&mut self, all: bool) -> Vec<Target> {
        self.namespaces
            .iter_mut()
            .filter(|(_, namespace)| all || namespace.fresh)
            .map(|(cookie, namespace)| {
                namespace.fresh = false;
                Target { cookie: *cookie, entrances: namespace.entrances.clone() }
            })
            .collect()
    }

    fn take(&mut self, found: Found, now: Instant) {
        let Some(namespace) = self.namespaces.get_mut(&found.cookie) else { return };
        namespace.entrances.retain(|entrance| !found.dead.contains(entrance));
        if found.own {
            // The kernel is too old to tell the agent its cookie, but an owner had it.
            self.own_cookie = Some(found.cookie);
            self.namespaces.remove(&found.cookie);
        } else if !found.addresses.is_empty() {
            namespace.addresses = found.addresses;
            namespace.seen = now;
        }
    }

    fn all(&self) -> BTreeSet<OwnAddress> {
        let own = self.own.iter().map(|ip| (*ip, self.own_cookie.unwrap_or(0)));
        let others = self.namespaces.iter().flat_map(|(cookie, namespace)| {
            namespace.addresses.iter().map(move |ip| (*ip, *cookie))
        });
        own.chain(others)
            .map(|(ip, cookie)| (self.scopes.of(ip, cookie), cookie))
            .take(ADDRESSES)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announces_this_hosts_addresses_once() {
        let mut addresses = Addresses::new(ProcFs::new("/proc"));
        let now = Instant::now();
        let first = addresses.refresh(Vec::new(), now).unwrap();
        assert!(first.iter().all(|(address, _)| !address.ip.is_loopback()));
        assert_eq!(addresses.refresh(Vec::new(), now), None, "not yet due");
        assert_eq!(addresses.refresh(Vec::new(), now + LOOK_EVERY), None, "nothing changed");
    }

    #[test]
    fn a_member_of_the_own_namespace_adds_nothing() {
        let mut addresses = Addresses::new(ProcFs::new("/proc"));
        let Some(cookie) = addresses.own_cookie else {
            return crate::testing::skipped("the kernel is too old to tell its cookies");
        };
        let now = Instant::now();
        addresses.refresh(Vec::new(), now);
        let member = NamespaceMember { network_namespace: cookie, tgid: std::process::id() };
        assert_eq!(addresses.refresh(vec![member], now), None);
        assert!(addresses.namespaces.is_empty());
    }

    #[test]
    fn a_namespace_without_an_entrance_is_forgotten() {
        let mut addresses = Addresses::new(ProcFs::new("/proc"));
        let now = Instant::now();
        addresses.refresh(Vec::new(), now);
        let member = NamespaceMember { network_namespace: u64::MAX, tgid: u32::MAX };
        addresses.refresh(vec![member], now);
        assert_eq!(addresses.namespaces.len(), 1);
        addresses.refresh(Vec::new(), now + KEEP);
        assert!(addresses.namespaces.is_empty());
    }

    #[test]
    fn early_entrances_are_kept() {
        let mut addresses = Addresses::new(ProcFs::new("/proc"));
        for tgid in 1..100 {
            addresses.note(NamespaceMember { network_namespace: 1 << 60, tgid }, Instant::now());
        }
        let entrances = &addresses.namespaces[&(1 << 60)].entrances;
        assert_eq!(entrances.len(), ENTRANCES);
        assert_eq!(entrances.first().unwrap(), &PathBuf::from("/proc/1/ns/net"));
        assert_eq!(entrances.last().unwrap(), &PathBuf::from("/proc/99/ns/net"));
    }
}
