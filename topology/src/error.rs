//! What can be refused.

use std::fmt;

use crate::nodes::{AgentFacts, Incarnation};

/// Which agent: enough to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where it connects from, as the aggregator sees it.
    pub from: String,
    /// Its session.
    pub session: u64,
    /// The boot of its host.
    pub boot_id: [u8; 16],
}

impl Claim {
    pub(crate) fn new(incarnation: &Incarnation, facts: &AgentFacts) -> Self {
        Claim {
            from: facts.from.clone(),
            session: incarnation.session,
            boot_id: incarnation.boot_id,
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (session {:016x}, boot {:032x})",
            self.from,
            self.session,
            u128::from_be_bytes(self.boot_id)
        )
    }
}

/// Why an agent may not connect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Another agent with this node's name is connected.
    #[error("two agents claim the node name {name:?}: {holder} is connected, {refused} is refused")]
    NameTaken {
        /// The node's name.
        name: String,
        /// The agent that has it.
        holder: Box<Claim>,
        /// The agent that wants it.
        refused: Box<Claim>,
    },
}

/// Why something an agent defines is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefineError {
    /// The workload is not one of this node's.
    #[error("the workload is not one of this node's")]
    UnknownWorkload,
    /// The node is not known.
    #[error("the node is not known")]
    UnknownNode,
}
