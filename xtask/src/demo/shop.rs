//! The shop: services that call each other all the time, one call that always fails and one
//! that leaves the fleet.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use testbed::{
    lab::Host,
    traffic::{Burst, Command, Dial, Ending, Exchange, Means, Peer},
};

/// Hosts with an agent.
pub const HOSTS: [&str; 3] = ["front", "middle", "back"];
/// A host without one.
pub const UNCOVERED: &str = "elsewhere";

/// A service: the index of its host (that without an agent comes last) and its port.
struct Service {
    name: &'static str,
    host: usize,
    port: u16,
}

/// What a service does again and again.
struct Call {
    from: &'static str,
    to: &'static str,
    pause_ms: u64,
    requests: u32,
    request_bytes: u64,
    response_bytes: u64,
}

const SERVICES: [Service; 8] = [
    Service { name: "visitors", host: 0, port: 0 },
    Service { name: "web", host: 0, port: 8080 },
    Service { name: "catalog", host: 1, port: 7001 },
    Service { name: "cart", host: 1, port: 7002 },
    Service { name: "payments", host: 2, port: 7003 },
    Service { name: "db", host: 2, port: 5432 },
    Service { name: "cache", host: 1, port: 6379 },
    Service { name: "bank", host: 3, port: 443 },
];

/// Nothing listens there: a service that somebody forgot to deploy.
const MISSING: (usize, u16) = (1, 7004);

const CALLS: [Call; 9] = [
    call("visitors", "web", 40, (1, 420, 18_000)),
    call("web", "catalog", 70, (2, 260, 6_500)),
    call("web", "cart", 110, (1, 340, 1_200)),
    call("catalog", "cache", 25, (3, 60, 2_400)),
    call("catalog", "db", 130, (4, 180, 9_000)),
    call("cart", "db", 90, (2, 240, 700)),
    call("cart", "payments", 400, (1, 900, 450)),
    call("payments", "db", 350, (2, 310, 380)),
    call("payments", "bank", 500, (1, 1_400, 2_100)),
];

const fn call(
    from: &'static str,
    to: &'static str,
    pause_ms: u64,
    (requests, request_bytes, response_bytes): (u32, u64, u64),
) -> Call {
    Call { from, to, pause_ms, requests, request_bytes, response_bytes }
}

/// Starts every service. They run until the peers are dropped.
///
/// # Errors
/// When one does not start.
pub fn open(hosts: &[Host]) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for service in &SERVICES {
        let host = hosts.get(service.host).context("a service is on no host")?;
        let mut peer = host.peer(service.name)?;
        if service.port != 0 {
            peer.listen(IpAddr::from([0, 0, 0, 0]), service.port)?;
        }
        peers.push(peer);
    }
    for call in &CALLS {
        let place = |name| SERVICES.iter().position(|service| service.name == name);
        let (from, to) = place(call.from).zip(place(call.to)).context("a call of nobody")?;
        let to = &SERVICES[to];
        repeat(&mut peers[from], SocketAddr::new(hosts[to.host].ipv4(), to.port), call)?;
    }
    let web = SERVICES.iter().position(|service| service.name == "web").unwrap_or_default();
    let missing = SocketAddr::new(hosts[MISSING.0].ipv4(), MISSING.1);
    repeat(&mut peers[web], missing, &call("web", "", 700, (1, 100, 100)))?;
    Ok(peers)
}

fn repeat(peer: &mut Peer, target: SocketAddr, call: &Call) -> Result<()> {
    let burst = Burst {
        target,
        connections: 1,
        threads: 1,
        exchange: Exchange {
            requests: call.requests,
            request_bytes: call.request_bytes,
            response_bytes: call.response_bytes,
            means: Means::Write,
        },
        ending: Ending::ClientCloses,
        dial: Dial::default(),
    };
    peer.ask(&Command::Loop { burst, pause_ms: call.pause_ms })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_between_services_that_exist() {
        for call in &CALLS {
            let service = |name| SERVICES.iter().find(|service| service.name == name).unwrap();
            assert_ne!(service(call.to).port, 0);
            assert_ne!(service(call.from).name, service(call.to).name);
        }
        assert!(SERVICES.iter().all(|service| service.host <= HOSTS.len()));
    }
}
