//! Everything that ever changes the state, as bytes: what the journal consists of.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use topology::{AgentFacts, ClusterNews, Connection, Incarnation, NodeIx, Rules, Timestamp};

/// The layout of an [`Entry`] and of what follows it: to be raised whenever one of them changes, but for kinds of entries
/// that are added at the end.
pub(crate) const ENTRY_VERSION: u32 = 3;

/// One change of the state. The bytes of a batch stand behind its entry as they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// The aggregator started: no stream of before is left.
    Started,
    /// An agent was let in.
    Connected { node: String, incarnation: Incarnation, facts: AgentFacts, interval: Duration },
    /// A stream ended.
    Disconnected { connection: Connection },
    /// A batch came.
    Batch { connection: Connection, certificate_expires_unix_s: i64 },
    /// A node's questions were taken, to be asked.
    Asked { node: NodeIx },
    /// Time passed.
    Tick,
    /// The user's rules changed.
    Rules(Rules),
    /// Kubernetes said something that was not known.
    Cluster(ClusterNews),
    /// Some time passed: too little for a tick to be worth it.
    Glance,
}

/// Bytes that are no entry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("an entry of the journal makes no sense: {0}")]
pub(crate) struct BadEntry(#[from] postcard::Error);

impl Entry {
    /// Appends the entry to `out`; what belongs to it is to follow.
    pub(crate) fn write(&self, at: Timestamp, out: Vec<u8>) -> Vec<u8> {
        // Writing to memory fails only for types that this one has none of.
        postcard::to_extend(&(at, self), out).unwrap_or_default()
    }

    /// Reads what [`write`](Self::write) wrote, and what follows.
    pub(super) fn read(bytes: &[u8]) -> Result<(Timestamp, Self, &[u8]), BadEntry> {
        let ((at, entry), rest) = postcard::take_from_bytes(bytes)?;
        Ok((at, entry, rest))
    }
}
