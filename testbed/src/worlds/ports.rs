//! Ports that clients of one address had one after the other: what Weft does not promise to tell apart.
//!
//! Where several servers share a port or an address, whose a connection was is asked by its client's port. If another client
//! has had that as well before anybody could tell, what was with which of the servers is split; sums are exact all the
//! same (`docs/GUARANTEES.md`). Which port the kernel takes is not for a world to say, so it is looked for afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::plan::{Place, World};
use crate::{
    traffic::{Report, Side},
    truth::{EdgeCount, EdgeName, Truth},
};

/// Clients that had a port one after the other, and the servers that they may have had it with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Again {
    clients: BTreeSet<String>,
    /// With their ports.
    servers: BTreeSet<(String, u16)>,
}

/// Whether it is the server that sees a connection so, the client's and the server's address and port, and the network
/// namespace where that matters.
type Ends = (bool, SocketAddr, SocketAddr, u64);

/// Everybody of whom that is so, by what every process has counted.
pub(super) fn used_again(world: &World, reports: &[(usize, Report)]) -> Vec<Again> {
    let ends = |wanted: Side| {
        let all = reports.iter().flat_map(|(who, report)| {
            report.connections.iter().map(move |end| (*who, report.namespace, end))
        });
        all.filter(move |(.., end)| end.side == wanted)
    };
    let clients: BTreeMap<u64, _> =
        ends(Side::Client).map(|client| (client.2.token, client)).collect();
    // By what the server sees, and by what the client does: an address that is translated may lead elsewhere the next time.
    let mut ports: BTreeMap<Ends, (usize, u16, BTreeSet<&str>)> = BTreeMap::new();
    for (server, namespace, end) in ends(Side::Server) {
        let Some((client, its_namespace, other)) = clients.get(&end.token) else { continue };
        let scope = if end.peer.ip().is_loopback() { namespace } else { 0 };
        let seen = (true, end.peer, end.local, scope);
        let asked = (false, other.local, other.peer, *its_namespace);
        for ends in [seen, asked] {
            let fresh = || (server, end.local.port(), BTreeSet::new());
            let client = world.workloads.get(*client).map(|workload| workload.shown.as_str());
            ports.entry(ends).or_insert_with(fresh).2.extend(client);
        }
    }
    let mut found: Vec<Again> = Vec::new();
    for (server, port, clients) in ports.into_values() {
        let servers = world.neighbours(server, port);
        if clients.len() < 2 || servers.len() < 2 {
            continue;
        }
        let mut again =
            Again { clients: clients.into_iter().map(str::to_owned).collect(), servers };
        // Those that have to do with each other are one.
        let meets = |other: &mut Again, again: &Again| {
            !other.clients.is_disjoint(&again.clients) && !other.servers.is_disjoint(&again.servers)
        };
        while let Some(at) = found.iter_mut().position(|other| meets(other, &again)) {
            let other = found.swap_remove(at);
            again.clients.extend(other.clients);
            again.servers.extend(other.servers);
        }
        found.push(again);
    }
    found
}

/// The same graph, with nothing but the sums of each client and of each server where they may be mixed.
pub(super) fn in_sums(graph: &Truth, all: &[Again]) -> Truth {
    let mut sums = Truth::new();
    for (name, count) in graph {
        let mixed = all.iter().position(|again| again.mixes(name));
        let Some(number) = mixed else {
            add(sums.entry(name.clone()).or_default(), count);
            continue;
        };
        let server = format!("servers, {number}");
        add(sums.entry(EdgeName { server, port: 0, ..name.clone() }).or_default(), count);
        let client = format!("clients, {number}");
        add(sums.entry(EdgeName { client, ..name.clone() }).or_default(), count);
    }
    sums
}

impl Again {
    /// Whether it is not certain what an edge has.
    pub(super) fn mixes(&self, edge: &EdgeName) -> bool {
        self.clients.contains(&edge.client)
            && self.servers.iter().any(|(name, port)| (name, *port) == (&edge.server, edge.port))
    }
}

fn add(sum: &mut EdgeCount, more: &EdgeCount) {
    sum.connections += more.connections;
    sum.connections_open += more.connections_open;
    sum.bytes_to_server += more.bytes_to_server;
    sum.bytes_to_client += more.bytes_to_client;
    sum.resets_by_client += more.resets_by_client;
    sum.resets_by_server += more.resets_by_server;
    for (reason, count) in &more.failed {
        *sum.failed.entry(*reason).or_default() += count;
    }
}

impl World {
    /// A server, and those that a client may have got instead: behind the same port, or the same virtual address.
    fn neighbours(&self, server: usize, port: u16) -> BTreeSet<(String, u16)> {
        let Some(place) = self.workloads.get(server).map(|workload| workload.place) else {
            return BTreeSet::new();
        };
        let mut places: BTreeSet<(Place, u16)> = [(place, port)].into();
        let virtuals = self.virtuals.iter().map(|service| &service.backends);
        for backends in virtuals.filter(|backends| backends.contains(&(place, port))) {
            places.extend(backends);
        }
        let hears = |place: &(Place, u16)| {
            let place = *place;
            let there = move |workload: &&super::plan::Workload| {
                workload.place == place.0 && workload.ears.iter().any(|ear| ear.port == place.1)
            };
            let workloads = self.workloads.iter().filter(there);
            workloads.map(move |workload| (workload.shown.clone(), place.1))
        };
        places.iter().flat_map(hears).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        traffic::{Connection, End},
        worlds::{
            draw::draw,
            plan::{Ear, On, Workload},
        },
    };

