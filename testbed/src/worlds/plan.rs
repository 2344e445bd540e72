//! What a world is made of.

use crate::traffic::{Dial, Ending, Exchange};

/// Everything that happens in a world is in here; addresses that a lab gives are left to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// What it was drawn from.
    pub seed: u64,
    /// Its hosts.
    pub hosts: Vec<HostPlan>,
    /// Everybody who ever lives there.
    pub workloads: Vec<Workload>,
    /// Addresses that hosts translate into others.
    pub virtuals: Vec<Virtual>,
    /// Ports of hosts that lead to a container.
    pub published: Vec<Published>,
    /// Whether containers may leave their host, behind its address.
    pub masquerade: bool,
    /// What happens, one thing after the other.
    pub steps: Vec<Step>,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// Its name.
    pub name: String,
    /// Whether an agent is there.
    pub agent: bool,
    /// Whether it has a bridge with the same addresses as other hosts' bridges.
    pub engine: bool,
}

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// That of a host.
    Host(usize),
    /// One with an address that the whole fleet knows: the host's number, and its own.
    Pod(usize, u8),
    /// One behind the bridge of a host, with an address that other hosts have as well.
    Container(usize, u8),
}

impl Place {
    /// The host that it is on.
    #[must_use]
    pub const fn host(self) -> usize {
        match self {
            Place::Host(host) | Place::Pod(host, _) | Place::Container(host, _) => host,
        }
    }
}

/// A process, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Name of its executable.
    pub program: String,
    /// Its cgroup below that of the host, if it has one.
    pub leaf: Option<String>,
    /// What the graph has to call it.
    pub shown: String,
    /// What kind of thing the graph has to take it for.
    pub kind: &'static str,
    /// Where it lives.
    pub place: Place,
    /// Where it listens from its start on.
    pub ears: Vec<Ear>,
}

/// Where somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ear {
    /// At which address.
    pub on: On,
    /// At which port.
    pub port: u16,
    /// Others may listen there, too.
    pub shared: bool,
}

/// Addresses to listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum On {
    /// Every IPv4 address of the place.
    Any,
    /// Every address of the place.
    Both,
    /// The place's own IPv4 address.
    Own,
    /// Loopback.
    Loopback,
}

/// Whom a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// At which address.
    pub at: At,
    /// At which port.
    pub port: u16,
}

/// An address, by what it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// A place's IPv4 address.
    Of(Place),
    /// A host's IPv6 address.
    Host6(usize),
    /// Loopback.
    Loopback,
    /// A translated address.
    Virtual(usize),
    /// In the network of a host, but nobody's.
    Nobody(usize),
}

/// An address that hosts translate, as Kubernetes does for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtual {
    /// The port that clients ask for.
    pub port: u16,
    /// Where they get, by turns.
    pub backends: Vec<(Place, u16)>,
}

/// A port of a host that leads to a container there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The host's port.
    pub port: u16,
    /// The container.
    pub place: Place,
    /// Its port.
    pub to: u16,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A workload starts and listens.
    Start(usize),
    /// A workload ends, its connections having ended.
    Stop(usize),
    /// A workload no longer listens at its first ear; another one does, at once.
    HandOver(usize, usize),
    /// Workloads talk, all at the same time, each one thing after the other.
    Talk(Vec<Talk>),
    /// Containers come, talk and go, all at the same time.
    Brief(Vec<Brief>),
    /// Nothing happens for some milliseconds.
    Rest(u64),
    /// Nothing happens until the graph shows all that there was, or does not in a long time, and then for a moment.
    Introduce,
}

/// What one workload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talk {
    /// Who.
    pub client: usize,
    /// What, in this order.
    pub calls: Vec<Call>,
}

/// A short life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brief {
    /// Whose.
    pub workload: usize,
    /// What it does in it.
    pub calls: Vec<Call>,
}

/// Connections to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// To whom.
    pub target: Target,
    /// How the sockets are made.
    pub dial: Dial,
    /// What is done.
    pub deed: Deed,
}

/// What is done with connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// They are opened, exchange and end.
    Burst { connections: u32, threads: u32, exchange: Exchange, ending: Ending },
    /// They are opened, exchange and stay, under this name.
    Open { group: String, connections: u32, exchange: Exchange },
    /// Those of this name exchange, and end or stay.
    Go { group: String, exchange: Exchange, ending: Ending },
    /// They fail.
    Fail { connections: u32 },
}
