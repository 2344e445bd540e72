//! What is asked of a cluster: who has an address, who is behind it, and which zone a host is in.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{
    Cluster,
    facts::ObjectName,
    held::{Serves, Sort, Span, Spot, Stay},
};

impl Cluster {
    /// The Service whose an address was, as it is told; of an address that is a covered host's own, at a port that leads
    /// from there to a Service. Until hosts are known, every address may be one's.
    pub(crate) fn who(
        &self,
        ip: IpAddr,
        port: Option<u16>,
        covered_host: bool,
        span: Span,
    ) -> Option<(&Arc<ObjectName>, Sort)> {
        let is_host = self.hosts.contains_key(&ip);
        let by_port = || {
            let port = port.filter(|_| is_host)?;
            self.held.who(Spot::NodePort(port), Some(port), false, span)
        };
        if covered_host {
            return by_port();
        }
        let shared = is_host || self.nodes.is_empty();
        self.held.who(Spot::Address(ip), port, shared, span).or_else(by_port)
    }

    /// Everybody who serves or has served a port of a Service, by what that is called.
    pub(crate) fn behind<'a>(
        &'a self,
        service: &'a ObjectName,
        called: &'a str,
    ) -> impl Iterator<Item = Stay<'a>> {
        self.held.stays(service, called)
    }

    /// The Services that an address stood for at a port, with all of their pods, and what the port was called.
    pub(crate) fn services_at(
        &self,
        ip: IpAddr,
        port: u16,
        span: Span,
    ) -> impl Iterator<Item = &Serves> {
        self.held.stood_for(ip, port, span)
    }

    /// What a port of a Service at an address was called, last.
    pub(crate) fn called(
        &self,
        service: &ObjectName,
        ip: IpAddr,
        port: u16,
        span: Span,
    ) -> Option<Arc<str>> {
        let roles = self.services_at(ip, port, span).filter(|role| *role.service == *service);
        roles.last().map(|role| Arc::clone(&role.called))
    }

    /// Addresses of Services, and ports there, that led to a pod's port.
    pub(crate) fn fronts(&self, ip: IpAddr, port: u16, span: Span) -> BTreeSet<(IpAddr, u16)> {
        let served = self.held.served(ip, port, span);
        served.flat_map(|role| self.held.fronts(&role.service, &role.called, span)).collect()
    }

    /// The addresses of hosts.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        self.hosts.keys().copied()
    }

    /// The zone of a host: of the one that is called so, else of the only one that has one of these addresses.
    pub(crate) fn zone(&self, host: &str, addresses: impl Iterator<Item = IpAddr>) -> Option<&str> {
        let zone = |name: &ObjectName| {
            let zone = self.nodes.get(name).map(|node| node.zone.as_str());
            zone.filter(|zone| !zone.is_empty())
        };
        let called = ObjectName::new("", host);
        if self.nodes.contains_key(&called) {
            return zone(&called);
        }
        let hosts = addresses.filter_map(|ip| self.hosts.get(&ip.to_canonical())).flatten();
        let hosts: BTreeSet<&ObjectName> = hosts.collect();
        match hosts.into_iter().collect::<Vec<_>>()[..] {
            [only] => zone(only),
            _ => None,
        }
    }
}
