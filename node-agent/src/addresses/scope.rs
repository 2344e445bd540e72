//! Where an address means something.

use std::net::{IpAddr, Ipv6Addr};

use topology::model::{Address, Scope};

/// The address that the kernel reports as 16 bytes (IPv4 as IPv4-mapped), seen in the network
/// namespace with this cookie.
///
/// Loopback belongs to its namespace; all else is taken to mean the same everywhere.
#[must_use]
pub fn scoped(raw: [u8; 16], network_namespace: u64) -> Address {
    let ip = IpAddr::V6(Ipv6Addr::from(raw)).to_canonical();
    let scope = if ip.is_loopback() { Scope::Namespace(network_namespace) } else { Scope::Global };
    Address { ip, scope }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Address {
        let raw = match text.parse::<IpAddr>().unwrap() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        scoped(raw, 7)
    }

    #[test]
    fn loopback_belongs_to_its_namespace() {
        for text in ["127.0.0.1", "127.9.9.9", "::1"] {
            assert_eq!(of(text), Address { ip: text.parse().unwrap(), scope: Scope::Namespace(7) });
        }
        for text in ["10.0.0.1", "0.0.0.0", "::", "fd77::1", "::ffff:1:2:3"] {
            assert_eq!(of(text), Address { ip: text.parse().unwrap(), scope: Scope::Global });
        }
    }
}
