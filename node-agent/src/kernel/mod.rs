//! The real kernel behind [`Source`]: programs loaded and attached, maps opened and read.
#![allow(unsafe_code, reason = "memory shared with the kernel programs: see pages.rs")]

mod adopt;
mod btf;
mod listeners;
mod namespaces;
mod pages;
mod programs;
mod settings;
mod slots;
mod tracefs;

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
};

use anyhow::Context;
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, CgroupArray, HashMap as BpfHashMap, Map, MapData, PerCpuArray, Queue, RingBuf},
    programs::Iter,
};
use common::{
    BUCKETS,
    histogram::BUCKETS_POW2,
    kernel::{CHUNKS, FanKey, FanState, Hint, ListenerKey, Loss, Owner, SLOTS, TupleKey},
};
use topology::model::{Address, Scope, Tuple};

use self::{
    btf::KernelTypes,
    listeners::Listeners,
    namespaces::Namespaces,
    pages::Pages,
    settings::Settings,
    slots::{SlotMaps, Slots},
};
use crate::source::{
    PortSharing, Program, ProgramState, RetireOutcome, Server, SlotChange, SlotUse, Source,
};

/// The kernel programs, compiled: see `build.rs` and `cargo xtask bpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("WEFT_BPF_OBJECT"));

/// A namespace without open connections is walked every so many refreshes, for its listeners.
const QUIET_NAMESPACE_REFRESHES: u64 = 10;

/// The programs and their maps. Dropping it detaches and removes everything.
pub struct Kernel {
    ebpf: Ebpf,
    programs: Vec<Program>,
    generation: u64,
    walk: bool,
    slots: Slots,
    listeners: Listeners,
    namespaces: Namespaces,
    owners: BpfHashMap<MapData, u64, Owner>,
    tuples: BpfHashMap<MapData, TupleKey, u64>,
    fans: BpfHashMap<MapData, FanKey, FanState>,
    losses: PerCpuArray<MapData, u64>,
    runqueue: PerCpuArray<MapData, [u64; BUCKETS_POW2]>,
    hints: RingBuf<MapData>,
    refreshes: u64,
}

impl Kernel {
    /// Loads every program this kernel takes and attaches it to the cgroup v2 directory `cgroup`; then picks up
    /// the sockets that are already there. No more than `max_halves` halves are counted apart at a time.
    ///
    /// # Errors
    /// When the maps cannot be made or the directory not be opened. A single program that fails is reported by
    /// [`Source::programs`].
    pub fn load(cgroup: &Path, max_halves: u32) -> anyhow::Result<Self> {
        let first = Self::load_with(cgroup, max_halves, true)?;
        let walks = first
            .programs
            .iter()
            .any(|program| program.name == "walk_tcp" && program.state == ProgramState::Attached);
        // Without the iterator, events have to keep live sockets up to date, which is decided before loading.
        let mut kernel = if first.walk && !walks {
            drop(first);
            Self::load_with(cgroup, max_halves, false)?
        } else {
            first
        };
        kernel.adopt(cgroup);
        Ok(kernel)
    }

