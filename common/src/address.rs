//! Addresses as the kernel programs see them: 16 bytes, IPv4 as IPv4-mapped.

/// Where a client's address leads to one of its connections: for loopback the network namespace, by cookie, else
/// what the address comes to. Two IPv4 addresses never come to the same; two of IPv6 may, and are taken for one.
#[inline(always)]
#[must_use]
pub const fn client_scope(address: &[u8; 16], netns_cookie: u64) -> u64 {
    if is_loopback(address) {
        return netns_cookie;
    }
    let bits = u128::from_be_bytes(*address);
    (bits >> 64) as u64 ^ bits as u64
}

/// Whether an address, IPv4 as IPv4-mapped, is one of loopback.
#[inline(always)]
#[must_use]
pub const fn is_loopback(address: &[u8; 16]) -> bool {
    let bits = u128::from_be_bytes(*address);
    bits == 1 || bits >> 24 == 0x00ff_ff7f
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn bytes(text: &str) -> [u8; 16] {
        match text.parse().unwrap() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        }
    }

    #[test]
    fn loopback_is_one_namespaces_and_all_else_is_everybodys() {
        for text in ["127.0.0.1", "127.255.0.9", "::1"] {
            assert!(is_loopback(&bytes(text)), "{text}");
            assert_ne!(client_scope(&bytes(text), 1), client_scope(&bytes(text), 2));
        }
        for text in ["128.0.0.1", "10.127.0.1", "::", "::2", "::7f00:1", "fd77::127:1"] {
            assert!(!is_loopback(&bytes(text)), "{text}");
            assert_eq!(client_scope(&bytes(text), 1), client_scope(&bytes(text), 2));
        }
        let scopes =
            ["10.0.0.1", "10.0.0.2", "fd77::1", "fd78::1"].map(|it| client_scope(&bytes(it), 0));
        assert!(scopes.iter().enumerate().all(|(at, scope)| !scopes[..at].contains(scope)));
    }
}
