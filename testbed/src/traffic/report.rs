//! What a peer knows of its own traffic, connection by connection.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Everything a peer counted. Connections are listed one by one, so that the two ends of
/// each can be put together whatever they share with others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Inode of the network namespace of the peer: loopback addresses mean something
    /// only within it.
    pub namespace: u64,
    /// Established connections.
    pub connections: Vec<Connection>,
    /// Attempts that did not get there.
    pub failures: Vec<Failure>,
    /// What did not fit into the lists: nothing may be compared unless this is 0.
    pub unrecorded: u64,
}

/// One end of an established connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Which end.
    pub side: Side,
    /// Address and port of this end.
    pub local: SocketAddr,
    /// Address and port of the other end.
    pub peer: SocketAddr,
    /// What the client calls the connection, the same at both ends whatever addresses they see; 0 at a server that was
    /// not asked for anything yet.
    #[serde(default)]
    pub token: u64,
    /// Bytes that were handed to the kernel.
    pub sent: u64,
    /// Bytes that were read.
    pub received: u64,
    /// How it ended, if it did.
    pub end: End,
    /// What the kernel had counted when a reset ended it: bytes may have been accepted and
    /// never read, or handed over and never delivered.
    pub kernel: Option<KernelCount>,
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The one that connected.
    Client,
    /// The one that accepted.
    Server,
}

/// How a connection ended for one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It did not.
    Open,
    /// With a FIN in both directions.
    Closed,
    /// This end reset it.
    ResetSent,
    /// The other end reset it.
    ResetReceived,
    /// Some other error, such as a time-out.
    Broken,
}

/// Payload as `TCP_INFO` tells it, SYN and FIN taken off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelCount {
    /// Bytes the peer acknowledged.
    pub acked: u64,
    /// Bytes accepted in order.
    pub received: u64,
}

/// An attempt to connect that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Where to.
    pub target: SocketAddr,
    /// Why, as the graph names it.
    pub reason: Reason,
    /// The error number, unless the application gave up.
    pub errno: Option<i32>,
}

/// Reasons for a failed attempt, as the graph names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Answered by a reset.
    Refused,
    /// Never answered.
    Timeout,
    /// No route, or answered by an ICMP error.
    Unreachable,
    /// Given up by the application.
    Aborted,
    /// Failed on this host: ports exhausted, forbidden and the like.
    Local,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 5] =
        [Reason::Refused, Reason::Timeout, Reason::Unreachable, Reason::Aborted, Reason::Local];

    /// Name of the reason in topology JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Refused => "refused",
            Reason::Timeout => "timeout",
            Reason::Unreachable => "unreachable",
            Reason::Aborted => "aborted",
            Reason::Local => "local",
        }
    }

    /// The reason that an error number of connect(2) stands for.
    #[must_use]
    pub fn of_errno(errno: i32) -> Self {
        use nix::libc;
        match errno {
            libc::ECONNREFUSED => Reason::Refused,
            libc::ETIMEDOUT => Reason::Timeout,
            libc::EHOSTUNREACH | libc::ENETUNREACH => Reason::Unreachable,
            _ => Reason::Local,
        }
    }
}
