//! The protocol between `weft-agent` and `weft-aggregator`: messages, columns,
//! conversions to the words of the domain, the TLS both sides agree on, and how an agent comes back.
#![forbid(unsafe_code)]

pub mod columns;
pub mod convert;
pub mod error;
pub mod identity;
pub mod reconnect;
pub mod recording;
pub mod tls;

/// The messages and services of `weft/v1/weft.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::redundant_clone)]
pub mod v1 {
    tonic::include_proto!("weft.v1");
}

pub use error::ConvertError;

/// Version of the protocol that this crate speaks; the agent sends it in its `Hello`.
pub const PROTOCOL_VERSION: u32 = 1;

/// What was added to it since; a peer of another one goes without.
pub const PROTOCOL_MINOR: u32 = 3;

/// Which of the two is to be upgraded when they speak different versions of the protocol; `None` when they understand
/// each other.
#[must_use]
pub fn misunderstanding(agent: u32, aggregator: u32) -> Option<String> {
    let older = match agent.cmp(&aggregator) {
        std::cmp::Ordering::Less => "agent",
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => "aggregator",
    };
    Some(format!(
        "the agent speaks version {agent} of the protocol, the aggregator version {aggregator}: \
         upgrade the {older}"
    ))
}

/// Largest message either side sends or accepts, in bytes. A sender splits its
/// batches well below it.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Largest name, namespace, label or reason on the wire, in bytes.
pub const MAX_STRING_BYTES: usize = 256;

/// Most labels of one workload.
pub const MAX_LABELS: usize = 32;

/// Ids of workloads, addresses and halves are below this: the receiver looks them up in
/// arrays that grow to the largest id seen.
pub const MAX_ID: u32 = 1 << 20;

/// Most translations told of one half.
pub const MAX_ENDS: usize = 256;

/// Most endpoints of one `Split`.
pub const MAX_ENDPOINTS: usize = 1024;

/// Most connections asked for in one `Resolve`.
pub const MAX_TUPLES: usize = 1024;
