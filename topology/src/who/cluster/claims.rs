//! What objects claim: each an address or a port, for somebody.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    facts::{ClusterService, ClusterSlice, ObjectName},
    held::{Roles, Serves, Sort, Spot},
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
    let role = |called: &str, port| Serves {
        service: Arc::clone(&name),
        port,
        called: called.into(),
        ready: true,
    };
    let all: Roles = service.ports.iter().map(|port| role(&port.name, port.port)).collect();
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
    for port in service.ports.iter().filter(|port| port.node_port > 0) {
        let claim = (Spot::NodePort(port.node_port), Sort::Front, Arc::clone(&name));
        claims.insert(claim, Roles::from([role(&port.name, port.node_port)]));
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
    let role = |(called, port): &(String, u16)| Serves {
        service: Arc::clone(&service),
        port: *port,
        called: called.as_str().into(),
        ready: true,
    };
    let ready: Roles = slice.ports.iter().map(role).collect();
    if ready.is_empty() {
        return claims;
    }
    let not_ready = |role: &Serves| Serves { ready: false, ..role.clone() };
    let not_ready: Roles = ready.iter().map(not_ready).collect();
    for endpoint in &slice.endpoints {
        let holder = match &endpoint.pod {
            Some(pod) => Arc::new(ObjectName::new(&name.namespace, pod)),
            None => Arc::clone(&service),
        };
        for ip in &endpoint.addresses {
            let claim = (Spot::Address(ip.to_canonical()), Sort::Endpoint, Arc::clone(&holder));
            let roles = if endpoint.ready { &ready } else { &not_ready };
            claims.entry(claim).or_default().extend(roles.iter().cloned());
        }
    }
    claims
}
