//! Layout of the database.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use redb::TableDefinition;
use serde::{Deserialize, Serialize};
use topology::{
    Entry, Id, Lost, Packer, Raw, Seen, Timestamp, Unpacker, ViewNode, Window, model::WorkloadKind,
};

/// Layout of everything in the database: to be raised whenever it changes.
pub(super) const VERSION: u64 = 4;

/// A layout whose steps have samples in bytes. They are read like those of now.
pub(super) const IN_BYTES: u64 = 3;

/// A layout without the second of [`LAYERS`], which begins where such a file ends.
pub(super) const WITHOUT_WORKLOADS: u64 = 2;

/// `version`, `instance`, `given`, and of each layer `bytes.N` of tier N.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Steps of one fineness, with names of their own.
pub(super) struct Layer {
    /// Between workloads on their hosts, not between services.
    pub(super) finer: bool,
    /// Of the bytes that there may be, how many hundredths it has.
    pub(super) share: u64,
    /// Number of a service -> [`Service`], as [`Layer::write`] has it.
    pub(super) services: TableDefinition<'static, u32, &'static [u8]>,
    /// Number of an edge -> [`Edge`].
    pub(super) edges: TableDefinition<'static, u32, &'static [u8]>,
    /// Tier and begin in ns since the epoch -> a step, see [`StepBytes`].
    pub(super) steps: TableDefinition<'static, (u8, u64), &'static [u8]>,
    /// What names of numbers in [`META`] begin with.
    pub(super) prefix: &'static str,
}

/// What is between services, and between workloads on their hosts. Each keeps to its share, however fast the other's names
/// change.
pub(super) static LAYERS: [Layer; 2] = [
    Layer {
        finer: false,
        share: 70,
        services: TableDefinition::new("services"),
        edges: TableDefinition::new("edges"),
        steps: TableDefinition::new("steps"),
        prefix: "",
    },
    Layer {
        finer: true,
        share: 30,
        services: TableDefinition::new("workloads"),
        edges: TableDefinition::new("workloads.edges"),
        steps: TableDefinition::new("workloads.steps"),
        prefix: "workloads.",
    },
];

impl Layer {
    pub(super) fn of(finer: bool) -> &'static Self {
        &LAYERS[usize::from(finer)]
    }

    /// The bytes that it may take.
    pub(super) const fn most(&self, max_bytes: u64) -> u64 {
        max_bytes / 100 * self.share
    }

    /// Name of the number in [`META`] that says what the steps of a tier take.
    pub(super) fn bytes_of(&self, tier: usize) -> String {
        format!("{}bytes.{tier}", self.prefix)
    }

    /// A service as it is stored: a workload on its host with the zone.
    pub(super) fn write(&self, service: &Service) -> Result<Vec<u8>, postcard::Error> {
        if self.finer {
            return postcard::to_stdvec(&(service, &service.zone));
        }
        postcard::to_stdvec(service)
    }

    /// Reads what [`write`](Self::write) wrote.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Service, postcard::Error> {
        if self.finer {
            let (service, zone): (Service, Cow<'_, str>) = postcard::from_bytes(bytes)?;
            return Ok(Service { zone: zone.into_owned(), ..service });
        }
        postcard::from_bytes(bytes)
    }

    /// What is told of a service.
    pub(super) fn node(&self, service: Service) -> Arc<ViewNode> {
        let Service { kind, namespace, name, hosts, labels, zone } = service;
        let host = hosts.first().map(String::as_str).filter(|_| self.finer && hosts.len() == 1);
        let id = ViewNode::id_on_host(kind, &namespace, &name, host);
        Arc::new(ViewNode { id, kind, namespace, name, hosts, zone, labels })
    }

    /// What tells a service from others; see [`topology::StepRow::key`].
    pub(super) fn key(&self, node: &ViewNode) -> Id {
        if self.finer { node.id_in_zone() } else { node.id }
    }
}

/// A service that an edge begins or ends at, or a workload on its host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Service {
    pub(super) kind: WorkloadKind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) hosts: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
    /// Of a workload on its host, at that time.
    #[serde(skip)]
    pub(super) zone: String,
}

impl Service {
    pub(super) fn of(node: &ViewNode) -> Self {
        Self {
            kind: node.kind,
            namespace: node.namespace.clone(),
            name: node.name.clone(),
            hosts: node.hosts.clone(),
            labels: node.labels.clone(),
            zone: node.zone.clone(),
        }
    }
}

/// An edge, by the numbers of its services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Edge {
    pub(super) source: u32,
    pub(super) target: u32,
    pub(super) server_port: u16,
}

impl Edge {
    /// None: no service has this number.
    pub(super) const NONE: Self = Edge { source: u32::MAX, target: u32::MAX, server_port: 0 };
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
    pack_by(to, lost, |packer| {
        entries.for_each(|(number, totals, seen, open)| {
            packer.put(number as usize, totals, seen, open);
        });
    })
}

/// The same of entries that are put in.
pub(super) fn pack_by(
    to: Timestamp,
    lost: Lost,
    put: impl FnOnce(&mut Packer),
) -> Result<Vec<u8>, postcard::Error> {
    let mut packer = Packer::behind(postcard::to_stdvec(&Head { to, lost })?);
    put(&mut packer);
    Ok(packer.into_bytes())
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

    /// The number of the edge that the next entry is of, and what it has, as it is packed.
    pub(super) fn next_raw(&mut self) -> Option<(u32, Raw<'a>)> {
        self.entries.next_raw().map(|(index, raw)| (index as u32, raw))
    }

    /// The next entry; its index is the edge's number.
    pub(super) fn next(&mut self, entry: &mut Entry) -> bool {
        self.entries.next(entry).is_some()
    }
}
