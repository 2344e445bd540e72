//! Where an address means something.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use topology::model::{Address, Scope};

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Range {
    first: IpAddr,
    /// Bits that all of its addresses have in common.
    bits: u8,
}

/// An address as a number whose upper bits are those of the address.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
        IpAddr::V6(ip) => u128::from(ip),
    }
}

impl Range {
    /// The range that an address with so many network bits is in.
    pub(crate) fn around(ip: IpAddr, bits: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
        let first = number(ip) & mask;
        let first = match ip {
            IpAddr::V4(_) => IpAddr::from(((first >> 96) as u32).to_be_bytes()),
            IpAddr::V6(_) => IpAddr::from(first.to_be_bytes()),
        };
        Self { first, bits }
    }

    pub(super) fn has(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && Range::around(ip, self.bits).first == self.first
    }

    /// The node's number of the network with this range: the same whenever and in whatever order it is made.
    fn network(&self) -> u64 {
        let prime = 0x0100_0000_01b3_u64;
        let bytes = number(self.first).to_be_bytes();
        let family = u8::from(self.first.is_ipv4());
        let all = bytes.into_iter().chain([self.bits, family]);
        all.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(prime))
    }
}

/// What an address means, as of one moment; a clone is the same moment's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Arc<Facts>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    host: u64,
    /// Networks of this host alone, the smallest first.
    local: Vec<Range>,
}

impl Scopes {
    pub(super) fn new(host: Option<u64>, mut local: Vec<Range>) -> Self {
        local.sort_unstable_by_key(|range| (std::cmp::Reverse(range.bits), *range));
        local.dedup();
        Self(Arc::new(Facts { host: host.unwrap_or(0), local }))
    }

    /// Those of a host without networks of its own.
    #[cfg(test)]
    pub(crate) fn on_host(host: u64) -> Self {
        Self::new(Some(host), Vec::new())
    }

    /// Cookie of the host's own network namespace; 0 when that is not known.
    #[must_use]
    pub fn host(&self) -> u64 {
        self.0.host
    }

    /// An address seen in the network namespace with this cookie.
    ///
    /// Loopback belongs to its namespace, and what is in the range of one of the host's own bridges to that; all else is
    /// taken to mean the same everywhere.
    #[must_use]
    pub fn of(&self, ip: IpAddr, network_namespace: u64) -> Address {
        let ip = ip.to_canonical();
        let local = || self.0.local.iter().find(|range| range.has(ip));
        let scope = if ip.is_loopback() {
            Scope::Namespace(network_namespace)
        } else {
            local().map_or(Scope::Global, |range| Scope::Network(range.network()))
        };
        Address { ip, scope }
    }

    /// The same of one that the kernel reports as 16 bytes (IPv4 as IPv4-mapped).
    #[must_use]
    pub fn of_raw(&self, raw: [u8; 16], network_namespace: u64) -> Address {
        self.of(canonical(raw), network_namespace)
    }
}

/// The address that the kernel reports as 16 bytes (IPv4 as IPv4-mapped).
#[must_use]
pub fn canonical(raw: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(raw)).to_canonical()
}

/// An address on a host without networks of its own.
#[cfg(test)]
pub(crate) fn scoped(raw: [u8; 16], network_namespace: u64) -> Address {
    Scopes::default().of_raw(raw, network_namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scopes: &Scopes, text: &str) -> Scope {
        let raw = match text.parse::<IpAddr>().unwrap() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        scopes.of_raw(raw, 7).scope
    }

    #[test]
    fn loopback_belongs_to_its_namespace() {
        for text in ["127.0.0.1", "127.9.9.9", "::1"] {
            assert_eq!(of(&Scopes::default(), text), Scope::Namespace(7));
        }
        for text in ["10.0.0.1", "0.0.0.0", "::", "fd77::1", "::ffff:1:2:3"] {
            assert_eq!(of(&Scopes::default(), text), Scope::Global);
        }
    }

    #[test]
    fn the_range_of_a_bridge_belongs_to_the_host() {
        let range = |text: &str, bits| Range::around(text.parse().unwrap(), bits);
        let local = vec![range("172.17.0.1", 16), range("172.17.5.1", 24), range("fd00:1::1", 64)];
        let scopes = Scopes::new(Some(3), local);
        assert_eq!(of(&scopes, "172.17.0.2"), of(&scopes, "172.17.255.255"));
        assert!(matches!(of(&scopes, "172.17.0.2"), Scope::Network(_)));
        assert_ne!(of(&scopes, "172.17.0.2"), of(&scopes, "172.17.5.2"), "the smaller range");
        assert!(matches!(of(&scopes, "fd00:1::9"), Scope::Network(_)));
        for text in ["172.18.0.2", "172.16.255.255", "fd00:2::9", "::"] {
            assert_eq!(of(&scopes, text), Scope::Global, "{text}");
        }
        assert_eq!(of(&scopes, "127.0.0.1"), Scope::Namespace(7));
    }
}
