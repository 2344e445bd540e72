//! The words of the domain: workloads, addresses, halves, listeners.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

pub use common::{Counter, HistogramKind};
use serde::{Deserialize, Serialize};

/// What kind of thing owns a socket, or stands for an uncovered peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// A container, by its 64-digit id or its runtime's name.
    Container,
    /// A systemd unit.
    Systemd,
    /// A Kubernetes pod.
    Pod,
    /// A plain process, by the basename of its executable or script.
    Process,
    /// A covered host of whose owner nothing is known.
    Host,
    /// A peer no agent covers.
    External,
    /// What was folded together to keep an answer small.
    Other,
    /// All services of a namespace, in an answer that is grouped so.
    Namespace,
    /// All workloads of a host, in an answer that is grouped so.
    Node,
    /// All workloads of a zone, in an answer that is grouped so.
    Zone,
}

impl WorkloadKind {
    /// The kind's name in the API, and in what ids are made of.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            WorkloadKind::Container => "container",
            WorkloadKind::Systemd => "systemd",
            WorkloadKind::Pod => "pod",
            WorkloadKind::Process => "process",
            WorkloadKind::Host => "host",
            WorkloadKind::External => "external",
            WorkloadKind::Other => "other",
            WorkloadKind::Namespace => "namespace",
            WorkloadKind::Node => "node",
            WorkloadKind::Zone => "zone",
        }
    }
}

/// Who owns a socket, as its own host names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Workload {
    /// Kind of the owner.
    pub kind: WorkloadKind,
    /// Name by the rules of the kind.
    pub name: String,
    /// Namespace, empty unless known.
    pub namespace: String,
    /// Whatever else is known (image, unit, executable): labels on top of the name.
    pub labels: BTreeMap<String, String>,
}

/// Where an address means the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Everywhere in the fleet.
    Global,
    /// Within one network namespace of one boot of one host (loopback). Holds the
    /// namespace's cookie, unique within a boot.
    Namespace(u64),
    /// Within one host-local network (a container bridge), by the host's own number.
    Network(u64),
}

/// An address together with the scope in which it means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    /// The address, IPv4-mapped IPv6 already turned into IPv4.
    pub ip: IpAddr,
    /// Its scope, seen from the host that reports it.
    pub scope: Scope,
}

impl Address {
    /// Whether it means the same to all of the fleet.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.scope == Scope::Global && !self.ip.to_canonical().is_loopback()
    }
}

/// Which side of a connection a half is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// It connected.
    Client,
    /// It accepted.
    Server,
}

/// One side's view of an edge, as one host tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HalfKey<W> {
    /// Owner of this side's sockets.
    pub workload: W,
    /// This side's address. Unspecified when an attempt failed before one was chosen.
    pub local: Address,
    /// The other side's address.
    pub peer: Address,
    /// The port that the server side listens on.
    pub server_port: u16,
    /// The client's own port; 0 unless several workloads of the server's host share
    /// its address and port, in which case each connection is a half of its own.
    pub client_port: u16,
    /// Which side this is.
    pub role: Role,
}

impl<W> HalfKey<W> {
    /// Key of what counts for all those halves of a workload and role together that there was no room for.
    /// Its peers have no address.
    #[must_use]
    pub const fn folded(workload: W, role: Role) -> Self {
        let nowhere = Address { ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED), scope: Scope::Global };
        HalfKey { workload, local: nowhere, peer: nowhere, server_port: 0, client_port: 0, role }
    }

    /// Whether it stands for many.
    #[must_use]
    pub const fn is_folded(&self) -> bool {
        self.server_port == 0 && self.peer.ip.is_unspecified() && self.local.ip.is_unspecified()
    }
}

/// What a translation makes of a half's ends: what the other end of its connections sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ends {
    /// The client's address.
    pub client: Address,
    /// The server's address.
    pub server: Address,
    /// The server's port.
    pub server_port: u16,
}

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener<W> {
    /// Who listens.
    pub workload: W,
    /// On which address; unspecified for all addresses of the namespace.
    pub address: Address,
    /// In which network namespace, by cookie: an unspecified address covers the
    /// addresses of that namespace only.
    pub network_namespace: u64,
    /// On which port.
    pub port: u16,
}

/// One connection, as its client's host knows it: the question whose it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tuple {
    /// The client's address.
    pub client: Address,
    /// The client's port.
    pub client_port: u16,
    /// The server's address.
    pub server: Address,
    /// The server's port.
    pub server_port: u16,
}

/// Where a server is reached, as its own host has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// The server's address.
    pub address: Address,
    /// The server's port.
    pub port: u16,
}

/// An address of a node, and the network namespace whose interface has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeAddress {
    /// The address.
    pub address: Address,
    /// The network namespace, by cookie.
    pub network_namespace: u64,
}

/// Whether a kernel program of a node counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProgramState {
    /// It is attached.
    Attached,
    /// It should be attached and is not: what it counts is missing.
    Failed,
    /// It is not wanted here.
    Off,
}

impl ProgramState {
    /// The state's name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ProgramState::Attached => "attached",
            ProgramState::Failed => "failed",
            ProgramState::Off => "off",
        }
    }
}

/// A kernel program of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Whether it counts.
    pub state: ProgramState,
    /// Why it is not attached, in one line; empty when it is.
    pub reason: String,
}

/// A histogram of the host itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HostSignal {
    /// Runnable to running, preemption included.
    RunqueueLatency = 0,
}

impl HostSignal {
    /// Every signal in the order of its index.
    pub const ALL: [HostSignal; 1] = [HostSignal::RunqueueLatency];

    /// Index of the signal in every array of them.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}
