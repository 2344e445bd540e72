//! Maps and links that outlive the agent, as files of a directory on a BPF file system. Whoever holds its lock is the
//! agent that they belong to.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Map, MapData},
    programs::links::FdLink,
};
use common::kernel::{CHUNKS, Chunk, LEDGER_PAGE, LEDGER_PAGES, SLOTS, Slot};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{aside, pages::LedgerPages};
use crate::ledger::{Identity, Ledger, LedgerError};

/// An agent that was killed holds its lock until the kernel has torn it down.
const LOCK_TIME: Duration = Duration::from_secs(3);

const MAP: &str = "map_";
const LINK: &str = "link_";
const PROGRAM: &str = "program_";
const FORMER: &str = "former_";

/// Name of the map that the next agent reads first.
pub const LEDGER: &str = "ledger";

/// A directory of pins, locked.
pub struct Pins {
    dir: PathBuf,
    /// Where maps may be that are not there.
    also: Option<PathBuf>,
    _lock: Flock<File>,
}

/// Makes sure that a directory can hold pins: that it, or the closest one above it that exists, is on a BPF file system.
///
/// # Errors
/// Why not, in one line.
pub fn check(dir: &Path) -> Result<(), String> {
    if !dir.is_absolute() {
        return Err(format!("{} is not an absolute path", dir.display()));
    }
    for above in dir.ancestors() {
        match statfs(above) {
            Ok(facts) if facts.filesystem_type() == BPF_FS_MAGIC => return Ok(()),
            Ok(_) => break,
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(format!("{}: {errno}", above.display())),
        }
    }
    Err(format!(
        "{} is not on a BPF file system; try `mount -t bpf bpf /sys/fs/bpf` and a folder in it",
        dir.display()
    ))
}

impl Pins {
    /// Locks a directory, which is made when it is not there.
    ///
    /// # Errors
    /// When that cannot be, or another agent has it.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        check(dir).map_err(anyhow::Error::msg)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.with_context(|| format!("--pin-dir: cannot make {}", dir.display()))?;
        Self::lock(dir)
    }

    fn lock(dir: &Path) -> anyhow::Result<Self> {
        let failed = || format!("--pin-dir: cannot use {}", dir.display());
        fs::set_permissions(dir, Permissions::from_mode(0o700)).with_context(failed)?;
        let mut file = File::open(dir).with_context(failed)?;
        let deadline = Instant::now() + LOCK_TIME;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self { dir: dir.to_owned(), also: None, _lock: lock }),
                Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = back,
                Err((_, Errno::EWOULDBLOCK)) => {
                    anyhow::bail!("--pin-dir: another agent uses {}", dir.display())
                }
                Err((_, errno)) => return Err(errno).with_context(failed),
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let files = fs::read_dir(&self.dir)?.map(|entry| entry.map(|entry| entry.path()));
        files.filter(|path| path.as_ref().map_or(true, |path| is_pin(path))).collect()
    }

    /// Removes all pins. Returns how many maps and links there were.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn clear(&self) -> anyhow::Result<(usize, usize)> {
        // Without the ledger nobody goes on with the rest, should this come to an early end.
        let ledger = self.map_path(LEDGER);
        let mut files = self.files()?;
        files.sort_by_key(|path| (*path != ledger, !starts(path, LINK)));
        for path in &files {
            fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        let count = |prefix| files.iter().filter(|path| starts(path, prefix)).count();
        Ok((count(MAP), count(LINK)))
    }

    /// Removes links and programs, so that none counts any more.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn detach(&self) -> anyhow::Result<()> {
        for path in self.files()?.iter().filter(|path| !starts(path, MAP)) {
            fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Removes all pins, and the directory.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(self) -> anyhow::Result<(usize, usize)> {
        let removed = self.clear()?;
        for folder in aside::folders(&self.dir, FORMER)? {
            aside::discard(&folder)?;
        }
        fs::remove_dir(&self.dir)
            .with_context(|| format!("cannot remove {}", self.dir.display()))?;
        Ok(removed)
    }

    fn former(&self, session: u64) -> PathBuf {
        self.dir.join(format!("{FORMER}{session:016x}"))
    }

    /// Maps that are not here may be where those of this session are set aside.
    pub fn look_also_for(&mut self, session: u64) {
        self.also = Some(self.former(session));
    }

    /// Sets aside the maps, which are of this session.
    ///
    /// # Errors
    /// When one cannot be moved.
    pub fn set_aside(&self, session: u64) -> anyhow::Result<()> {
        let mut maps = self.files()?;
        maps.retain(|path| starts(path, MAP));
        aside::set_aside(maps, &self.map_path(LEDGER), &self.former(session))
    }

    /// Folders of what is set aside, the whole of it.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn formers(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut folders = aside::folders(&self.dir, FORMER)?;
        folders.retain(|folder| {
            let whole = path_in(folder, LEDGER).exists();
            if !whole && let Err(error) = aside::discard(folder) {
                tracing::warn!("{error:#}");
            }
            whole
        });
        Ok(folders)
    }

    /// Pins every map that an agent may look for.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn keep_maps(&self, ebpf: &Ebpf) -> anyhow::Result<()> {
        // The read-only data is the programs' own; its name is none for a file here.
        for (name, map) in ebpf.maps().filter(|(name, _)| !name.contains('.')) {
            map.pin(self.map_path(name)).with_context(|| format!("cannot pin the map {name}"))?;
        }
        Ok(())
    }

    /// Pins a link.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn keep_link(&self, name: &str, link: FdLink) -> anyhow::Result<()> {
        link.pin(self.link_path(name)).with_context(|| format!("cannot pin {name}"))?;
        Ok(())
    }

    /// Whether a link is pinned.
    #[must_use]
    pub fn has_link(&self, name: &str) -> bool {
        self.link_path(name).exists()
    }

    /// Whether a program is pinned by itself.
    #[must_use]
    pub fn has_program(&self, name: &str) -> bool {
        self.program_path(name).exists()
    }

    /// Where a program is pinned of which there is no link.
    #[must_use]
    pub fn program_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{PROGRAM}{name}"))
    }

    /// Where a link is pinned; that of an iterator runs it when it is read.
    #[must_use]
    pub fn link_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{LINK}{name}"))
    }

    fn map_path(&self, name: &str) -> PathBuf {
        path_in(&self.dir, name)
    }

    fn folder_of(&self, name: &str) -> &Path {
        let also = self.also.as_deref().filter(|_| !self.map_path(name).exists());
        also.unwrap_or(&self.dir)
    }

    /// Opens a map.
    ///
    /// # Errors
    /// When it is not there.
    pub fn map(&self, name: &str) -> anyhow::Result<Map> {
        map_in(self.folder_of(name), name)
    }

    /// Where the directory is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether slots and chunks are those of this version, whatever else may be different.
    #[must_use]
    pub fn has_known_slots(&self) -> bool {
        let is = |name, bytes: usize, count| {
            let path = path_in(self.folder_of(name), name);
            let Ok(data) = MapData::from_pin(path) else { return false };
            let info = data.info();
            info.is_ok_and(|info| {
                info.value_size() as usize == bytes && info.max_entries() == count
            })
        };
        is("slots", size_of::<Slot>(), SLOTS) && is("chunks", size_of::<Chunk>(), CHUNKS)
    }
}

