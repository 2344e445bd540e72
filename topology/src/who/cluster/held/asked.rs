//! What is asked of who had what.

use std::{net::IpAddr, sync::Arc};

use super::{Held, Holding, Known, Serves, Sort, Span, Spot};
use crate::{base::time::Timestamp, who::cluster::facts::ObjectName};

/// A pod served a port of a Service for some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stay<'a> {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) from: Timestamp,
    pub(crate) until: Option<Timestamp>,
    /// Whether connections were led to it.
    pub(crate) ready: bool,
    /// Who it was, when it is over.
    pub(crate) known: Option<&'a Known>,
}

impl Held {
    /// What a pod at an address did for Services at a port.
    pub(in crate::who::cluster) fn served(
        &self,
        ip: IpAddr,
        port: u16,
        span: Span,
    ) -> impl Iterator<Item = &Serves> {
        self.roles_of(Sort::Endpoint, ip, port, span)
    }

    /// The Services that an address stood for at a port, and what that was called.
    pub(in crate::who::cluster) fn stood_for(
        &self,
        ip: IpAddr,
        port: u16,
        span: Span,
    ) -> impl Iterator<Item = &Serves> {
        self.roles_of(Sort::Service, ip, port, span)
    }

    /// What holders of an address of some sort had to do with a port in that time.
    fn roles_of(
        &self,
        sort: Sort,
        ip: IpAddr,
        port: u16,
        span: Span,
    ) -> impl Iterator<Item = &Serves> {
        let holdings = self.spots.get(&Spot::Address(ip)).into_iter().flatten();
        let of_sort =
            holdings.filter(move |one| one.sort == sort && span.meets(one.from, one.until()));
        of_sort.flat_map(|one| &one.roles).filter(move |role| role.port == port)
    }

    /// Everybody who serves or has served a port of a Service.
    pub(in crate::who::cluster) fn stays<'a>(
        &'a self,
        service: &'a ObjectName,
        called: &'a str,
    ) -> impl Iterator<Item = Stay<'a>> {
        let pods = self.pods.get(service).into_iter().flatten();
        let holdings = pods.flat_map(move |ip| {
            let holdings = self.spots.get(&Spot::Address(*ip)).into_iter().flatten();
            holdings.filter(|one| one.sort == Sort::Endpoint).map(move |one| (*ip, one))
        });
        holdings.flat_map(move |(ip, one)| {
            let is_its = move |role: &&Serves| *role.service == *service && &*role.called == called;
            one.roles.iter().filter(is_its).map(move |role| Stay {
                ip,
                port: role.port,
                from: one.from,
                until: one.until(),
                ready: role.ready,
                known: one.over.as_ref().map(|over| &over.known),
            })
        })
    }

    /// Where a Service stood at a port, by what that was called. One that is still there has been there before it was told.
    pub(in crate::who::cluster) fn fronts<'a>(
        &'a self,
        service: &'a ObjectName,
        called: &'a str,
        span: Span,
    ) -> impl Iterator<Item = (IpAddr, u16)> {
        let addresses = self.fronts.get(service).into_iter().flatten();
        let holdings = addresses.flat_map(move |ip| {
            let holdings = self.spots.get(&Spot::Address(*ip)).into_iter().flatten();
            holdings.filter(|one| one.is(Sort::Service, service)).map(move |one| (*ip, one))
        });
        let meant = holdings
            .filter(move |(_, one)| one.over.is_none() || span.meets(one.from, one.until()));
        meant.flat_map(move |(ip, one)| {
            let roles = one.roles.iter().filter(move |role| &*role.called == called);
            roles.map(move |role| (ip, role.port))
        })
    }

    /// The Service whose something was all the time; `None` when it had several holders of different Services then, or
    /// it is not known whose it was at first. And as what. `shared` says that it is or may be a host's address, which all
    /// have who are on the host's own network; an address that several pods had at once is no pod's own, either.
    pub(in crate::who::cluster) fn who(
        &self,
        spot: Spot,
        port: Option<u16>,
        shared: bool,
        span: Span,
    ) -> Option<(&Arc<ObjectName>, Sort)> {
        let then = |holding: &&Holding| span.meets(holding.from, holding.until());
        let known = || self.spots.get(&spot).into_iter().flatten().filter(then);
        let pods = || known().filter(|holding| holding.sort == Sort::Endpoint);
        let beside =
            |one: &Holding| pods().any(|other| other.holder != one.holder && other.overlaps(one));
        let shared = shared || pods().any(beside);
        let holdings = || known().filter(|holding| holding.is_meant(port, shared));
        let first = holdings().min_by_key(|holding| holding.from)?;
        if !span.begins_with(first.from) {
            return None;
        }
        let service = first.service(port)?;
        let same = |holding: &Holding| holding.service(port) == Some(service);
        holdings().all(same).then_some((service, first.sort))
    }
}
