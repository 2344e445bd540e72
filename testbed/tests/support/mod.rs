//! What several test targets use.
#![allow(dead_code, reason = "each target uses a part")]

use std::net::SocketAddr;

use testbed::{
    lab::Lab,
    traffic::{Burst, Dial, Ending, Exchange, Means, Open},
};

/// A lab, or `None` where none can be made: said loudly, and a failure in CI.
pub fn lab() -> Option<Lab> {
    match Lab::check() {
        Ok(()) => Some(Lab::new().unwrap()),
        Err(reason) => {
            skip(&reason.to_string());
            None
        }
    }
}

/// Says that a test was skipped; in CI nothing may be.
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "skipped in CI: {reason}");
    eprintln!("SKIPPED: {reason}");
}

pub fn exchange(requests: u32, request_bytes: u64, response_bytes: u64) -> Exchange {
    Exchange { requests, request_bytes, response_bytes, means: Means::Write }
}

/// Connections one after the other, each with one exchange, closed by the client.
pub fn burst(target: SocketAddr, connections: u32, exchange: Exchange) -> Burst {
    Burst {
        target,
        connections,
        threads: 1,
        exchange,
        ending: Ending::ClientCloses,
        dial: Dial::default(),
    }
}

pub fn open(group: &str, target: SocketAddr, connections: u32) -> Open {
    Open { group: group.into(), target, connections, dial: Dial::default() }
}
