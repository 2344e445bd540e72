//! Workloads, halves, listeners and answers about tuples.

use std::collections::{BTreeMap, HashMap};

use topology::model::{Listener, Role, Tuple, Workload, WorkloadKind};

use super::{id, name, port, text};
use crate::{ConvertError, MAX_LABELS, v1};

/// A workload and the id it goes by in this stream; never 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadDefinition {
    /// Id in this stream.
    pub id: u32,
    /// What it names.
    pub workload: Workload,
}

/// What a runtime calls a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerName {
    /// The name that its workload is defined by.
    pub container: String,
    /// What it is called: a container, or a pod.
    pub called: Workload,
}

impl TryFrom<v1::ContainerName> for ContainerName {
    type Error = ConvertError;

    fn try_from(wire: v1::ContainerName) -> Result<Self, ConvertError> {
        let kind = workload_kind(wire.kind)?;
        if !matches!(kind, WorkloadKind::Container | WorkloadKind::Pod) {
            return Err(ConvertError::Variant { field: "kind of a container", value: wire.kind });
        }
        Ok(Self {
            container: name("container", wire.container)?,
            called: Workload {
                kind,
                name: name("container name", wire.name)?,
                namespace: text("namespace", wire.namespace)?,
                labels: labels(wire.labels)?,
            },
        })
    }
}

impl From<ContainerName> for v1::ContainerName {
    fn from(named: ContainerName) -> Self {
        let Workload { kind, name, namespace, labels } = named.called;
        Self {
            container: named.container,
            kind: wire_kind(kind).into(),
            name,
            namespace,
            labels: labels.into_iter().collect(),
        }
    }
}

fn labels(wire: HashMap<String, String>) -> Result<BTreeMap<String, String>, ConvertError> {
    if wire.len() > MAX_LABELS {
        return Err(ConvertError::Count { field: "labels", count: wire.len(), max: MAX_LABELS });
    }
    wire.into_iter()
        .map(|(key, value)| Ok((name("label", key)?, text("label value", value)?)))
        .collect()
}

impl TryFrom<v1::WorkloadDefinition> for WorkloadDefinition {
    type Error = ConvertError;

    fn try_from(wire: v1::WorkloadDefinition) -> Result<Self, ConvertError> {
        if wire.id == 0 {
            return Err(ConvertError::Missing("workload id"));
        }
        let kind = workload_kind(wire.kind)?;
        let name = match kind {
            // Named by the node, whatever is sent.
            WorkloadKind::Host => text("workload name", wire.name)?,
            _ => name("workload name", wire.name)?,
        };
        let labels = labels(wire.labels)?;
        let namespace = text("namespace", wire.namespace)?;
        let workload = Workload { kind, name, namespace, labels };
        Ok(Self { id: id("workload id", wire.id)?, workload })
    }
}

impl From<WorkloadDefinition> for v1::WorkloadDefinition {
    fn from(definition: WorkloadDefinition) -> Self {
        let Workload { kind, name, namespace, labels } = definition.workload;
        Self {
            id: definition.id,
            kind: wire_kind(kind).into(),
            name,
            namespace,
            labels: labels.into_iter().collect(),
        }
    }
}

fn workload_kind(kind: i32) -> Result<WorkloadKind, ConvertError> {
    match v1::WorkloadKind::try_from(kind) {
        Ok(v1::WorkloadKind::Container) => Ok(WorkloadKind::Container),
        Ok(v1::WorkloadKind::Systemd) => Ok(WorkloadKind::Systemd),
        Ok(v1::WorkloadKind::Pod) => Ok(WorkloadKind::Pod),
        Ok(v1::WorkloadKind::Process) => Ok(WorkloadKind::Process),
        Ok(v1::WorkloadKind::Host) => Ok(WorkloadKind::Host),
        Ok(v1::WorkloadKind::Unspecified) => {
            Err(ConvertError::Variant { field: "workload kind", value: kind })
        }
        // Of a later version: what it has counted has a place all the same, by its name.
        Err(_) => Ok(WorkloadKind::Process),
    }
}

