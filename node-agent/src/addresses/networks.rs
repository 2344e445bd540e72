//! Networks that are this host's alone: bridges that only containers and virtual machines of the host are on.
//!
//! A bridge with a port that is not the end of something on the host (a card, a tunnel, a VLAN) reaches others. Those that
//! networks of a cluster make by convention are routed from host to host, although nothing of that is seen on the bridge.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
    time::Instant,
};

use nix::{libc, sys::socket::SockProtocol};

use super::scope::Range;
use crate::netlink::{PATIENCE, attributes, dump};

/// Bridges whose addresses other hosts have routes to: flannel's and the reference plugin's, kubenet's, kube-router's,
/// Weave's, Azure's.
const ROUTED: [&str; 5] = ["cni0", "cbr0", "kube-bridge", "weave", "azure0"];

/// Ports that lead to something on the host.
const INNER: [&str; 3] = ["veth", "tun", "dummy"];

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Interface {
    index: i32,
    name: String,
    kind: String,
    /// Index of the bridge that it is a port of.
    bridge: Option<i32>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Assigned {
    interface: i32,
    ip: IpAddr,
    bits: u8,
}

/// Ranges of the bridges of the calling thread's network namespace that are this host's alone.
pub(super) fn local() -> io::Result<Vec<Range>> {
    let (mut interfaces, mut addresses) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    // A message of any family: struct ifinfomsg and ifaddrmsg, all zeros.
    dump(SockProtocol::NetlinkRoute, libc::RTM_GETLINK, &[0; 16], deadline, |contents| {
        interfaces.extend(interface(contents));
    })?;
    let bridges = bridges(&interfaces);
    if bridges.is_empty() {
        return Ok(Vec::new());
    }
    dump(SockProtocol::NetlinkRoute, libc::RTM_GETADDR, &[0; 8], deadline, |contents| {
        addresses.extend(assigned(contents));
    })?;
    Ok(ranges(&bridges, &addresses))
}

/// What a message tells of an interface.
fn interface(contents: &[u8]) -> Option<Interface> {
    let word = |value: &[u8]| value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
    let mut found = Interface { index: word(contents.get(4..)?)?, ..Interface::default() };
    for (kind, value) in attributes(contents.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => found.name = text(value),
            libc::IFLA_MASTER => found.bridge = word(value),
            libc::IFLA_LINKINFO => {
                let kinds = attributes(value).filter(|(kind, _)| *kind == libc::IFLA_INFO_KIND);
                found.kind = kinds.map(|(_, value)| text(value)).last().unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(found)
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

/// What a message tells of an address.
fn assigned(contents: &[u8]) -> Option<Assigned> {
    let (bits, index) = (*contents.get(1)?, contents.get(4..)?.first_chunk()?);
    let mut ip = None;
    for (kind, value) in attributes(contents.get(8..)?) {
        let read = <[u8; 4]>::try_from(value)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from));
        match (kind, read) {
            (libc::IFA_LOCAL, Ok(own)) => ip = Some(own),
            (libc::IFA_ADDRESS, Ok(address)) => ip = ip.or(Some(address)),
            _ => {}
        }
    }
    Some(Assigned { interface: i32::from_ne_bytes(*index), ip: ip?, bits })
}

fn bridges(interfaces: &[Interface]) -> HashSet<i32> {
    let mut outer: HashMap<i32, bool> = HashMap::new();
    for port in interfaces {
        if let Some(bridge) = port.bridge {
            *outer.entry(bridge).or_default() |= !INNER.contains(&port.kind.as_str());
        }
    }
    let is_local = |bridge: &&Interface| {
        bridge.kind == "bridge"
            && bridge.bridge.is_none()
            && outer.get(&bridge.index) != Some(&true)
            && !ROUTED.contains(&bridge.name.as_str())
    };
    interfaces.iter().filter(is_local).map(|bridge| bridge.index).collect()
}

fn ranges(bridges: &HashSet<i32>, addresses: &[Assigned]) -> Vec<Range> {
    let is_network = |ip: &IpAddr, bits: u8| match ip {
        IpAddr::V4(ip) => bits < 32 && (ip.is_private() || ip.octets()[0] == 100),
        IpAddr::V6(ip) => bits < 128 && ip.is_unique_local(),
    };
    let ours = addresses.iter().filter(|address| {
        bridges.contains(&address.interface) && is_network(&address.ip, address.bits)
    });
    ours.map(|address| Range::around(address.ip, address.bits)).collect()
}

/// Whatever is in a message, it is read in bounded time, and a range has what it was made around.
pub(crate) fn fuzzing(contents: &[u8]) {
    let _ = interface(contents);
    if let Some(assigned) = assigned(contents) {
        assert!(Range::around(assigned.ip, assigned.bits).has(assigned.ip), "{assigned:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: i32, name: &str, kind: &str, bridge: Option<i32>) -> Interface {
        Interface { index, name: name.to_owned(), kind: kind.to_owned(), bridge }
    }

    fn range(text: &str, bits: u8) -> Range {
        Range::around(text.parse().unwrap(), bits)
    }

    #[test]
    fn a_bridge_with_only_containers_on_it_is_local() {
        let interfaces = [
            link(1, "lo", "", None),
            link(2, "eth0", "", None),
            link(3, "docker0", "bridge", None),
            link(4, "veth1", "veth", Some(3)),
            link(5, "br-lan", "bridge", None),
            link(6, "eth1", "", Some(5)),
            link(7, "veth2", "veth", Some(5)),
            link(8, "br-empty", "bridge", None),
            link(9, "br-overlay", "bridge", None),
            link(10, "vxlan1", "vxlan", Some(9)),
            link(11, "cni0", "bridge", None),
        ];
        let bridges = bridges(&interfaces);
        assert_eq!(bridges, HashSet::from([3, 8]));
        let address =
            |interface, text: &str, bits| Assigned { interface, ip: text.parse().unwrap(), bits };
        let addresses = [
            address(2, "10.0.0.1", 24),
            address(3, "172.17.0.1", 16),
            address(3, "fe80::1", 64),
            address(3, "fd00:5::1", 64),
            address(5, "192.168.1.1", 24),
            address(8, "8.8.8.1", 24),
            address(8, "10.5.0.1", 32),
        ];
        let expected = [range("172.17.0.0", 16), range("fd00:5::", 64)];
        assert_eq!(ranges(&bridges, &addresses), expected);
    }

    #[test]
    fn the_kernel_lists_interfaces_and_addresses() {
        let (mut names, mut own) = (Vec::new(), Vec::new());
        let deadline = Instant::now() + PATIENCE;
        dump(SockProtocol::NetlinkRoute, libc::RTM_GETLINK, &[0; 16], deadline, |contents| {
            names.extend(interface(contents).map(|interface| interface.name));
        })
        .unwrap();
        dump(SockProtocol::NetlinkRoute, libc::RTM_GETADDR, &[0; 8], deadline, |contents| {
            own.extend(assigned(contents).map(|address| (address.ip, address.bits)));
        })
        .unwrap();
        assert!(names.iter().any(|name| name == "lo"), "{names:?}");
        let loopback = (IpAddr::from([127, 0, 0, 1]), 8);
        assert!(own.contains(&loopback) || own.is_empty(), "{own:?}");
        assert!(local().is_ok());
    }
}
