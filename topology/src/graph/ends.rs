//! Who is at the ends of an edge: by the halves of its sides, else by address.

use std::net::IpAddr;

use super::{Graph, cluster::Asking};
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
        let end = |role, service: Option<ServiceIx>, place| {
            let same = |known: &&Known| known.role == role && Some(known.service) == service;
            let by_place = || End { node: self.evidence.host_of(place), workload: None };
            known.iter().find(same).map_or_else(by_place, |known| known.end)
        };
        let (client, server) = sides.ends(pairing);
        let service = |party: &Party| party.service;
        // Where a side has no half, the other knows where to look for it.
        let nobody = Place::Other;
        (
            end(Role::Client, client.map(service), server.map_or(nobody, |end| end.away.client)),
            end(Role::Server, server.map(service), client.map_or(nobody, |end| end.away.server)),
        )
    }

    /// The edge of a pairing of a link, and who has told of it; a side without a half is found by its address.
    pub(crate) fn edge_of(
        &mut self,
        asking: &Asking<'_>,
        sides: &Sides,
        pairing: &Pairing,
    ) -> (EdgeKey, Seen) {
        let folded = asking.folded;
        let (client, server) = sides.ends(pairing);
        let seen = |by| Seen { client: client.is_some(), server: server.is_some(), by };
        if folded > 0 {
            let other = self.services.other();
            let service = |party: &Party| party.service;
            let key = match (client.map(service), server.map(service)) {
                (Some(client), None) if folded < BOTH_FOLDED => (client, other, 0),
                (_, Some(server)) if folded < BOTH_FOLDED => (other, server, 0),
                _ => (other, other, 0),
            };
            return (key, seen(Basis::Folded));
        }
        match (client, server) {
            (Some(client), Some(server)) => {
                ((client.service, server.service, server.port), seen(Basis::BothHalves))
            }
            (Some(client), None) => {
                let LinkKey { server, server_port: port, .. } = client.away;
                let (server, by) = self.service_at(server, Some(port), client.service, asking);
                ((client.service, server, port), seen(client.found_by(by)))
            }
            (None, Some(server)) => {
                let (client, by) =
                    self.service_at(server.away.client, None, server.service, asking);
                ((client, server.service, server.port), seen(server.found_by(by)))
            }
            (None, None) => {
                let other = self.services.other();
                ((other, other, 0), seen(Basis::Folded))
            }
        }
    }

    /// Who is at a place, as a peer of a service.
    fn service_at(
        &mut self,
        place: Place,
        server_port: Option<u16>,
        of: ServiceIx,
        asking: &Asking<'_>,
    ) -> (ServiceIx, Basis) {
        let (answer, basis) = self.evidence.who(place, server_port);
        if basis > Basis::Kubernetes
            && let Some(service) = self.in_cluster(place, server_port, asking.span)
        {
            return (service, Basis::Kubernetes);
        }
        let rows = asking.rows;
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

impl Sides {
    /// Who a pairing is between.
    fn ends(&self, pairing: &Pairing) -> (Option<&Party>, Option<&Party>) {
        let client = pairing.client.and_then(|at| self.clients.get(at));
        (client, pairing.server.and_then(|at| self.servers.get(at)))
    }
}

impl Party {
    /// By what the other side is found: by a translation, where it was looked for beyond one.
    fn found_by(&self, by: Basis) -> Basis {
        if self.away == self.own { by } else { Basis::Nat }
    }
}
