//! Loading the programs, or going on with those of an agent before this one.

use std::{
    fs::File,
    io::{self, Read as _},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use anyhow::Context as _;
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{CgroupArray, Map},
};
use common::kernel::{Loss, SCHEMA_VERSION};

use super::{
    Kernel, OBJECT,
    btf::KernelTypes,
    iterators::Iterators,
    lost,
    maps::Maps,
    namespaces::Namespaces,
    pins::{self, LEDGER, Pins},
    programs,
    settings::Settings,
    slots::Slots,
};
use crate::{
    ledger::{Identity, Ledger, LedgerError},
    source::{Pinning, Program, ProgramState},
};

/// What is pinned, as far as this agent can use it.
enum Found {
    /// Nothing, or what an agent left that did not come to the end of its start.
    Nothing,
    /// All of it.
    Fitting(Box<Ledger>),
    /// The numbers, which are to be told for the last time; and why no more.
    Readable(Box<Ledger>, String),
    /// Nothing of use, and why.
    Useless(String),
}

impl Kernel {
    /// Loads every program this kernel takes and attaches it to the cgroup v2 directory `cgroup`; then picks up
    /// the sockets that are already there. No more than `max_halves` halves are counted apart at a time. With
    /// `pinning`, goes on with what an earlier agent pinned, and with the room that it made.
    ///
    /// # Errors
    /// When the maps cannot be made or the directory not be opened, or another agent has the pins. A single program that
    /// fails is reported by [`crate::source::Source::programs`].
    pub fn load(cgroup: &Path, max_halves: u32, pinning: Option<&Pinning>) -> anyhow::Result<Self> {
        let Some(pinning) = pinning else { return Self::begin(cgroup, max_halves, None) };
        let mut pins = Pins::open(&pinning.dir)?;
        let wanted = identity(cgroup, pinning, 0)?;
        let dir = pins.dir().display().to_string();
        let (kept, why) = match look(&mut pins, &wanted) {
            Found::Nothing => (true, None),
            Found::Fitting(ledger) => match Self::go_on(&pins, *ledger, wanted.object) {
                Ok(mut kernel) => {
                    kernel.take_formers(&pins)?;
                    return Ok(Self { _pins: Some(pins), ..kernel });
                }
                Err(error) => (false, Some(format!("{error:#}"))),
            },
            Found::Readable(ledger, why) => match Self::set_aside(&pins, *ledger) {
                Ok(()) => (true, Some(why)),
                Err(error) => (false, Some(format!("{why}, and {error:#}"))),
            },
            Found::Useless(why) => (false, Some(why)),
        };
        match why {
            Some(why) if kept => {
                tracing::warn!(dir, "what was pinned is read out and replaced: {why}")
            }
            Some(why) => tracing::warn!(
                dir,
                "what was pinned is replaced, and what it counted since the last report is lost: \
                 {why}"
            ),
            None => {}
        }
        let mut kernel = Self::begin(cgroup, max_halves, Some((&pins, pinning)))?;
        kernel.unreadable_pins = u64::from(!kept);
        kernel.take_formers(&pins)?;
        Ok(Self { _pins: Some(pins), ..kernel })
    }

    fn begin(
        cgroup: &Path,
        max_halves: u32,
        pins: Option<(&Pins, &Pinning)>,
    ) -> anyhow::Result<Self> {
        let first = Self::load_with(cgroup, max_halves, true, pins)?;
        let walks = is_attached(&first.programs, "walk_tcp");
        // Without the iterator, events have to keep live sockets up to date, which is decided before loading.
        let mut kernel = if first.walk && !walks {
            let tried = first.programs.clone();
            drop(first);
            let mut second = Self::load_with(cgroup, max_halves, false, pins)?;
            // Why they did not load is known of the first try only.
            for program in &mut second.programs {
                if let Some(before) = tried.iter().find(|before| before.name == program.name)
                    && before.state == ProgramState::Failed
                    && program.state == ProgramState::Failed
                {
                    program.reason.clone_from(&before.reason);
                }
            }
            second
        } else {
            first
        };
        kernel.pick_up(cgroup);
        if let Some(ledger) = &mut kernel.ledger {
            ledger.finish();
        }
        Ok(kernel)
    }

