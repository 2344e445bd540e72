//! What an API server of Kubernetes says of services, their endpoints and hosts, as far as it matters here.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Namespace and name of an object; of a host, the namespace is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectName {
    /// Namespace and name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// The kinds of objects that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ClusterKind {
    /// Services.
    Services,
    /// Where their pods are.
    Slices,
    /// Hosts.
    Nodes,
}

impl ClusterKind {
    /// Every one.
    pub const ALL: [ClusterKind; 3] =
        [ClusterKind::Services, ClusterKind::Slices, ClusterKind::Nodes];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ClusterKind::Services => "services",
            ClusterKind::Slices => "endpointslices",
            ClusterKind::Nodes => "nodes",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterService {
    /// The addresses that stand for all of its pods; none of a headless one.
    pub addresses: Vec<IpAddr>,
    /// Addresses by which it is reached from elsewhere: of load balancers, and those that the user gave it.
    pub fronts: Vec<IpAddr>,
    /// Its TCP ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Which of the pods' ports it stands for: the one of this name.
    pub name: String,
    /// The port.
    pub port: u16,
    /// The port at every host that leads to it; 0 for none.
    pub node_port: u16,
}

/// Some of the endpoints of a Service (an EndpointSlice).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSlice {
    /// Name of the Service, of the slice's own namespace; empty for none.
    pub service: String,
    /// Where its pods are.
    pub endpoints: Vec<ClusterEndpoint>,
    /// Their TCP ports: name and number.
    pub ports: Vec<(String, u16)>,
}

/// Where a pod of a Service is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterEndpoint {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether new connections are led to it.
    pub ready: bool,
    /// The pod's name; `None` when it is no pod.
    pub pod: Option<String>,
}

/// A host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNode {
    /// The zone it is in; empty when that is not known.
    pub zone: String,
    /// Its addresses within the cluster.
    pub addresses: Vec<IpAddr>,
}

/// An object that is there or has changed, or, with `None`, is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterChange {
    /// A Service.
    Service(ObjectName, Option<ClusterService>),
    /// Some of the endpoints of one.
    Slice(ObjectName, Option<ClusterSlice>),
    /// A host.
    Node(ObjectName, Option<ClusterNode>),
}

impl ClusterChange {
    /// What is gone.
    #[must_use]
    pub const fn gone(kind: ClusterKind, name: ObjectName) -> Self {
        match kind {
            ClusterKind::Services => ClusterChange::Service(name, None),
            ClusterKind::Slices => ClusterChange::Slice(name, None),
            ClusterKind::Nodes => ClusterChange::Node(name, None),
        }
    }

    /// Of what kind the object is.
    #[must_use]
    pub const fn kind(&self) -> ClusterKind {
        match self {
            ClusterChange::Service(..) => ClusterKind::Services,
            ClusterChange::Slice(..) => ClusterKind::Slices,
            ClusterChange::Node(..) => ClusterKind::Nodes,
        }
    }

    /// Which object.
    #[must_use]
    pub const fn name(&self) -> &ObjectName {
        let (ClusterChange::Service(name, _)
        | ClusterChange::Slice(name, _)
        | ClusterChange::Node(name, _)) = self;
        name
    }
}

/// What there is to know of a cluster that was not known before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterNews {
    /// Objects have changed.
    Changed(Vec<ClusterChange>),
    /// What becomes of objects of a kind is not known since then.
    Lost(ClusterKind, crate::Timestamp),
    /// It is known again.
    Watched(ClusterKind),
}