    fn load_with(cgroup: &Path, max_halves: u32, walk: bool) -> anyhow::Result<Self> {
        let directory = File::open(cgroup)
            .with_context(|| format!("cannot open the cgroup directory {}", cgroup.display()))?;
        let types = KernelTypes::of_kernel()
            .inspect_err(|error| tracing::warn!(%error, "no kernel type information"))
            .ok();
        let whole_system = is_cgroup_root(cgroup);
        let settings = Settings::of_kernel(types.as_ref(), walk, whole_system);
        drop(types);
        let btf = Btf::from_sys_fs().ok();
        let mut loader = EbpfLoader::new();
        loader.btf(btf.as_ref());
        settings.apply(&mut loader);
        let mut ebpf = loader.load(OBJECT).context("cannot create the kernel maps")?;
        drop(loader);

        let maps = SlotMaps {
            slots: Pages::new(&map_fd(&ebpf, "slots")?, SLOTS as usize)
                .context("cannot map the slots")?,
            chunks: Pages::new(&map_fd(&ebpf, "chunks")?, CHUNKS as usize)
                .context("cannot map the chunks")?,
            halves: BpfHashMap::try_from(take(&mut ebpf, "halves")?)?,
            chunk_of: BpfHashMap::try_from(take(&mut ebpf, "chunk_of")?)?,
            free_slots: Queue::try_from(take(&mut ebpf, "free_slots")?)?,
            spare_slots: Queue::try_from(take(&mut ebpf, "spare_slots")?)?,
            free_chunks: Queue::try_from(take(&mut ebpf, "free_chunks")?)?,
        };
        let slots = Slots::new(maps, max_halves).context("cannot fill the free lists")?;
        let listeners = Listeners::new(
            BpfHashMap::try_from(take(&mut ebpf, "listeners")?)?,
            BpfHashMap::try_from(take(&mut ebpf, "ports")?)?,
            Array::try_from(take(&mut ebpf, "shared_ports")?)?,
        );
        if !whole_system {
            let map = ebpf.map_mut("measured_cgroup").context("no map measured_cgroup")?;
            CgroupArray::try_from(map)?.set(0, directory.as_raw_fd(), 0)?;
        }
        let programs = programs::attach_all(&mut ebpf, btf.as_ref(), &directory, &settings);
        Ok(Self {
            programs,
            generation: random()?,
            walk: settings.walk,
            slots,
            listeners,
            namespaces: Namespaces::new(),
            owners: BpfHashMap::try_from(take(&mut ebpf, "owners")?)?,
            tuples: BpfHashMap::try_from(take(&mut ebpf, "tuples")?)?,
            fans: BpfHashMap::try_from(take(&mut ebpf, "fans")?)?,
            losses: PerCpuArray::try_from(take(&mut ebpf, "losses")?)?,
            runqueue: PerCpuArray::try_from(take(&mut ebpf, "runqueue")?)?,
            hints: RingBuf::try_from(take(&mut ebpf, "hints")?)?,
            ebpf,
            refreshes: 0,
        })
    }

    /// Whose a connection was that no tuple tells of: tuples are kept from the second owner on, so it was the first's.
    fn first_owner(&self, tuple: &TupleKey) -> Option<u64> {
        let reached = self.fans.iter().filter_map(Result::ok).find(|(fan, state)| {
            let half = self.slots.key(state.slot);
            fan.peer == tuple.server
                && fan.server_port == tuple.server_port
                && half.owner == state.owner
                && half.local == tuple.client
                && (tuple.netns_cookie == 0 || tuple.netns_cookie == fan.netns_cookie)
        });
        reached.map(|(_, state)| state.owner)
    }

    /// Tags the sockets of processes that were there before, then takes up their connections.
    fn adopt(&mut self, cgroup: &Path) {
        if !self.walk {
            return;
        }
        let processes = adopt::processes_below(cgroup);
        let adopted = self.adopt_processes(&processes).and_then(|()| self.refresh());
        // Whatever came of it: a later socket at the same place in memory is somebody else's.
        match self.forget_addresses().and(adopted) {
            Ok(()) => {
                tracing::info!(processes = processes.len(), "picked up what was there before")
            }
            Err(error) => {
                tracing::warn!("cannot pick up sockets that were there before: {error:#}")
            }
        }
    }

    /// Makes sure that a namespace can be entered, through a process that lives there.
    fn note_namespace(&mut self, cookie: u64, owner: u64) {
        if !self.namespaces.knows(cookie)
            && let Ok(owner) = self.owners.get(&owner, 0)
        {
            self.namespaces.note(cookie, owner.tgid);
        }
    }

    fn adopt_processes(&mut self, processes: &[(u64, Owner)]) -> anyhow::Result<()> {
        let mut adoptions: BpfHashMap<MapData, u32, [u64; 2]> =
            BpfHashMap::try_from(take(&mut self.ebpf, "adoptions")?)?;
        for (id, owner) in processes {
            self.owners.insert(id, owner, 0)?;
            adoptions.insert(owner.tgid, [*id, owner.netns_cookie], 0)?;
            self.namespaces.note(owner.netns_cookie, owner.tgid);
        }
        read_iterator(iterator(&mut self.ebpf, programs::ADOPT_FILES)?)?;
        // A process made from here on is not one of these, though its number may be.
        for (_, owner) in processes {
            let _ = adoptions.remove(&owner.tgid);
        }
        Ok(())
    }