    fn load_with(
        cgroup: &Path,
        max_halves: u32,
        walk: bool,
        pins: Option<(&Pins, &Pinning)>,
    ) -> anyhow::Result<Self> {
        let directory = File::open(cgroup)
            .with_context(|| format!("cannot open the cgroup directory {}", cgroup.display()))?;
        let types = KernelTypes::of_kernel()
            .inspect_err(|error| tracing::warn!(%error, "no kernel type information"))
            .ok();
        let whole_system = is_cgroup_root(cgroup);
        let settings = Settings::of_kernel(types.as_ref(), walk, whole_system);
        drop(types);
        let mut loader = EbpfLoader::new();
        // It reads the kernel's types, which is more memory than all else; here nothing asks for them.
        loader.btf(None);
        settings.apply(&mut loader);
        if pins.is_none() {
            loader.map_max_entries(LEDGER, 1);
        }
        loader.map_max_entries(if settings.waits { "runnable_since" } else { "left" }, 1);
        let mut ebpf = loader.load(OBJECT).context("cannot create the kernel maps")?;
        drop(loader);
        let ledger = pins
            .map(|(pins, pinning)| -> anyhow::Result<Ledger> {
                pins.clear()?;
                pins.keep_maps(&ebpf)?;
                let pages = pins::ledger_pages(ebpf.map(LEDGER).context("no map for the ledger")?)?;
                let identity = identity(cgroup, pinning, settings.bits())?;
                Ok(Ledger::create(Box::new(pages), &identity, max_halves))
            })
            .transpose()?;
        let (slots, maps) = Maps::open(|name| take(&mut ebpf, name))?;
        let slots = Slots::new(slots, max_halves).context("cannot fill the free lists")?;
        if !whole_system {
            let map = ebpf.map_mut("measured_cgroup").context("no map measured_cgroup")?;
            CgroupArray::try_from(map)?.set(0, directory.as_raw_fd(), 0)?;
        }
        let pins = pins.map(|(pins, _)| pins);
        let btf = Btf::from_sys_fs().ok();
        let programs = programs::attach_all(&mut ebpf, btf.as_ref(), &directory, &settings, pins);
        drop(btf);
        let generation = ledger.as_ref().map_or_else(random, |ledger| Ok(ledger.generation()))?;
        let ebpf = Box::new(ebpf);
        let iterators = match pins {
            Some(pins) => pinned(pins, Some(ebpf)),
            None => Iterators::Loaded(ebpf),
        };
        let mut kernel = Self::of(slots, maps, iterators, &settings, programs, generation);
        kernel.ledger = ledger;
        Ok(kernel)
    }

    /// Goes on with everything as it is pinned.
    fn go_on(pins: &Pins, ledger: Ledger, object: u64) -> anyhow::Result<Self> {
        let mut kernel = Self::over(pins, ledger)?;
        let (dir, generation) = (pins.dir().display(), kernel.generation);
        tracing::info!(%dir, generation, "going on with the programs and counts that are pinned");
        if kernel.ledger.as_ref().is_some_and(|ledger| ledger.object() != object) {
            tracing::info!(
                "the pinned programs are of another build with the same layout: `weft-agent detach` \
                 before a start replaces them"
            );
        }
        // Who lives in which namespace is known by the owners only.
        let owners: Vec<_> = kernel.maps.owners.iter().filter_map(Result::ok).collect();
        for (_, owner) in owners {
            kernel.namespaces.note(owner.netns_cookie, owner.tgid);
        }
        Ok(kernel)
    }

    /// What is pinned, as it was left.
    pub(super) fn over(pins: &Pins, ledger: Ledger) -> anyhow::Result<Self> {
        let (slots, maps, ledger) = Self::counted(ledger, |name| pins.map(name))?;
        let settings = Settings::from_bits(ledger.settings());
        let (programs, again) = programs::pinned(&settings, pins);
        let (iterators, generation) = (pinned(pins, None), ledger.generation());
        let mut kernel = Self::of(slots, maps, iterators, &settings, programs, generation);
        kernel._again = again;
        kernel.ledger = Some(ledger);
        Ok(kernel)
    }

