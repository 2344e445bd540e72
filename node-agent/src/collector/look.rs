//! Looking at the kernel: slots, listeners, losses, and what can be given back.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use common::kernel::OWNERS;
use topology::model::{Address, Endpoint, Scope, Tuple, Workload};

use super::Collector;
use crate::{
    report::{Absorbed, DeferredChange},
    source::{PortSharing, RetireOutcome, SlotUse, Source},
};

/// Listeners are read this often, besides when a hint says that they changed.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// Who listened on a port before has left it for good when nothing of its connections has changed for this long, and
/// none is open: by then the aggregator has what they counted, and takes the next server's for the next server's.
const LEFT: Duration = Duration::from_secs(15);

/// Slots, halves and owners that nobody needs are looked for this often.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// A slot that has been quiet for this long is given back.
const QUIET: Duration = Duration::from_secs(60);

/// The same, when three quarters of the slots are taken.
const QUIET_WHEN_SCARCE: Duration = Duration::from_secs(2);

impl<S: Source> Collector<S> {
    pub(super) fn refresh(&mut self) {
        match self.source.refresh() {
            Ok(()) => self.refresh_fails = false,
            Err(error) => {
                self.metrics.refresh_failures.inc();
                if !std::mem::replace(&mut self.refresh_fails, true) {
                    tracing::warn!("live sockets cannot be looked at: {error:#}");
                }
            }
        }
    }

    /// Takes over what the slots gained.
    pub(super) fn read_slots(&mut self, only: Option<&[u32]>, now: Instant) {
        let mut deferred = Vec::new();
        self.report.set_scopes(self.addresses.look_for_networks(now));
        let report = &mut self.report;
        self.source.changes(only, &mut |change| {
            if report.absorb(&change, now) == Absorbed::NeedsWorkload {
                deferred.push(DeferredChange::of(&change));
            }
        });
        // First what is known to be part of a half: else another slot of the same one would make it anew, and all that it
        // has counted would be told as another's.
        let is_linked = |change: &DeferredChange| {
            self.links.get(&change.slot()).is_some_and(|link| link.owner == change.owner())
        };
        deferred.sort_by_key(|change| !is_linked(change));
        for change in deferred {
            let (slot, owner) = (change.slot(), change.owner());
            // What has been told as part of one half is not to be told as part of another; it takes no room.
            let before = self.links.remove(&slot).filter(|link| link.owner == owner);
            let change = change.change();
            if let (None, Some(ledger)) = (&before, self.source.ledger()) {
                self.report.fold_new(!ledger.has_room());
                if !ledger.has_room_for_slot() {
                    self.report.refuse(&change, now);
                    continue;
                }
            }
            match before {
                Some(link) => self.report.absorb_into(&change, &link, now),
                None => {
                    let workload = self.workload(owner, now);
                    self.report.absorb_as(&change, &workload, now);
                }
            }
            if let Some(ledger) = self.source.ledger()
                && let Some(link) = self.report.link_of_slot(slot, change.key)
            {
                ledger.link(slot, link);
            }
        }
        self.metrics.halves.set(self.report.halves() as i64);
        self.follow_hints();
        self.nat.look(&mut self.report, &self.addresses, now);
    }

    fn workload(&mut self, owner: u64, now: Instant) -> Arc<Workload> {
        let source = &mut self.source;
        self.owners.workload(owner, now, |id| source.owner(id))
    }

    /// Takes over who listens.
    pub(super) fn read_listeners(&mut self, now: Instant) {
        self.listed = Some(now);
        let keys = self.source.listeners();
        let scopes = self.addresses.look_for_networks(now);
        let mut listeners = Vec::with_capacity(keys.len());
        let mut ports: HashMap<(u64, u16), Sharing> = HashMap::new();
        for key in keys {
            let workload = self.workload(key.owner, now);
            let port = ports.entry((key.netns_cookie, key.port));
            port.or_insert_with(|| Sharing::new(key.owner, &workload)).add(key.owner, &workload);
            let address = scopes.of_raw(key.address, key.netns_cookie);
            listeners.push((workload, address, key.netns_cookie, key.port));
        }
        self.add_former(&mut ports, now);
        let single = self.report.single_connections();
        let apart = self.apart.ports(now, is_crowded(self.source.slots()), &single);
        for ((network_namespace, port), sharing) in ports {
            let sharing = match sharing {
                _ if apart.contains(&(network_namespace, port)) => PortSharing::Several,
                Sharing { workloads_differ: true, .. } => PortSharing::Several,
                Sharing { owners_differ: true, .. } => PortSharing::OneWorkload,
                Sharing { owner, .. } => PortSharing::One(owner),
            };
            self.source.set_port_sharing(network_namespace, port, sharing);
        }
        self.report.set_listeners(&listeners);
    }

    /// Who listened on a port shares it with the next until its connections are over.
    fn add_former(&mut self, ports: &mut HashMap<(u64, u16), Sharing>, now: Instant) {
        let left: HashSet<u32> = self.report.quiet_slots(now, LEFT).into_iter().collect();
        for server in self.source.servers() {
            let Some(port) = ports.get_mut(&(server.netns_cookie, server.port)) else { continue };
            if server.owner != port.owner && !left.contains(&server.slot) {
                let workload = self.workload(server.owner, now);
                port.add(server.owner, &workload);
            }
        }
    }