    /// Empties the map of MPTCP sockets to pick up: a later one may be at the address of one of them.
    fn forget_addresses(&mut self) -> anyhow::Result<()> {
        let mut addresses: BpfHashMap<MapData, u64, [u64; 2]> =
            BpfHashMap::try_from(take(&mut self.ebpf, "mptcp_adoptions")?)?;
        let all: Vec<u64> = addresses.keys().filter_map(Result::ok).collect();
        for address in all {
            let _ = addresses.remove(&address);
        }
        Ok(())
    }
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
        let all = self.refreshes.is_multiple_of(QUIET_NAMESPACE_REFRESHES);
        self.refreshes += 1;
        let open = self.slots.open_namespaces();
        for (cookie, owner) in &open {
            self.note_namespace(*cookie, *owner);
        }
        let began_ns = listeners::now_ns();
        let entrances = self.namespaces.entrances(|cookie| all || open.contains_key(&cookie));
        let walker = iterator(&mut self.ebpf, programs::WALK_TCP)?;
        read_iterator(walker)?;
        if !entrances.is_empty() {
            // A listener that could not be looked for is not gone.
            self.namespaces.within(&entrances, || read_iterator(walker))?;
        }
        if let (true, Some(began_ns)) = (all, began_ns) {
            self.listeners.walked(began_ns);
        }
        Ok(())
    }

    fn changes(&mut self, only: Option<&[u32]>, visit: &mut dyn FnMut(SlotChange<'_>)) {
        self.slots.changes(only, visit);
    }

    fn owner(&mut self, id: u64) -> Option<Owner> {
        let owner = self.owners.get(&id, 0).ok()?;
        self.namespaces.note(owner.netns_cookie, owner.tgid);
        Some(owner)
    }

    fn forget_owner(&mut self, id: u64) {
        // Its next socket makes it known again.
        let _ = self.owners.remove(&id);
    }

    fn retire(&mut self, slot: u32) -> RetireOutcome {
        self.slots.retire(slot)
    }

    fn slots(&self) -> SlotUse {
        self.slots.usage()
    }

    fn listeners(&mut self) -> Vec<ListenerKey> {
        let served = self.slots.servers().iter().map(|s| (s.netns_cookie, s.port)).collect();
        self.listeners.read(&served)
    }

    fn servers(&mut self) -> Vec<Server> {
        self.slots.servers()
    }

    fn set_port_sharing(&mut self, netns_cookie: u64, port: u16, sharing: PortSharing) {
        self.listeners.set_sharing(netns_cookie, port, sharing);
    }

    fn losses(&mut self) -> Vec<(&'static str, u64)> {
        Loss::ALL
            .iter()
            .map(|(loss, name)| {
                let per_cpu = self.losses.get(&(*loss as u32), 0);
                (*name, per_cpu.map(|values| values.iter().sum()).unwrap_or(0))
            })
            .collect()
    }

    fn runqueue(&mut self) -> Vec<(u16, u64)> {
        let Ok(per_cpu) = self.runqueue.get(&0, 0) else {
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
        self.tuples.get(&key, 0).ok().or_else(|| self.first_owner(&key))
    }

    fn hints(&mut self, visit: &mut dyn FnMut(Hint)) {
        while let Some(bytes) = self.hints.next() {
            match parse_hint(&bytes) {
                Some(hint) => visit(hint),
                None => tracing::warn!(len = bytes.len(), "malformed hint"),
            }
        }
    }

    fn hint_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.hints.as_fd())
    }
}

/// A record of the ring buffer, whose bytes the agent does not trust more than any others.
fn parse_hint(bytes: &[u8]) -> Option<Hint> {
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

fn take(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Map> {
    ebpf.take_map(name).with_context(|| format!("no map {name} in the kernel object"))
}

fn map_fd(ebpf: &Ebpf, name: &str) -> anyhow::Result<std::os::fd::OwnedFd> {
    let map = ebpf.map(name).with_context(|| format!("no map {name} in the kernel object"))?;
    let Map::Array(data) = map else {
        anyhow::bail!("the map {name} is not an array");
    };
    Ok(data.fd().as_fd().try_clone_to_owned()?)
}

fn iterator<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Iter> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

/// Runs an iterator over everything once; its output is empty.
fn read_iterator(iterator: &mut Iter) -> io::Result<()> {
    let link = iterator.attach().map_err(io::Error::other)?;
    let link = iterator.take_link(link).map_err(io::Error::other)?;
    let mut file = link.into_file().map_err(io::Error::other)?;
    let mut nothing = [0; 64];
    while file.read(&mut nothing)? != 0 {}
    Ok(())
}

/// Whether a directory is the root of the cgroup v2 hierarchy, which alone has no `cgroup.type`.
fn is_cgroup_root(cgroup: &Path) -> bool {
    !cgroup.join("cgroup.type").exists()
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open(PathBuf::from("/dev/urandom"))?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