fn path_in(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{MAP}{name}"))
}

/// Opens a map that is pinned in a folder.
///
/// # Errors
/// When it is not there.
pub fn map_in(folder: &Path, name: &str) -> anyhow::Result<Map> {
    let failed = || format!("cannot open the pinned map {name}");
    let data = MapData::from_pin(path_in(folder, name)).with_context(failed)?;
    Map::from_map_data(data).with_context(failed)
}

fn starts(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

fn is_pin(path: &Path) -> bool {
    [MAP, LINK, PROGRAM].iter().any(|prefix| starts(path, prefix))
}

/// The pages of a ledger's map.
///
/// # Errors
/// When they cannot be mapped.
pub fn ledger_pages(map: &Map) -> anyhow::Result<LedgerPages> {
    let Map::Array(data) = map else { anyhow::bail!("the map {LEDGER} is not an array") };
    let info = data.info()?;
    if info.value_size() as usize != LEDGER_PAGE || info.max_entries() != LEDGER_PAGES {
        anyhow::bail!("the map {LEDGER} has another size");
    }
    LedgerPages::new(data.fd(), LEDGER_PAGES as usize * LEDGER_PAGE)
        .context("cannot map the ledger")
}

/// What is pinned in a directory, in one line; `None` when nothing is.
#[must_use]
pub fn describe(dir: &Path) -> Option<String> {
    let files = fs::read_dir(dir).ok()?.flatten();
    let links = files.filter(|entry| starts(&entry.path(), LINK)).count();
    if links == 0 {
        return None;
    }
    let identity = || -> anyhow::Result<Result<Identity, LedgerError>> {
        let data = MapData::from_pin(dir.join(format!("{MAP}{LEDGER}")))?;
        Ok(Ledger::identity_of(&ledger_pages(&Map::from_map_data(data)?)?))
    };
    let what = match identity() {
        Ok(Ok(identity)) => {
            format!("of schema {}, generation {:016x}", identity.schema, identity.generation)
        }
        Ok(Err(error)) => format!("but {error}"),
        Err(error) => format!("but {error:#}"),
    };
    Some(format!("{links} links in {}, {what}", dir.display()))
}

/// `weft-agent detach`: removes what is pinned. Returns what it did, in one line.
///
/// # Errors
/// When an agent uses it, or something cannot be removed.
pub fn remove(dir: &Path) -> anyhow::Result<String> {
    if !dir.exists() {
        return Ok(format!("nothing is pinned in {}", dir.display()));
    }
    let (maps, links) = Pins::lock(dir)?.remove()?;
    Ok(if maps + links == 0 {
        format!("nothing was pinned in {}", dir.display())
    } else {
        format!(
            "removed {links} links and {maps} maps from {}: what they had counted since the last report is dropped",
            dir.display()
        )
    })
}
