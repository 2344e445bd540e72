//! Hosts of a world, their networks, and what lives in them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{
    nat,
    plan::{At, Ear, On, Place, Target, Workload, World},
};
use crate::{
    Error, Result,
    lab::{Behind, Bridge, Host, Lab},
    traffic::{Listen, Peer},
};

/// The hosts of a world.
pub(super) struct Ground<'a> {
    world: &'a World,
    // What is behind bridges goes first.
    networks: BTreeMap<Place, (Behind, usize)>,
    hosts: Vec<Host>,
    bridges: Vec<Bridges>,
    addresses: Vec<Ipv4Addr>,
}

/// A host's own networks.
struct Bridges {
    pods: Bridge,
    engine: Option<Bridge>,
}

impl<'a> Ground<'a> {
    /// Makes the hosts.
    ///
    /// # Errors
    /// When something cannot be made.
    pub(super) fn new(world: &'a World, lab: &Lab) -> Result<Self> {
        let mut hosts = Vec::new();
        let mut bridges = Vec::new();
        for (number, plan) in world.hosts.iter().enumerate() {
            let host = lab.host(&plan.name)?;
            let pods = host.add_bridge(nat::PODS, nat::pod_range(number))?;
            host.announce(&pods)?;
            let engine = || host.add_bridge(nat::ENGINE, nat::ENGINE_RANGE);
            let engine = plan.engine.then(engine).transpose()?;
            bridges.push(Bridges { pods, engine });
            hosts.push(host);
        }
        let addresses: Vec<_> = hosts.iter().map(|host| v4(host.ipv4())).collect();
        for (number, (host, plan)) in hosts.iter().zip(&world.hosts).enumerate() {
            host.namespace().nft(&nat::silence())?;
            let rules = nat::ruleset(world, number, &addresses).filter(|_| plan.agent);
            rules.map_or(Ok(()), |rules| host.namespace().nft(&rules))?;
        }
        Ok(Self { world, networks: BTreeMap::new(), hosts, bridges, addresses })
    }

    /// Hosts that are to have an agent.
    pub(super) fn covered(&self) -> Vec<&Host> {
        let hosts = self.hosts.iter().zip(&self.world.hosts);
        hosts.filter(|(_, plan)| plan.agent).map(|(host, _)| host).collect()
    }

    /// Whose address this is when nobody answers there.
    pub(super) fn name_of(&self, target: SocketAddr) -> String {
        let ip = target.ip();
        let owner = self.covered().into_iter().find(|it| it.ipv4() == ip || it.ipv6() == ip);
        owner.map_or_else(|| ip.to_string(), |host| host.name().to_owned())
    }

    /// The address that a target is at, for somebody at a place.
    pub(super) fn target(&self, from: Place, target: Target) -> SocketAddr {
        let host = |host: usize| self.hosts.get(host);
        let ip = match target.at {
            At::Of(place) => IpAddr::V4(nat::address(place, &self.addresses)),
            At::Host6(number) => host(number).map_or(Ipv6Addr::UNSPECIFIED.into(), Host::ipv6),
            At::Loopback => Ipv4Addr::LOCALHOST.into(),
            At::Virtual(number) => nat::virtual_address(number).into(),
            At::Nobody(number) => {
                let here = || IpAddr::V4(nat::address(from, &self.addresses));
                host(number).map_or_else(here, |host| host.network().nobody())
            }
        };
        SocketAddr::new(ip, target.port)
    }

    /// How to listen with an ear.
    pub(super) fn listen(&self, place: Place, ear: Ear) -> Listen {
        let ip = match ear.on {
            On::Any => Ipv4Addr::UNSPECIFIED.into(),
            On::Both => Ipv6Addr::UNSPECIFIED.into(),
            On::Own => IpAddr::V4(nat::address(place, &self.addresses)),
            On::Loopback => Ipv4Addr::LOCALHOST.into(),
        };
        Listen { address: SocketAddr::new(ip, ear.port), mptcp: false, reuse_port: ear.shared }
    }

    /// Starts the process of a workload where it belongs.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn process(&self, workload: &Workload) -> Result<Peer> {
        let host = &self.hosts[workload.place.host()];
        let network = self.networks.get(&workload.place).map(|(behind, _)| behind.namespace());
        let network = network.unwrap_or_else(|| host.namespace());
        host.peer_in(&workload.program, workload.leaf.as_deref(), network)
    }

    /// Makes the network namespace of a place, unless it is there.
    ///
    /// # Errors
    /// When a tool fails.
    pub(super) fn enter(&mut self, place: Place) -> Result<()> {
        if let Some((_, users)) = self.networks.get_mut(&place) {
            *users += 1;
            return Ok(());
        }
        let Some((host, bridge, number)) = self.bridge(place)? else { return Ok(()) };
        let behind = host.attach(bridge, number)?;
        self.networks.insert(place, (behind, 1));
        Ok(())
    }

    /// Removes what a workload leaves behind: its cgroup, and its network namespace, unless others are in it.
    ///
    /// # Errors
    /// When a tool fails.
    pub(super) fn leave(&mut self, workload: &Workload) -> Result<()> {
        let host = &self.hosts[workload.place.host()];
        workload.leaf.iter().try_for_each(|leaf| host.remove_leaf(leaf))?;
        let Some((_, users)) = self.networks.get_mut(&workload.place) else { return Ok(()) };
        *users -= 1;
        if *users > 0 {
            return Ok(());
        }
        let behind = self.networks.remove(&workload.place).map(|(behind, _)| behind);
        match self.bridge(workload.place)?.zip(behind) {
            Some(((host, bridge, _), behind)) => host.detach(bridge, behind),
            None => Ok(()),
        }
    }

    fn bridge(&self, place: Place) -> Result<Option<(&Host, &Bridge, u8)>> {
        let missing = || Error::Unavailable(format!("no bridge for {place:?}"));
        let bridges = self.bridges.get(place.host()).ok_or_else(missing)?;
        let host = &self.hosts[place.host()];
        Ok(match place {
            Place::Host(_) => None,
            Place::Pod(_, number) => Some((host, &bridges.pods, number)),
            Place::Container(_, number) => {
                Some((host, bridges.engine.as_ref().ok_or_else(missing)?, number))
            }
        })
    }
}

fn v4(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}