    /// Two servers at one port, one at another, and two clients.
    fn world() -> World {
        let mut world = draw(1, &[].into());
        world.virtuals.clear();
        let workload = |shown: &str, port: Option<u16>| Workload {
            program: shown.into(),
            leaf: None,
            shown: shown.into(),
            kind: "process",
            place: Place::Host(0),
            ears: port.map(|port| Ear { on: On::Any, port, shared: true }).into_iter().collect(),
        };
        world.workloads = vec![
            workload("one", Some(80)),
            workload("two", Some(80)),
            workload("alone", Some(81)),
            workload("web", None),
            workload("job", None),
        ];
        world
    }

    /// A connection of a client from a port to a server.
    fn talk(reports: &mut Vec<(usize, Report)>, client: usize, port: u16, server: usize) {
        let token = reports.len() as u64 + 1;
        let (local, peer) = (SocketAddr::from(([10, 0, 0, 1], port)), [10, 0, 0, 1].into());
        let peer = SocketAddr::new(peer, if server == 2 { 81 } else { 80 });
        let end = |side, local, peer| Connection {
            side,
            local,
            peer,
            token,
            sent: 1,
            received: 1,
            end: End::Closed,
            kernel: None,
        };
        let report = |end| Report { connections: vec![end], ..Report::default() };
        reports.push((client, report(end(Side::Client, local, peer))));
        reports.push((server, report(end(Side::Server, peer, local))));
    }

    #[test]
    fn clients_of_one_port_are_mixed_where_servers_share_theirs() {
        let (world, mut reports) = (world(), Vec::new());
        for (client, port, server) in
            [(3, 1, 0), (3, 1, 0), (3, 2, 0), (4, 3, 1), (3, 4, 2), (4, 4, 2)]
        {
            talk(&mut reports, client, port, server);
        }
        assert_eq!(used_again(&world, &reports), [], "of one client, or at one server");
        talk(&mut reports, 4, 2, 0);
        let found = used_again(&world, &reports);
        let names = |names: [&str; 2]| names.map(str::to_owned);
        let expected = Again {
            clients: names(["web", "job"]).into(),
            servers: names(["one", "two"]).map(|name| (name, 80)).into(),
        };
        assert_eq!(found, [expected]);
        talk(&mut reports, 4, 3, 1);
        talk(&mut reports, 3, 3, 1);
        assert_eq!(used_again(&world, &reports), found, "they are one");
    }

    #[test]
    fn a_virtual_address_may_lead_elsewhere_the_next_time() {
        let (mut world, mut reports) = (world(), Vec::new());
        let backends = vec![(Place::Host(0), 80), (Place::Host(0), 81)];
        world.virtuals.push(crate::worlds::plan::Virtual { port: 90, backends });
        talk(&mut reports, 3, 1, 0);
        talk(&mut reports, 4, 1, 2);
        assert_eq!(used_again(&world, &reports), []);
        for (_, report) in &mut reports {
            let clients = report.connections.iter_mut().filter(|end| end.side == Side::Client);
            clients.for_each(|end| end.peer = SocketAddr::from(([10, 96, 0, 1], 90)));
        }
        let servers: Vec<_> =
            used_again(&world, &reports).into_iter().flat_map(|again| again.servers).collect();
        let expected = [("alone", 81), ("one", 80), ("two", 80)];
        assert_eq!(servers, expected.map(|(name, port)| (name.to_owned(), port)));
    }

    #[test]
    fn sums_have_to_be_right_all_the_same() {
        let (world, mut reports) = (world(), Vec::new());
        talk(&mut reports, 3, 1, 0);
        talk(&mut reports, 4, 1, 0);
        let again = used_again(&world, &reports);
        let graph = |edges: &[(&str, &str, u64)]| -> Truth {
            let edge = |(client, server, connections): &(&str, &str, u64)| {
                let (client, server) = ((*client).to_owned(), (*server).to_owned());
                let count = EdgeCount { connections: *connections, ..EdgeCount::default() };
                (EdgeName { client, server, port: 80 }, count)
            };
            edges.iter().map(edge).collect()
        };
        let truth = [("web", "one", 2), ("web", "two", 1), ("job", "one", 1), ("other", "one", 1)];
        let same = [("web", "one", 1), ("web", "two", 2), ("job", "one", 2), ("other", "one", 1)];
        let sums = |edges| in_sums(&graph(edges), &again);
        assert_ne!(sums(&truth), sums(&same), "there is one more at one server");
        let same = [("web", "one", 1), ("web", "two", 2), ("job", "one", 2), ("job", "two", 0)];
        assert_ne!(sums(&truth), sums(&same), "somebody is missing");
        let truth = [("web", "one", 1), ("web", "two", 1), ("job", "one", 1), ("job", "two", 1)];
        let same = [("web", "one", 2), ("web", "two", 0), ("job", "one", 0), ("job", "two", 2)];
        assert_eq!(sums(&truth), sums(&same));
        assert_ne!(in_sums(&graph(&truth), &[]), in_sums(&graph(&same), &[]));
    }
}
