//! Layout of the database.

use std::{collections::BTreeMap, sync::Arc};

use redb::TableDefinition;
use serde::{Deserialize, Serialize};
use topology::{
    Entry, Id, Lost, Packer, Seen, Timestamp, Unpacker, ViewNode, Window, model::WorkloadKind,
};

/// Layout of everything in the database: to be raised whenever it changes.
pub(super) const VERSION: u64 = 3;

/// `version`, `instance`, `bytes.N` of tier N.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Number of a service -> [`Service`].
pub(super) const SERVICES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("services");
/// Number of an edge -> [`Edge`].
pub(super) const EDGES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("edges");
/// Tier and begin in ns since the epoch -> a step, see [`StepBytes`].
pub(super) const STEPS: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("steps");

/// A service that an edge begins or ends at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Service {
    pub(super) kind: WorkloadKind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) hosts: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
}

impl Service {
    pub(super) fn of(node: &ViewNode) -> Self {
        Self {
            kind: node.kind,
            namespace: node.namespace.clone(),
            name: node.name.clone(),
            hosts: node.hosts.clone(),
            labels: node.labels.clone(),
        }
    }

    pub(super) fn id(&self) -> Id {
        Id::of_node(self.kind, &self.namespace, &self.name)
    }

    pub(super) fn node(self) -> Arc<ViewNode> {
        let id = self.id();
        let Self { kind, namespace, name, hosts, labels } = self;
        Arc::new(ViewNode { id, kind, namespace, name, hosts, labels })
    }
}

/// An edge, by the numbers of its services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Edge {
    pub(super) source: u32,
    pub(super) target: u32,
    pub(super) server_port: u16,
}

/// A step as it is stored: its end and its losses, then entries by the numbers of their edges.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    to: Timestamp,
    lost: Lost,
}

/// Writes a step; entries come in ascending order of their numbers.
pub(super) fn pack<'a>(
    to: Timestamp,
    lost: Lost,
    entries: impl Iterator<Item = (u32, &'a topology::EdgeTotals, Seen, u64)>,
) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = postcard::to_stdvec(&Head { to, lost })?;
    let mut packer = Packer::default();
    for (number, totals, seen, open) in entries {
        packer.put(number as usize, totals, seen, open);
    }
    bytes.extend_from_slice(&packer.finish());
    Ok(bytes)
}

/// A step that was read.
pub(super) struct StepBytes<'a> {
    pub(super) window: Window,
    pub(super) lost: Lost,
    entries: Unpacker<'a>,
}

impl<'a> StepBytes<'a> {
    pub(super) fn read(from: u64, bytes: &'a [u8]) -> Result<Self, postcard::Error> {
        let (Head { to, lost }, rest) = postcard::take_from_bytes(bytes)?;
        let window = Window { from: Timestamp::from_unix_ns(from), to };
        Ok(Self { window, lost, entries: Unpacker::new(rest) })
    }

    /// The next entry; its index is the edge's number.
    pub(super) fn next(&mut self, entry: &mut Entry) -> bool {
        self.entries.next(entry).is_some()
    }
}
