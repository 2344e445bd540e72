//! Who is calling.

use std::time::Duration;

use super::{name, text};
use crate::{ConvertError, v1};

/// A checked [`v1::Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Version of the protocol.
    pub protocol_version: u32,
    /// What was added to it.
    pub protocol_minor: u32,
    /// The node's name.
    pub node: String,
    /// Version of the agent, for people.
    pub agent_version: String,
    /// Kernel release, for people.
    pub kernel: String,
    /// The kernel's boot id.
    pub boot_id: [u8; 16],
    /// Generation of the kernel maps.
    pub generation: u64,
    /// Session of the agent.
    pub session: u64,
    /// How often the agent reports.
    pub interval: Duration,
}

impl TryFrom<v1::Hello> for Hello {
    type Error = ConvertError;

    fn try_from(wire: v1::Hello) -> Result<Self, ConvertError> {
        let boot_id = wire.boot_id.as_slice().try_into().map_err(|_| ConvertError::Length {
            field: "boot id",
            length: wire.boot_id.len(),
            expected: "16",
        })?;
        Ok(Self {
            protocol_version: wire.protocol_version,
            protocol_minor: wire.protocol_minor,
            node: name("node name", wire.node)?,
            agent_version: text("agent version", wire.agent_version)?,
            kernel: text("kernel", wire.kernel)?,
            boot_id,
            generation: wire.generation,
            session: wire.session,
            interval: Duration::from_nanos(wire.interval_ns),
        })
    }
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            protocol_version: hello.protocol_version,
            protocol_minor: hello.protocol_minor,
            node: hello.node,
            agent_version: hello.agent_version,
            kernel: hello.kernel,
            boot_id: hello.boot_id.to_vec(),
            generation: hello.generation,
            session: hello.session,
            interval_ns: u64::try_from(hello.interval.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}
