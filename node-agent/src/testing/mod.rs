//! Stand-ins for the kernel and for the aggregator.

pub(crate) mod aggregator;
pub(crate) mod engine;
pub(crate) mod folding;
pub(crate) mod ledger;
pub(crate) mod pki;
pub(crate) mod receiver;
pub(crate) mod source;
pub(crate) mod world;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use common::kernel::HalfKey;

/// 16 bytes of an address, as the kernel programs report it.
pub(crate) fn raw(ip: &str) -> [u8; 16] {
    match ip.parse().unwrap() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// A client half of an owner.
pub(crate) fn client_key(owner: u64, peer: &str, port: u16) -> HalfKey {
    HalfKey {
        owner,
        netns_cookie: 1,
        local: raw("10.0.0.1"),
        peer: raw(peer),
        server_port: port,
        client_port: 0,
        role: common::kernel::role::CLIENT,
        reserved: [0; 3],
    }
}

/// Says loudly that a test could not be done here; where everything must be, it fails.
pub(crate) fn skipped(why: &str) {
    use std::io::Write as _;
    assert!(std::env::var_os("CI").is_none(), "SKIPPED: {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Waits until something holds, at most 20 s.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
