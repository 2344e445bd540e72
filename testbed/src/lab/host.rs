//! A host: a cgroup directory and one or more network namespaces.

use std::{fs, net::IpAddr, path::Path, sync::Arc, time::Duration};

use super::{Behind, Bridge, Cgroup, Fabric, Namespace, Network, Process, Spawn, cgroup};
use crate::{Result, error::Context, traffic::Peer};

/// A host of a lab. Dropping it ends its processes and removes what it is made of.
#[derive(Debug)]
pub struct Host {
    name: String,
    cgroup: Cgroup,
    // Apart from the workloads, so that an agent there does not see itself.
    system: Cgroup,
    network: Network,
    fabric: Arc<Fabric>,
}

impl Host {
    pub(super) fn new(fabric: &Arc<Fabric>, name: &str, delay: Duration) -> Result<Self> {
        Ok(Self {
            name: name.into(),
            cgroup: Cgroup::create(fabric.cgroup.path(), name)?,
            system: Cgroup::create(fabric.cgroup.path(), &format!("{name}-system"))?,
            network: fabric.network(delay)?,
            fabric: Arc::clone(fabric),
        })
    }

    /// Name of the host, as its agent gives it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cgroup directory of its workloads: what an agent of this host is attached to.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        self.cgroup.path()
    }

    /// Its first network namespace.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its first network namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        self.network.namespace()
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> IpAddr {
        self.network.ipv4()
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> IpAddr {
        self.network.ipv6()
    }

    /// Folder for files of the lab; goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.fabric.folder.path()
    }

    /// One more network namespace on this host, with addresses of its own.
    ///
    /// # Errors
    /// When the lab has no more networks or a tool fails.
    pub fn add_network(&self) -> Result<Network> {
        self.fabric.network(Duration::ZERO)
    }

    /// A network of its own that nobody else can reach as long as nobody is told the way: the addresses `range`.1 to
    /// `range`.254. The first one is this host's.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn add_bridge(&self, name: &str, range: [u8; 3]) -> Result<Bridge> {
        Bridge::new(self.namespace(), name, range)
    }

    /// Has the fabric send packets for a bridge's addresses to this host.
    ///
    /// # Errors
    /// When another host has them.
    pub fn announce(&self, bridge: &Bridge) -> Result<()> {
        let (range, via) = (bridge.address(0), self.ipv4());
        self.fabric.namespace.ip(&format!("route add {range}/24 via {via}"))
    }

    /// A network namespace behind a bridge of this host, with the address of this number.
    ///
    /// # Errors
    /// When somebody has the address.
    pub fn attach(&self, bridge: &Bridge, number: u8) -> Result<Behind> {
        bridge.attach(self.namespace(), number)
    }

    /// Takes a network namespace away, so that another can have its address at once. Processes in it see no network any
    /// more.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn detach(&self, bridge: &Bridge, behind: Behind) -> Result<()> {
        bridge.detach(self.namespace(), behind)
    }

    /// Starts a workload.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, what: &Spawn) -> Result<Process> {
        what.start(self.cgroup.path(), self.namespace())
    }

    /// Starts a workload in a cgroup directory `leaf` of its own below the host's.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_in(&self, leaf: &str, network: &Network, what: &Spawn) -> Result<Process> {
        what.start(&self.cgroup.leaf(leaf)?, network.namespace())
    }

    /// Starts a process that belongs to the host but not to its workloads, such as an agent.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_system(&self, what: &Spawn) -> Result<Process> {
        what.start(self.system.path(), self.namespace())
    }

    /// Starts a traffic peer as a process called `name`.
    ///
    /// # Errors
    /// When weft-traffic is not built or does not start.
    pub fn peer(&self, name: &str) -> Result<Peer> {
        self.peer_at(name, None, &self.network)
    }

    /// Starts a traffic peer as a process called `name`, in a cgroup directory of its own
    /// if `leaf` names one, in `network`.
    ///
    /// # Errors
    /// When weft-traffic is not built or does not start.
    pub fn peer_at(&self, name: &str, leaf: Option<&str>, network: &Network) -> Result<Peer> {
        self.peer_in(name, leaf, network.namespace())
    }

    /// As [`Host::peer_at`], in a network namespace of any kind.
    ///
    /// # Errors
    /// When weft-traffic is not built or does not start.
    pub fn peer_in(&self, name: &str, leaf: Option<&str>, network: &Namespace) -> Result<Peer> {
        let spawn = Spawn::new(self.fabric.program_named(name)?).piped();
        let process = match leaf {
            Some(leaf) => spawn.start(&self.cgroup.leaf(leaf)?, network)?,
            None => spawn.start(self.cgroup.path(), network)?,
        };
        Peer::new(process)
    }

    /// Removes a cgroup directory below the host's, and ends what runs in it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_leaf(&self, leaf: &str) -> Result<()> {
        cgroup::remove(&self.cgroup.path().join(leaf))
    }

    /// Writes a file into the lab's folder and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_file(&self, name: &str, text: &str) -> Result<std::path::PathBuf> {
        let path = self.folder().join(name);
        fs::write(&path, text).context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}
