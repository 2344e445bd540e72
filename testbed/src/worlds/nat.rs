//! Addresses of a world, and what its hosts translate.

use std::{fmt::Write, net::Ipv4Addr};

use super::plan::{Place, World};

/// What is sent to this port of a host is dropped.
pub(super) const SILENT: u16 = 9;

/// Bridge of the namespaces that the whole fleet can reach.
pub(super) const PODS: &str = "pods";

/// Bridge of the containers that have the same addresses on every host.
pub(super) const ENGINE: &str = "engine";

/// Addresses behind [`ENGINE`].
pub(super) const ENGINE_RANGE: [u8; 3] = [172, 18, 0];

/// Addresses behind a host's [`PODS`].
pub(super) const fn pod_range(host: usize) -> [u8; 3] {
    [10, 244, host as u8]
}

/// A service's translated address.
pub(super) const fn virtual_address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 0, number as u8 + 1)
}

/// IPv4 address of a place; `hosts` are those of the hosts.
pub(super) fn address(place: Place, hosts: &[Ipv4Addr]) -> Ipv4Addr {
    let of = |[a, b, c]: [u8; 3], number| Ipv4Addr::new(a, b, c, number);
    match place {
        Place::Host(host) => hosts.get(host).copied().unwrap_or(Ipv4Addr::UNSPECIFIED),
        Place::Pod(host, number) => of(pod_range(host), number),
        Place::Container(_, number) => of(ENGINE_RANGE, number),
    }
}

/// What a host drops.
pub(super) fn silence() -> String {
    format!(
        "table inet silence {{
           chain in {{
             type filter hook input priority 0
             tcp dport {SILENT} drop
           }}
         }}"
    )
}

/// What a host translates, if it does.
pub(super) fn ruleset(world: &World, host: usize, hosts: &[Ipv4Addr]) -> Option<String> {
    if world.virtuals.is_empty() && world.published.is_empty() && !world.masquerade {
        return None;
    }
    let mut to = String::new();
    for (number, service) in world.virtuals.iter().enumerate() {
        let mut turns = String::new();
        for (turn, (place, port)) in service.backends.iter().enumerate() {
            let _ = write!(turns, "{turn} : {} . {port}, ", address(*place, hosts));
        }
        let _ = writeln!(
            to,
            "ip daddr {} tcp dport {} dnat ip addr . port to numgen inc mod {} map {{ {turns} }}",
            virtual_address(number),
            service.port,
            service.backends.len()
        );
    }
    for published in world.published.iter().filter(|it| it.place.host() == host) {
        let _ = writeln!(
            to,
            "ip daddr {} tcp dport {} dnat to {}:{}",
            address(Place::Host(host), hosts),
            published.port,
            address(published.place, hosts),
            published.to
        );
    }
    let mut from = String::new();
    if world.masquerade {
        let [a, b, c] = ENGINE_RANGE;
        let _ = writeln!(from, "ip saddr {a}.{b}.{c}.0/24 oifname != \"{ENGINE}\" masquerade");
        // A pod keeps its address among those who know it.
        let outside = world.hosts.iter().position(|host| !host.agent);
        if let Some(outside) = outside {
            let [a, b, c] = pod_range(host);
            let outside = address(Place::Host(outside), hosts);
            let _ = writeln!(from, "ip saddr {a}.{b}.{c}.0/24 ip daddr {outside} masquerade");
        }
    }
    Some(format!(
        "table ip translation {{
           chain pre {{
             type nat hook prerouting priority -100
             {to}
           }}
           chain out {{
             type nat hook output priority -100
             {to}
           }}
           chain post {{
             type nat hook postrouting priority 100
             {from}
           }}
         }}"
    ))
}