fn wire_kind(kind: WorkloadKind) -> v1::WorkloadKind {
    match kind {
        WorkloadKind::Container => v1::WorkloadKind::Container,
        WorkloadKind::Systemd => v1::WorkloadKind::Systemd,
        WorkloadKind::Pod => v1::WorkloadKind::Pod,
        WorkloadKind::Process => v1::WorkloadKind::Process,
        WorkloadKind::Host => v1::WorkloadKind::Host,
        // No agent has a workload of these kinds; the receiver refuses it.
        WorkloadKind::External
        | WorkloadKind::Other
        | WorkloadKind::Namespace
        | WorkloadKind::Node
        | WorkloadKind::Zone => v1::WorkloadKind::Unspecified,
    }
}

/// A half, its parts by the ids of this stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfDefinition {
    /// Id in this stream.
    pub id: u32,
    /// Id of the workload on this side.
    pub workload: u32,
    /// Id of this side's address.
    pub local: u32,
    /// Id of the other side's address.
    pub peer: u32,
    /// Port the server listens on.
    pub server_port: u16,
    /// The client's port, 0 unless the half is a single connection.
    pub client_port: u16,
    /// Which side this is.
    pub role: Role,
    /// Which of the halves of these ends, within the session; 0 when that was not said.
    pub birth: u64,
}

impl TryFrom<v1::HalfDefinition> for HalfDefinition {
    type Error = ConvertError;

    fn try_from(wire: v1::HalfDefinition) -> Result<Self, ConvertError> {
        let role = match v1::Role::try_from(wire.role) {
            Ok(v1::Role::Client) => Role::Client,
            Ok(v1::Role::Server) => Role::Server,
            Ok(v1::Role::Unspecified) | Err(_) => {
                return Err(ConvertError::Variant { field: "role", value: wire.role });
            }
        };
        Ok(Self {
            id: id("half id", wire.id)?,
            workload: id("workload id", wire.workload)?,
            local: id("address id", wire.local)?,
            peer: id("address id", wire.peer)?,
            server_port: port("server port", wire.server_port)?,
            client_port: port("client port", wire.client_port)?,
            role,
            birth: wire.birth,
        })
    }
}

impl From<HalfDefinition> for v1::HalfDefinition {
    fn from(half: HalfDefinition) -> Self {
        let role = match half.role {
            Role::Client => v1::Role::Client,
            Role::Server => v1::Role::Server,
        };
        Self {
            id: half.id,
            workload: half.workload,
            local: half.local,
            peer: half.peer,
            server_port: half.server_port.into(),
            client_port: half.client_port.into(),
            role: role.into(),
            birth: half.birth,
        }
    }
}

/// A listener that is there, or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerChange {
    /// The listener, its workload by the id of this stream.
    pub listener: Listener<u32>,
    /// It is gone.
    pub closed: bool,
}

impl TryFrom<v1::ListenerState> for ListenerChange {
    type Error = ConvertError;

    fn try_from(wire: v1::ListenerState) -> Result<Self, ConvertError> {
        let listener = Listener {
            workload: id("workload id", wire.workload)?,
            address: wire.address.ok_or(ConvertError::Missing("listener address"))?.try_into()?,
            network_namespace: wire.network_namespace,
            port: port("listener port", wire.port)?,
        };
        Ok(Self { listener, closed: wire.closed })
    }
}

impl From<ListenerChange> for v1::ListenerState {
    fn from(change: ListenerChange) -> Self {
        Self {
            workload: change.listener.workload,
            address: Some(change.listener.address.into()),
            network_namespace: change.listener.network_namespace,
            port: change.listener.port.into(),
            closed: change.closed,
        }
    }
}

/// Whose a connection was; `None` when its host does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TupleAnswer {
    /// The connection asked about.
    pub tuple: Tuple,
    /// Id of a workload in this stream.
    pub workload: Option<u32>,
}

impl TryFrom<v1::TupleOwner> for TupleAnswer {
    type Error = ConvertError;

    fn try_from(wire: v1::TupleOwner) -> Result<Self, ConvertError> {
        let workload = match wire.workload {
            0 => None,
            workload => Some(id("workload id", workload)?),
        };
        Ok(Self { tuple: wire.tuple.ok_or(ConvertError::Missing("tuple"))?.try_into()?, workload })
    }
}

impl From<TupleAnswer> for v1::TupleOwner {
    fn from(answer: TupleAnswer) -> Self {
        Self { tuple: Some(answer.tuple.into()), workload: answer.workload.unwrap_or(0) }
    }
}
