//! The real kernel behind [`Source`]: programs loaded and attached, maps opened and read.
#![allow(unsafe_code, reason = "memory shared with the kernel programs: see pages.rs")]

mod adopt;
pub(crate) mod aside;
pub(crate) mod btf;
mod former;
mod iterators;
mod links;
mod listeners;
mod load;
mod maps;
mod namespaces;
mod over_map;
mod pages;
pub mod pins;
mod programs;
mod settings;
mod slots;
mod tracefs;

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use aya::programs::TracePoint;
use common::{
    BUCKETS,
    kernel::{Hint, ListenerKey, Loss, Owner, TupleKey},
};
use topology::model::{Address, Scope, Tuple};

use self::{iterators::Iterators, maps::Maps, namespaces::Namespaces, pins::Pins, slots::Slots};
use crate::{
    ledger::Ledger,
    source::{Former, PortSharing, Program, RetireOutcome, Server, SlotChange, SlotUse, Source},
};

/// The kernel programs, compiled: see `build.rs` and `cargo xtask bpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("WEFT_BPF_OBJECT"));

/// The loss that is none while nobody is there to read hints.
const HINTS_FULL: &str = "hints_full";

/// Without a survey, a namespace without open connections is walked every so many refreshes, for its listeners.
const QUIET_NAMESPACE_REFRESHES: u64 = 10;

/// With one, every namespace is walked every so many refreshes, for sockets older than the agent that could not be taken up at first.
const SURVEYED_REFRESHES: u64 = 60;

/// The programs and their maps. Dropping it detaches and removes everything that is not pinned.
pub struct Kernel {
    iterators: Iterators,
    programs: Vec<Program>,
    generation: u64,
    walk: bool,
    /// Whether a survey tells where walking is of use.
    survey: bool,
    slots: Slots,
    maps: Maps,
    namespaces: Namespaces,
    refreshes: u64,
    ledger: Option<Ledger>,
    /// What was replaced, and is not told yet.
    formers: Vec<Former>,
    /// How often what was pinned could not be read.
    unreadable_pins: u64,
    /// What was pinned without a link, attached again.
    _again: Option<TracePoint>,
    /// Keeps others away as long as this agent lives.
    _pins: Option<Pins>,
}

impl Kernel {
    /// Whose a connection was that no tuple tells of: tuples are kept from the second owner on, so it was the first's.
    fn first_owner(&self, tuple: &TupleKey) -> Option<u64> {
        let reached = self.maps.fans.iter().filter_map(Result::ok).find(|(fan, state)| {
            let half = self.slots.key(state.slot);
            fan.peer == tuple.server
                && fan.server_port == tuple.server_port
                && half.owner == state.owner
                && half.local == tuple.client
                && (tuple.netns_cookie == 0 || tuple.netns_cookie == fan.scope)
        });
        reached.map(|(_, state)| state.owner)
    }

    /// Tags the sockets of processes that were there before, then takes up their connections.
    fn pick_up(&mut self, cgroup: &Path) {
        if !self.walk {
            return;
        }
        let processes = adopt::processes_below(cgroup);
        let adopted = self.adopt_processes(&processes).and_then(|()| self.refresh());
        // Whatever came of it: a later socket at the same place in memory is somebody else's.
        self.forget_addresses();
        match adopted {
            Ok(()) => {
                tracing::info!(processes = processes.len(), "picked up what was there before")
            }
            Err(error) => {
                tracing::warn!("cannot pick up sockets that were there before: {error:#}")
            }
        }
    }

    /// Goes over all sockets that are followed, which marks the slots that a walk would add to, and renews listeners.
    fn survey(&mut self) -> bool {
        // The first time, sockets older than the agent are to be found.
        if !self.survey || self.refreshes == 0 {
            return false;
        }
        if let Err(error) = self.iterators.survey() {
            tracing::warn!(%error, "from now on every namespace with open connections is walked");
            self.survey = false;
        }
        self.survey
    }

    /// Makes sure that a namespace can be entered, through a process that lives there.
    fn note_namespace(&mut self, cookie: u64, owner: u64) {
        if !self.namespaces.knows(cookie)
            && let Ok(owner) = self.maps.owners.get(&owner, 0)
        {
            self.namespaces.note(cookie, owner.tgid);
        }
    }

    fn adopt_processes(&mut self, processes: &[(u64, Owner)]) -> anyhow::Result<()> {
        for (id, owner) in processes {
            self.maps.owners.insert(id, owner, 0)?;
            self.maps.adoptions.insert(owner.tgid, [*id, owner.netns_cookie], 0)?;
            self.namespaces.note(owner.netns_cookie, owner.tgid);
        }
        self.iterators.adopt_files()?;
        // A process made from here on is not one of these, though its number may be.
        for (_, owner) in processes {
            let _ = self.maps.adoptions.remove(&owner.tgid);
        }
        Ok(())
    }

    /// Empties the map of MPTCP sockets to pick up: a later one may be at the address of one of them.
    fn forget_addresses(&mut self) {
        let addresses = &mut self.maps.mptcp_adoptions;
        let all: Vec<u64> = addresses.keys().filter_map(Result::ok).collect();
        for address in all {
            let _ = addresses.remove(&address);
        }
    }
}

fn lost(maps: &Maps, loss: Loss) -> u64 {
    let per_cpu = maps.losses.get(&(loss as u32), 0);
    per_cpu.map(|values| values.iter().sum()).unwrap_or(0)
}