    /// Takes over what concerns the host as a whole.
    pub(super) fn read_host(&mut self, now: Instant) {
        if self.listed.is_none_or(|listed| now.duration_since(listed) >= LIST_EVERY) {
            self.read_listeners(now);
        }
        self.report.set_runqueue(self.source.runqueue());
        let members = self.owners.take_members();
        if let Some(addresses) = self.addresses.refresh(members, now) {
            self.status.addresses(addresses, self.addresses.host_namespace());
        }
        let mut losses = self.source.losses();
        losses.push(("report_full", self.report.refused()));
        losses.push(("report_folded", self.report.folded()));
        losses.extend(self.nat.losses());
        losses.extend(self.apart.losses());
        losses.extend(self.queue_losses());
        if let Some(ledger) = self.source.ledger() {
            ledger.carry(&mut losses);
        }
        for (cause, total) in &losses {
            self.metrics.set_loss(cause, *total);
        }
        self.status.losses(losses);
        self.status.translations(&self.nat.program());
        self.metrics.set_slots(self.source.slots());
        let names = self.report.container_names();
        self.metrics.set_names(names.len(), names.refused());
    }

    pub(super) fn update_status(&mut self) {
        if let Some(pods) = &self.pods {
            self.status.pods(&pods.program());
        }
        if let Some(status) = self.status.take() {
            self.report.set_status(status);
        }
    }

    /// Gives back what nobody needs.
    pub(super) fn tidy(&mut self, now: Instant) {
        let slots = self.source.slots();
        let scarce = is_scarce(slots.used as usize, slots.capacity as usize);
        let pressed = scarce || is_scarce(self.owners.in_kernel(), OWNERS as usize);
        let often = self.tidied.is_some_and(|tidied| now.duration_since(tidied) < TIDY_EVERY);
        if often && !pressed {
            return;
        }
        self.tidied = Some(now);
        let quiet = if scarce { QUIET_WHEN_SCARCE } else { QUIET };
        for slot in self.report.quiet_slots(now, quiet) {
            if self.source.retire(slot) == RetireOutcome::Freed {
                self.report.slot_freed(slot);
            }
        }
        let most = self.source.ledger().map_or(usize::MAX, |ledger| ledger.retirable());
        self.report.expire(now, most);
        self.forget_owners();
    }

    fn forget_owners(&mut self) {
        // Asking after every process costs; there is no hurry while there is room.
        if self.owners.in_kernel() < OWNERS as usize / 4 {
            return;
        }
        let mut used: HashSet<u64> = self.report.owners().collect();
        used.extend(self.source.listeners().iter().map(|listener| listener.owner));
        for owner in self.owners.take_gone(&used) {
            self.source.forget_owner(owner);
        }
    }

    /// Counts each connection to these as a half of its own from now on.
    pub(super) fn split(&mut self, endpoints: &[Endpoint]) {
        let now = Instant::now();
        let ports = self.report.ports_of(endpoints);
        self.apart.add(ports, now);
        self.read_listeners(now);
    }

    /// Finds out whose these connections were.
    pub(super) fn answer(&mut self, tuples: Vec<Tuple>) {
        let now = Instant::now();
        // The programs know a connection as its client does.
        let originals = self.nat.originals(&tuples, &self.addresses.scopes());
        let is_untracked = originals.iter().any(|asked| asked.untracked);
        let unclear = if is_untracked { self.report.unclear_ends() } else { HashSet::new() };
        for (tuple, asked) in tuples.into_iter().zip(originals) {
            let own = asked.tuple;
            let owner = match asked.is_unclear(&unclear) {
                true => None,
                false => self.source.tuple_owner(namespace(&own.client), &own),
            };
            let workload = owner.map(|owner| self.workload(owner, now));
            self.report.answer(tuple, workload);
        }
    }
}

/// Who shares a listening port.
struct Sharing {
    owner: u64,
    workload: Arc<Workload>,
    owners_differ: bool,
    workloads_differ: bool,
}

impl Sharing {
    fn new(owner: u64, workload: &Arc<Workload>) -> Self {
        let workload = Arc::clone(workload);
        Self { owner, workload, owners_differ: false, workloads_differ: false }
    }

    fn add(&mut self, owner: u64, workload: &Arc<Workload>) {
        self.owners_differ |= self.owner != owner;
        self.workloads_differ |= self.workload != *workload;
    }
}

/// Whether it is better to tell fewer apart: each connection takes a slot until it has been quiet for a while.
fn is_crowded(slots: SlotUse) -> bool {
    slots.used > slots.capacity / 2
}

fn is_scarce(used: usize, capacity: usize) -> bool {
    used * 4 > capacity * 3
}

fn namespace(address: &Address) -> Option<u64> {
    match address.scope {
        Scope::Namespace(cookie) => Some(cookie),
        Scope::Global | Scope::Network(_) => None,
    }
}
