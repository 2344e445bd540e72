//! What a peer can be told to do: one JSON object per line on its standard input, one
//! answer per line on its standard output.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Report;

/// Something to do. A command is done when its answer comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// Accept connections and serve requests.
    Listen(Listen),
    /// Close a listening socket; its connections go on.
    Unlisten {
        /// The address it was answered with.
        address: SocketAddr,
    },
    /// Open connections and keep them as a group.
    Open(Open),
    /// Send requests on every connection of a group, and read the answers.
    Exchange {
        /// Name of the group.
        group: String,
        /// What to send and ask for.
        #[serde(flatten)]
        exchange: Exchange,
        /// How the connections end.
        #[serde(default)]
        ending: Ending,
    },
    /// Send one request on every connection of a group, and leave the answers unread.
    Ask {
        /// Name of the group.
        group: String,
        /// What to send and ask for; one request, whatever it says.
        #[serde(flatten)]
        exchange: Exchange,
    },
    /// Read this much on every connection of a group, without having asked.
    Receive {
        /// Name of the group.
        group: String,
        /// Bytes per connection.
        bytes: u64,
    },
    /// Send this much to every client of a listener, without being asked.
    Push {
        /// The listener's address.
        address: SocketAddr,
        /// Bytes per connection.
        bytes: u64,
    },
    /// End every connection of a group.
    End {
        /// Name of the group.
        group: String,
        /// How; only the client's ways are possible.
        ending: Ending,
    },
    /// Open connections, exchange, end them, one after the other on each of some threads.
    Burst(Burst),
    /// Do a burst of one connection again and again, in the background, until the end.
    Loop {
        /// What to do; `connections` and `threads` are taken as 1.
        #[serde(flatten)]
        burst: Burst,
        /// Pause between two rounds in milliseconds.
        pause_ms: u64,
    },
    /// Tell what was counted so far.
    Report,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port; port 0 for any.
    pub address: SocketAddr,
    /// Accept MPTCP as well as TCP.
    #[serde(default)]
    pub mptcp: bool,
    /// Share the port with other listeners that say so.
    #[serde(default)]
    pub reuse_port: bool,
}

/// How to make a client's socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    /// Use MPTCP.
    #[serde(default)]
    pub mptcp: bool,
    /// Use an IPv6 socket for an IPv4 address.
    #[serde(default)]
    pub mapped: bool,
    /// Connect from this address.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// Connect without blocking and give up after this time. Without it, the call blocks
    /// until the kernel gives up.
    #[serde(default)]
    pub patience_ms: Option<u64>,
}

/// Connections to open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Name of the group they are added to.
    pub group: String,
    /// Where to connect.
    pub target: SocketAddr,
    /// How many.
    pub connections: u32,
    /// How.
    #[serde(default)]
    pub dial: Dial,
}

/// Requests and answers on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// How many, one after the other.
    pub requests: u32,
    /// Payload bytes of each request, its header of 24 bytes included (at least those).
    pub request_bytes: u64,
    /// Payload bytes of each answer.
    pub response_bytes: u64,
    /// How requests are sent.
    #[serde(default)]
    pub means: Means,
}

/// System call that sends a request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// write(2).
    #[default]
    Write,
    /// sendfile(2) from a file.
    Sendfile,
    /// splice(2) from a pipe.
    Splice,
    /// io_uring, for the answers as well.
    Ring,
}

/// How connections end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// They stay open.
    #[default]
    Keep,
    /// The client closes first.
    ClientCloses,
    /// The server closes first, after the last answer.
    ServerCloses,
    /// The client resets, once nothing moves any more.
    ClientResets,
    /// The server resets after the last answer, once nothing moves any more.
    ServerResets,
    /// The client shuts down its side and closes with answers unread, once nothing moves any
    /// more: the kernel makes a reset of it.
    ClientLeaves,
}

/// Many connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burst {
    /// Where to connect.
    pub target: SocketAddr,
    /// How many connections altogether.
    pub connections: u32,
    /// On how many threads.
    #[serde(default = "one")]
    pub threads: u32,
    /// What happens on each connection.
    #[serde(flatten)]
    pub exchange: Exchange,
    /// How the connections end.
    #[serde(default)]
    pub ending: Ending,
    /// How to connect.
    #[serde(default)]
    pub dial: Dial,
}

fn one() -> u32 {
    1
}

/// Answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The listener is there.
    Listening {
        /// Where, with the port that was chosen.
        address: SocketAddr,
    },
    /// Connections were opened, or attempted.
    Opened {
        /// How many were established.
        established: u32,
        /// How many attempts failed; the report says how.
        failed: u32,
    },
    /// Done.
    Done,
    /// What was counted.
    Report(Report),
    /// It could not be done as told.
    Error {
        /// Why.
        message: String,
    },
}