/// What the programs could not count, by cause.
fn losses(maps: &Maps, ledger: Option<&mut Ledger>) -> Vec<(&'static str, u64)> {
    let causes = Loss::ALL.iter();
    let mut losses: Vec<_> = causes.map(|(loss, name)| (*name, lost(maps, *loss))).collect();
    if let Some(ledger) = ledger {
        let hints_full = losses.iter_mut().find(|(name, _)| *name == HINTS_FULL);
        hints_full.into_iter().for_each(|(_, count)| *count = ledger.hints_missed(*count));
    }
    losses
}

impl Source for Kernel {
    fn programs(&self) -> &[Program] {
        &self.programs
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn refresh(&mut self) -> anyhow::Result<()> {
        if !self.walk {
            return Ok(());
        }
        let began_ns = listeners::now_ns();
        let surveyed = self.survey();
        let every = if surveyed { SURVEYED_REFRESHES } else { QUIET_NAMESPACE_REFRESHES };
        let all = self.refreshes.is_multiple_of(every);
        self.refreshes += 1;
        let open = self.slots.open_namespaces(began_ns.filter(|_| surveyed));
        for (cookie, owner) in &open {
            self.note_namespace(*cookie, *owner);
        }
        // What is counted for all owners is of any namespace.
        let all = all || open.contains_key(&0);
        let entrances = self.namespaces.entrances(|cookie| all || open.contains_key(&cookie));
        let iterators = &mut self.iterators;
        if all || !surveyed || self.namespaces.is_own_among(&open) {
            iterators.walk_tcp()?;
        }
        if !entrances.is_empty() {
            // A listener that could not be looked for is not gone.
            self.namespaces.within(&entrances, || iterators.walk_tcp())?;
        }
        if let (true, Some(began_ns)) = (all || surveyed, began_ns) {
            self.maps.listeners.walked(began_ns);
        }
        Ok(())
    }

    fn changes(&mut self, only: Option<&[u32]>, visit: &mut dyn FnMut(SlotChange<'_>)) {
        self.slots.changes(only, visit);
        if let Some(ledger) = &mut self.ledger {
            ledger.set_ends(self.slots.ends());
        }
    }

    fn owner(&mut self, id: u64) -> Option<Owner> {
        let owner = self.maps.owners.get(&id, 0).ok()?;
        self.namespaces.note(owner.netns_cookie, owner.tgid);
        Some(owner)
    }

    fn forget_owner(&mut self, id: u64) {
        // Its next socket makes it known again.
        let _ = self.maps.owners.remove(&id);
    }

    fn retire(&mut self, slot: u32) -> RetireOutcome {
        self.slots.retire(slot, self.ledger.as_mut())
    }

    fn slots(&self) -> SlotUse {
        self.slots.usage()
    }

    fn listeners(&mut self) -> Vec<ListenerKey> {
        let served = self.slots.servers().iter().map(|s| (s.netns_cookie, s.port)).collect();
        self.maps.listeners.read(&served)
    }

    fn servers(&mut self) -> Vec<Server> {
        self.slots.servers()
    }

    fn set_port_sharing(&mut self, netns_cookie: u64, port: u16, sharing: PortSharing) {
        self.maps.listeners.set_sharing(netns_cookie, port, sharing);
    }

    fn losses(&mut self) -> Vec<(&'static str, u64)> {
        let mut losses = losses(&self.maps, self.ledger.as_mut());
        if self.unreadable_pins > 0 {
            losses.push(("pins_unreadable", self.unreadable_pins));
        }
        losses
    }

    fn runqueue(&mut self) -> Vec<(u16, u64)> {
        let Ok(per_cpu) = self.maps.runqueue.get(&0, 0) else {
            return Vec::new();
        };
        (0..BUCKETS)
            .map(|bucket| (bucket as u16, per_cpu.iter().map(|cpu| cpu[bucket]).sum()))
            .filter(|(_, count)| *count != 0)
            .collect()
    }

    fn tuple_owner(&mut self, network_namespace: Option<u64>, tuple: &Tuple) -> Option<u64> {
        let loopback = tuple.client.ip.is_loopback();
        let netns_cookie = match tuple.client.scope {
            Scope::Namespace(cookie) => cookie,
            _ if loopback => network_namespace?,
            _ => 0,
        };
        let key = TupleKey {
            client: mapped(&tuple.client),
            server: mapped(&tuple.server),
            netns_cookie,
            client_port: tuple.client_port,
            server_port: tuple.server_port,
            reserved: 0,
        };
        self.maps.tuples.get(&key, 0).ok().or_else(|| self.first_owner(&key))
    }

    fn hints(&mut self, visit: &mut dyn FnMut(Hint)) {
        while let Some(bytes) = self.maps.hints.next() {
            match parse_hint(&bytes) {
                Some(hint) => visit(hint),
                None => tracing::warn!(len = bytes.len(), "malformed hint"),
            }
        }
    }

    fn hint_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.maps.hints.as_fd())
    }

    fn ledger(&mut self) -> Option<&mut Ledger> {
        self.ledger.as_mut()
    }

    fn take_former(&mut self) -> Option<Former> {
        self.formers.pop()
    }
}

/// A record of the ring buffer, whose bytes the agent does not trust more than any others.
pub(crate) fn parse_hint(bytes: &[u8]) -> Option<Hint> {
    let (kind, rest) = bytes.split_first_chunk()?;
    let (tgid, rest) = rest.split_first_chunk()?;
    let (subject, _) = rest.split_first_chunk()?;
    Some(Hint {
        kind: u32::from_ne_bytes(*kind),
        tgid: u32::from_ne_bytes(*tgid),
        subject: u64::from_ne_bytes(*subject),
    })
}

fn mapped(address: &Address) -> [u8; 16] {
    match address.ip {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    }
}
