//! What objects claim: each an address or a port, for somebody.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    facts::{ClusterService, ClusterSlice, ObjectName},
    held::{Roles, Sort, Spot},
};

/// Who has what.
pub(super) type Claim = (Spot, Sort, Arc<ObjectName>);

/// The Service that a slice is of.
pub(super) fn service_of(name: &ObjectName, slice: &ClusterSlice) -> ObjectName {
    ObjectName::new(&name.namespace, &slice.service)
}

/// What a Service claims: its addresses, and ports of hosts.
pub(super) fn claims_of_service(
    name: &ObjectName,
    service: &ClusterService,
) -> BTreeMap<Claim, Roles> {
    let name = Arc::new(name.clone());
    let roles = |ports: &mut dyn Iterator<Item = u16>| -> Roles {
        ports.map(|port| (Arc::clone(&name), port)).collect()
    };
    let all = roles(&mut service.ports.iter().map(|port| port.port));
    let mut claims = BTreeMap::new();
    if all.is_empty() {
        return claims;
    }
    for (sort, addresses) in [(Sort::Service, &service.addresses), (Sort::Front, &service.fronts)] {
        for ip in addresses {
            let spot = Spot::Address(ip.to_canonical());
            claims.insert((spot, sort, Arc::clone(&name)), all.clone());
        }
    }
    for port in service.ports.iter().map(|port| port.node_port).filter(|port| *port > 0) {
        let claim = (Spot::NodePort(port), Sort::Front, Arc::clone(&name));
        claims.insert(claim, roles(&mut std::iter::once(port)));
    }
    claims
}

/// What a slice claims: the addresses of its endpoints.
pub(super) fn claims_of_slice(name: &ObjectName, slice: &ClusterSlice) -> BTreeMap<Claim, Roles> {
    let mut claims: BTreeMap<Claim, Roles> = BTreeMap::new();
    if slice.service.is_empty() {
        return claims;
    }
    let service = Arc::new(service_of(name, slice));
    let roles: Roles = slice.ports.iter().map(|(_, port)| (Arc::clone(&service), *port)).collect();
    if roles.is_empty() {
        return claims;
    }
    for endpoint in &slice.endpoints {
        let holder = match &endpoint.pod {
            Some(pod) => Arc::new(ObjectName::new(&name.namespace, pod)),
            None => Arc::clone(&service),
        };
        for ip in &endpoint.addresses {
            let claim = (Spot::Address(ip.to_canonical()), Sort::Endpoint, Arc::clone(&holder));
            claims.entry(claim).or_default().extend(roles.iter().cloned());
        }
    }
    claims
}
