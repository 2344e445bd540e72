//! Which peers that no agent covers each service has edges with, to know when there are too many to tell apart.

use std::collections::HashMap;

use crate::{
    model::WorkloadKind,
    who::services::{EXTERNAL, Service, ServiceIx},
};

/// The external peers of every service. Follows from the edges that there are.
#[derive(Debug, Default)]
pub(crate) struct Externals {
    /// How many edges a service has with a peer, in either direction.
    edges: HashMap<(ServiceIx, ServiceIx), u32>,
    /// How many peers a service has.
    peers: HashMap<ServiceIx, usize>,
}

/// The service and its peer, if the edge is one with an external peer of its own.
fn pair(
    key: (ServiceIx, ServiceIx),
    client: &Service,
    server: &Service,
) -> Option<(ServiceIx, ServiceIx)> {
    let is_peer = |end: &Service| {
        end.kind == WorkloadKind::External && end.rank() != (WorkloadKind::External, "", EXTERNAL)
    };
    match (is_peer(client), is_peer(server)) {
        (_, true) => Some(key),
        (true, false) => Some((key.1, key.0)),
        (false, false) => None,
    }
}

impl Externals {
    /// Whether a service has an edge with a peer.
    pub(crate) fn are_peers(&self, service: ServiceIx, peer: ServiceIx) -> bool {
        self.edges.contains_key(&(service, peer))
    }

    /// How many peers a service has.
    pub(crate) fn of(&self, service: ServiceIx) -> usize {
        self.peers.get(&service).copied().unwrap_or(0)
    }

    /// There is another edge.
    pub(crate) fn add(&mut self, key: (ServiceIx, ServiceIx), client: &Service, server: &Service) {
        let Some(pair) = pair(key, client, server) else { return };
        let edges = self.edges.entry(pair).or_default();
        if *edges == 0 {
            *self.peers.entry(pair.0).or_default() += 1;
        }
        *edges += 1;
    }

    /// An edge is gone.
    pub(crate) fn remove(&mut self, (client, server): (ServiceIx, ServiceIx)) {
        for pair in [(client, server), (server, client)] {
            let Some(edges) = self.edges.get_mut(&pair) else { continue };
            *edges = edges.saturating_sub(1);
            if *edges > 0 {
                return;
            }
            self.edges.remove(&pair);
            if let Some(peers) = self.peers.get_mut(&pair.0) {
                *peers = peers.saturating_sub(1);
                if *peers == 0 {
                    self.peers.remove(&pair.0);
                }
            }
            return;
        }
    }
}
