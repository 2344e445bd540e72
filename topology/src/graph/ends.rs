//! Who is at the ends of an edge: by the halves of its sides, else by address.

use std::net::IpAddr;

use super::Graph;
use crate::{
    count::{
        edges::{EdgeKey, Seen},
        link::{Link, LinkKey, Row},
        pairing::{Pairing, Party, Sides},
        parts::{End, Ends},
    },
    model::Role,
    who::{basis::Basis, evidence::Answer, place::Place, services::ServiceIx},
};

/// Both ends of a link's edges are `other`.
pub(super) const BOTH_FOLDED: u8 = 2;

/// What is known of a side of a link: of the halves of a service that are live, else of those that were.
pub(crate) struct Known {
    role: Role,
    service: ServiceIx,
    live: bool,
    end: End,
}

impl Graph {
    /// What is known of the ends of a link.
    pub(crate) fn known_ends(&self, link: &Link) -> Vec<Known> {
        let mut known: Vec<Known> = Vec::new();
        for half in link.halves.iter().filter_map(|ix| self.halves.get(*ix)) {
            let (role, service, live) = (half.role(), half.service, half.ended.is_none());
            let end = End { node: Some(half.node()), workload: Some(half.id.2.workload) };
            match known.iter_mut().find(|known| (known.role, known.service) == (role, service)) {
                None => known.push(Known { role, service, live, end }),
                Some(known) if known.live == live => known.end = known.end.or(end),
                Some(known) if live => (known.live, known.end) = (live, end),
                Some(_) => {}
            }
        }
        known
    }

    /// Between whom a pairing is, as finely as it is known.
    pub(crate) fn ends_of(&self, known: &[Known], sides: &Sides, pairing: &Pairing) -> Ends {
        let of = |role, party: &Party| {
            let same = |known: &&Known| (known.role, known.service) == (role, party.service);
            known.iter().find(same).map(|known| known.end)
        };
        let at = |place| End { node: self.evidence.host_of(place), workload: None };
        let (client, server) = sides.parties(pairing);
        let away = |party: Option<&Party>| party.map(|party| party.away);
        (
            client
                .and_then(|client| of(Role::Client, client))
                .or_else(|| away(server).map(|away| at(away.client)))
                .unwrap_or_default(),
            server
                .and_then(|server| of(Role::Server, server))
                .or_else(|| away(client).map(|away| at(away.server)))
                .unwrap_or_default(),
        )
    }

    /// The edge of a pairing of a link that has these rows, and who has told of it; a side without a half is found by
    /// its address.
    pub(crate) fn edge_of(
        &mut self,
        (folded, rows): (u8, &[Row]),
        sides: &Sides,
        pairing: &Pairing,
    ) -> (EdgeKey, Seen) {
        let (client, server) = sides.parties(pairing);
        let seen = |by| Seen { client: client.is_some(), server: server.is_some(), by };
        let other = self.services.other();
        let (key, by) = match (client, server) {
            (Some(client), None) if folded == 1 => ((client.service, other, 0), Basis::Folded),
            (_, Some(server)) if folded == 1 => ((other, server.service, 0), Basis::Folded),
            // No pairing is without both.
            (None, None) => ((other, other, 0), Basis::Folded),
            _ if folded >= BOTH_FOLDED => ((other, other, 0), Basis::Folded),
            (Some(client), Some(server)) => {
                ((client.service, server.service, server.port), Basis::BothHalves)
            }
            (Some(client), None) => {
                let LinkKey { server, server_port, .. } = client.away;
                let (server, by) = self.peer_at(server, Some(server_port), client, rows);
                ((client.service, server, server_port), by)
            }
            (None, Some(server)) => {
                let (client, by) = self.peer_at(server.away.client, None, server, rows);
                ((client, server.service, server.port), by)
            }
        };
        (key, seen(by))
    }

    /// The peer of a party, of which no half is known.
    fn peer_at(
        &mut self,
        place: Place,
        server_port: Option<u16>,
        of: &Party,
        rows: &[Row],
    ) -> (ServiceIx, Basis) {
        let (service, basis) = self.service_at(place, server_port, of.service, rows);
        match basis {
            Basis::Cidr | Basis::Address | Basis::Folded => (service, basis),
            _ if of.away != of.own => (service, Basis::Nat),
            _ => (service, basis),
        }
    }

    /// Who is at a place, as a peer of a service.
    fn service_at(
        &mut self,
        place: Place,
        server_port: Option<u16>,
        of: ServiceIx,
        rows: &[Row],
    ) -> (ServiceIx, Basis) {
        let (answer, basis) = self.evidence.who(place, server_port);
        let service = match answer {
            Answer::Service(service) => service,
            Answer::Host(node) => match self.nodes.get(node) {
                Some(node) => node.host,
                None => return self.external(place.ip(), of, rows),
            },
            Answer::External(ip) => return self.external(ip, of, rows),
            Answer::Other => self.services.other(),
        };
        (service, basis)
    }

    /// A peer that no agent covers. Beyond as many as [`crate::Config::max_external_peers`] of one service, those without a
    /// name are one; where a link has counted for that once, it goes on.
    fn external(&mut self, ip: IpAddr, of: ServiceIx, rows: &[Row]) -> (ServiceIx, Basis) {
        if self.services.rules().network(ip).is_some() {
            return (self.services.external(ip), Basis::Cidr);
        }
        let is_folded = |row: &Row| {
            self.edges.get(row.edge).is_some_and(|edge| {
                let (client, server, _) = edge.key;
                let rest = |end| self.services.is_external_rest(end);
                (client == of && rest(server)) || (server == of && rest(client))
            })
        };
        let is_known = |peer| self.edges.externals.are_peers(of, peer);
        let has_room = || {
            self.edges.externals.of(of) < self.config.max_external_peers
                || self.services.known_external(ip).is_some_and(is_known)
        };
        let service = if rows.iter().any(is_folded) || !has_room() {
            self.services.external_rest()
        } else {
            self.services.external(ip)
        };
        (service, Basis::Address)
    }
}
