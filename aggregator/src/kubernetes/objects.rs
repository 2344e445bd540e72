//! Objects as the API server writes them, and what is told of them.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Deserializer};
use topology::{
    ClusterChange, ClusterEndpoint, ClusterKind, ClusterNode, ClusterService, ClusterSlice,
    ObjectName, ServicePort,
};

/// Longest name of an object, in bytes.
const NAME_BYTES: usize = 253;

/// Addresses of one object or endpoint, and ports. More are left out: no object has so many.
const MOST: usize = 64;

/// Endpoints of one slice; a server takes no more.
const ENDPOINTS: usize = 1_000;

/// The label with the name of a slice's service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The label with the zone of a host.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The same before Kubernetes 1.17.
const OLD_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";

/// An object that is watched.
pub(crate) trait Told {
    /// Its kind.
    const KIND: ClusterKind;
    /// Path of all of its kind.
    const PATH: &'static str;

    /// What there is to tell of it; `None` when it is not called as objects are.
    fn told(self) -> Option<ClusterChange>;
}

/// What every object has.
#[derive(Debug, Default, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default, deserialize_with = "or_nothing")]
    labels: BTreeMap<String, String>,
}

impl Metadata {
    fn name(&self) -> Option<ObjectName> {
        let [name, namespace] = [&self.name, &self.namespace].map(|text| is_name(text));
        (name && (namespace || self.namespace.is_empty()))
            .then(|| ObjectName::new(&self.namespace, &self.name))
    }
}

/// A Service.
#[derive(Debug, Deserialize)]
pub(crate) struct Service {
    metadata: Metadata,
    #[serde(default)]
    spec: ServiceSpec,
    #[serde(default)]
    status: ServiceStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs", deserialize_with = "or_nothing")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs", deserialize_with = "or_nothing")]
    external_ips: Vec<String>,
    #[serde(deserialize_with = "or_nothing")]
    ports: Vec<Port>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    #[serde(deserialize_with = "or_nothing")]
    name: String,
    protocol: Option<String>,
    port: Option<u16>,
    node_port: Option<u16>,
}

impl Port {
    fn is_tcp(&self) -> bool {
        self.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
            && self.name.len() <= NAME_BYTES
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatus {
    #[serde(deserialize_with = "or_nothing")]
    load_balancer: LoadBalancer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "or_nothing")]
    ingress: Vec<Ingress>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ingress {
    ip: Option<String>,
}

impl Told for Service {
    const KIND: ClusterKind = ClusterKind::Services;
    const PATH: &'static str = "/api/v1/services";

    fn told(self) -> Option<ClusterChange> {
        let name = self.metadata.name()?;
        let Service { spec, status, .. } = self;
        let fronts = status.load_balancer.ingress.into_iter().filter_map(|ingress| ingress.ip);
        let ports = spec.ports.into_iter().filter(Port::is_tcp).filter_map(|port| {
            let number = port.port.filter(|number| *number > 0)?;
            let node_port = port.node_port.unwrap_or(0);
            Some(ServicePort { name: port.name, port: number, node_port })
        });
        let service = ClusterService {
            // A headless one has `None` for an address.
            addresses: addresses(spec.cluster_ips.into_iter().chain(spec.cluster_ip)),
            fronts: addresses(spec.external_ips.into_iter().chain(fronts)),
            ports: ports.take(MOST).collect(),
        };
        Some(ClusterChange::Service(name, Some(service)))
    }
}

/// Some of the endpoints of a Service.
#[derive(Debug, Deserialize)]
pub(crate) struct EndpointSlice {
    metadata: Metadata,
    #[serde(default, deserialize_with = "or_nothing")]
    endpoints: Vec<Endpoint>,
    #[serde(default, deserialize_with = "or_nothing")]
    ports: Vec<Port>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint {
    #[serde(deserialize_with = "or_nothing")]
    addresses: Vec<String>,
    #[serde(deserialize_with = "or_nothing")]
    conditions: Conditions,
    target_ref: Option<Target>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Target {
    kind: String,
    name: String,
}

impl Told for EndpointSlice {
    const KIND: ClusterKind = ClusterKind::Slices;
    const PATH: &'static str = "/apis/discovery.k8s.io/v1/endpointslices";

    fn told(self) -> Option<ClusterChange> {
        let name = self.metadata.name()?;
        let service = self.metadata.labels.get(SERVICE_NAME).filter(|name| is_name(name));
        let ports = self.ports.into_iter().filter(Port::is_tcp);
        let ports = ports.filter_map(|port| Some((port.name, port.port.filter(|port| *port > 0)?)));
        let ports: Vec<_> = ports.take(MOST).collect();
        // Of no Service, or without a port, they tell nothing.
        let most = if service.is_some() && !ports.is_empty() { ENDPOINTS } else { 0 };
        let endpoints = self.endpoints.into_iter().take(most).map(|endpoint| {
            let pod = endpoint.target_ref.filter(|target| target.kind == "Pod");
            ClusterEndpoint {
                addresses: addresses(endpoint.addresses.into_iter().take(MOST)),
                // Who does not say is ready.
                ready: endpoint.conditions.ready.unwrap_or(true),
                pod: pod.map(|pod| pod.name).filter(|pod| is_name(pod)),
            }
        });
        let endpoints = endpoints.filter(|endpoint| !endpoint.addresses.is_empty());
        let slice = ClusterSlice {
            service: service.cloned().unwrap_or_default(),
            endpoints: endpoints.collect(),
            ports,
        };
        Some(ClusterChange::Slice(name, Some(slice)))
    }
}

/// A host.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    metadata: Metadata,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    #[serde(deserialize_with = "or_nothing")]
    addresses: Vec<NodeAddress>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAddress {
    r#type: String,
    address: String,
}

impl Told for Node {
    const KIND: ClusterKind = ClusterKind::Nodes;
    const PATH: &'static str = "/api/v1/nodes";

    fn told(self) -> Option<ClusterChange> {
        let name = self.metadata.name()?;
        let labels = &self.metadata.labels;
        let zone = labels.get(ZONE).or_else(|| labels.get(OLD_ZONE)).filter(|zone| is_name(zone));
        let own = self.status.addresses.into_iter().filter(|own| own.r#type == "InternalIP");
        let node = ClusterNode {
            zone: zone.cloned().unwrap_or_default(),
            addresses: addresses(own.map(|own| own.address)),
        };
        Some(ClusterChange::Node(name, Some(node)))
    }
}

/// Addresses in an order of their own, which tells nothing.
fn addresses(texts: impl Iterator<Item = String>) -> Vec<IpAddr> {
    let addresses = texts.filter_map(|text| text.parse().ok());
    let mut addresses: Vec<IpAddr> = addresses.map(|ip: IpAddr| ip.to_canonical()).collect();
    addresses.retain(|ip| !ip.is_unspecified() && !ip.is_loopback());
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST);
    addresses
}

/// Whether it is what objects and zones are called.
fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Servers write `null` for what is empty.
fn or_nothing<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
