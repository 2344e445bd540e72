//! Several hosts on one kernel: one network namespace and one cgroup v2 directory each,
//! and a fabric, a namespace that routes between them.

mod bridge;
mod cgroup;
mod docker;
mod forward;
mod host;
mod link;
mod namespace;
mod process;
mod tun;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::Duration,
};

use nix::unistd::geteuid;
use tempfile::TempDir;

pub use self::{
    bridge::{Behind, Bridge},
    cgroup::{Cgroup, mount_point, processes},
    docker::{Container, Docker},
    forward::Forward,
    host::Host,
    link::{INTERFACE, Network},
    namespace::Namespace,
    process::{Process, Spawn},
};
use crate::{Error, Result, binaries, error::Context};

/// What the cgroup directories of labs start with; the process id of the maker follows.
const PREFIX: &str = "weft-lab-";

/// Labs made by this process, for unique names.
static LABS: AtomicU32 = AtomicU32::new(0);

/// The parts that hosts share.
#[derive(Debug)]
pub(crate) struct Fabric {
    namespace: Namespace,
    cgroup: Cgroup,
    folder: TempDir,
    networks: AtomicU8,
    linking: Mutex<()>,
}

/// A set of hosts. Everything they are made of is gone when the lab and its hosts are dropped.
#[derive(Debug)]
pub struct Lab {
    fabric: Arc<Fabric>,
}

impl Lab {
    /// Makes an empty lab, and removes what makers that were killed left of theirs.
    ///
    /// # Errors
    /// When this user or machine cannot (see [`Lab::check`]).
    pub fn new() -> Result<Self> {
        Self::check()?;
        let mount = mount_point()?;
        sweep(&mount);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let namespace = Namespace::new()?;
        namespace.sysctl("net/ipv4/ip_forward", "1")?;
        namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        // Every packet to nowhere is answered, not only some of them.
        namespace.sysctl("net/ipv4/icmp_ratelimit", "0")?;
        Ok(Self {
            fabric: Arc::new(Fabric {
                namespace,
                cgroup: Cgroup::create(&mount, &name)?,
                folder: tempfile::Builder::new()
                    .prefix(&format!("{name}-"))
                    .tempdir()
                    .context(|| "make a temporary folder".into())?,
                networks: AtomicU8::new(1),
                linking: Mutex::new(()),
            }),
        })
    }

    /// Says in one line what is missing for a lab, if anything is.
    ///
    /// # Errors
    /// When something is missing.
    pub fn check() -> Result<()> {
        let missing = |what: &str| Err(Error::Unavailable(what.into()));
        if !geteuid().is_root() {
            return missing("root is needed to make network namespaces and cgroups");
        }
        mount_point()?;
        for tool in ["ip", "nft"] {
            if !on_path(tool) {
                return missing(&format!("`{tool}` is needed (packages iproute2 and nftables)"));
            }
        }
        Ok(())
    }

    /// Adds a host.
    ///
    /// # Errors
    /// When the name is taken or a part cannot be made.
    pub fn host(&self, name: &str) -> Result<Host> {
        Host::new(&self.fabric, name, Duration::ZERO)
    }

    /// Adds a host whose packets take `delay` longer in each direction.
    ///
    /// # Errors
    /// When the name is taken or a part cannot be made.
    pub fn distant_host(&self, name: &str, delay: Duration) -> Result<Host> {
        Host::new(&self.fabric, name, delay)
    }

    /// The namespace between the hosts, which can reach all of them.
    #[must_use]
    pub fn fabric(&self) -> &Namespace {
        &self.fabric.namespace
    }

    /// The cgroup directory that holds those of all hosts.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        self.fabric.cgroup.path()
    }

    /// Folder for files of the lab; goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.fabric.folder.path()
    }
}

impl Fabric {
    fn network(&self, delay: Duration) -> Result<Network> {
        let number = self.networks.fetch_add(1, Ordering::Relaxed);
        if number == 0 || number > 250 {
            return Err(Error::Unavailable("a lab has 250 networks at most".into()));
        }
        Network::new(&self.namespace, number, delay)
    }

    /// A path of weft-traffic under another name: a process is named after its executable.
    fn program_named(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join("bin");
        let path = folder.join(name);
        let _one_at_a_time = self.linking.lock().unwrap_or_else(PoisonError::into_inner);
        if path.exists() {
            return Ok(path);
        }
        let program = binaries::find("weft-traffic")?;
        fs::create_dir_all(&folder).context(|| format!("make {}", folder.display()))?;
        // A link costs nothing, but the target folder may be on another file system.
        if fs::hard_link(&program, &path).is_err() {
            fs::copy(&program, &path).context(|| format!("copy {}", program.display()))?;
        }
        Ok(path)
    }
}

/// Removes the cgroups and folders, and ends the processes, of labs whose maker was killed.
/// What cannot be removed now, the next lab tries again.
fn sweep(mount: &Path) {
    for path in orphans(mount) {
        let _ = cgroup::remove(&path);
    }
    for path in orphans(&std::env::temp_dir()) {
        let _ = fs::remove_dir_all(&path);
    }
}

/// What is named after a process that does not exist.
fn orphans(folder: &Path) -> Vec<PathBuf> {
    let orphaned = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        maker.is_some_and(|id| !Path::new("/proc").join(id).exists())
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(orphaned).map(|entry| entry.path()).collect()
}

fn on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps these tools where a user's PATH may not look.
    std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]).any(
        |folder| {
            fs::metadata(folder.join(tool))
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        },
    )
}