    /// What an earlier agent's programs have counted.
    pub(super) fn counted(
        mut ledger: Ledger,
        get: impl FnMut(&str) -> anyhow::Result<Map>,
    ) -> anyhow::Result<(Slots, Maps, Ledger)> {
        let (slots, maps) = Maps::open(get)?;
        let mut slots = Slots::adopt(slots, ledger.max_halves(), ledger.ends());
        if let Some(slot) = ledger.to_clear() {
            slots.clear_folded(slot);
            ledger.cleared();
            slots.give_back(slot);
        }
        ledger.ignore_hints(lost(&maps, Loss::HintsFull));
        Ok((slots, maps, ledger))
    }

    fn of(
        slots: Slots,
        maps: Maps,
        iterators: Iterators,
        settings: &Settings,
        programs: Vec<Program>,
        generation: u64,
    ) -> Self {
        Self {
            iterators,
            survey: settings.walk && is_attached(&programs, "survey"),
            programs,
            generation,
            walk: settings.walk,
            slots,
            maps,
            namespaces: Namespaces::new(),
            refreshes: 0,
            ledger: None,
            formers: Vec::new(),
            unreadable_pins: 0,
            _again: None,
            _pins: None,
        }
    }
}

/// What is there, and what can be done with it.
fn look(pins: &mut Pins, wanted: &Identity) -> Found {
    let Ok(map) = pins.map(LEDGER) else { return Found::Nothing };
    let pages = match pins::ledger_pages(&map) {
        Ok(pages) => pages,
        Err(error) => return Found::Useless(format!("{error:#}")),
    };
    let identity = match Ledger::identity_of(&pages) {
        Ok(identity) => identity,
        Err(LedgerError::Unfinished) => return Found::Nothing,
        Err(error) => return Found::Useless(error.to_string()),
    };
    let ledger = match Ledger::open(Box::new(pages)) {
        Ok(ledger) => Box::new(ledger),
        Err(error) => return Found::Useless(error.to_string()),
    };
    // An agent may have been killed while it set them aside.
    pins.look_also_for(identity.session);
    if identity.node != wanted.node {
        return Found::Useless("it is of another node".to_owned());
    }
    if !pins.has_known_slots() {
        return Found::Useless(format!("its slots are those of schema {}", identity.schema));
    }
    if identity.schema != wanted.schema {
        let why = format!("it is of schema {}, this agent of {}", identity.schema, wanted.schema);
        return Found::Readable(ledger, why);
    }
    if identity.cgroup != wanted.cgroup {
        return Found::Readable(ledger, "it is of another cgroup".to_owned());
    }
    if let Some(why) = programs::detached(pins, wanted.cgroup) {
        return Found::Readable(ledger, why);
    }
    Found::Fitting(ledger)
}

/// Whom and what the ledger of an agent with these settings is of. Generation and session are drawn anew.
fn identity(cgroup: &Path, pinning: &Pinning, settings: u64) -> anyhow::Result<Identity> {
    let directory = cgroup.metadata();
    let directory = directory.with_context(|| format!("cannot look at {}", cgroup.display()))?;
    Ok(Identity {
        schema: u64::from(SCHEMA_VERSION),
        generation: random()?,
        session: random()?,
        cgroup: directory.ino(),
        node: u64::from(crc32fast::hash(pinning.node.as_bytes())),
        object: u64::from(crc32fast::hash(OBJECT)),
        settings,
    })
}

fn pinned(pins: &Pins, rest: Option<Box<Ebpf>>) -> Iterators {
    let (walk_tcp, adopt_files) = (pins.link_path("walk_tcp"), pins.link_path("adopt_files"));
    Iterators::Pinned { walk_tcp, adopt_files, survey: pins.link_path("survey"), _rest: rest }
}

fn is_attached(programs: &[Program], name: &str) -> bool {
    let mut programs = programs.iter().filter(|program| program.name == name);
    programs.any(|program| program.state == ProgramState::Attached)
}

fn take(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Map> {
    ebpf.take_map(name).with_context(|| format!("no map {name} in the kernel object"))
}

/// Whether a directory is the root of the cgroup v2 hierarchy, which alone has no `cgroup.type`.
fn is_cgroup_root(cgroup: &Path) -> bool {
    !cgroup.join("cgroup.type").exists()
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
