//! Why an edge is there: which evidence made it, which hosts saw it, and where its two sides disagree.

use super::view::SeenBy;
use crate::{
    Graph,
    base::{
        id::Id,
        time::Timestamp,
        totals::{EdgeTotals, Measure},
    },
    count::{
        agreement::Lead,
        edges::{EdgeKey, PROTOCOL, Seen},
        link::{Link, LinkIx},
        pairing::Party,
        witness::{self, Witness},
    },
    model::Role,
    nodes::NodeIx,
    who::{basis::Basis, place::Place},
};

/// Hosts in one explanation.
const MOST_HOSTS: usize = 100;

/// Meeting points in one explanation.
const MOST_LINKS: usize = 50;

/// What is in memory of an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Hosts that saw it, the client's side first, by name.
    pub hosts: Vec<SeenOn>,
    /// How many more there are.
    pub hosts_left_out: usize,
    /// Where its halves meet: those first at which its sides disagree, then the busiest.
    pub links: Vec<Meeting>,
    /// How many more there are.
    pub links_left_out: usize,
}

/// A host that saw a side of an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenOn {
    /// Its name.
    pub host: String,
    /// Which side.
    pub role: Role,
    /// When it first told of it, as far as that is in memory.
    pub first: Timestamp,
    /// When it last told of something new.
    pub last: Timestamp,
    /// It is connected, and the sockets are not gone yet.
    pub watching: bool,
}

/// Two addresses and a port at which halves of an edge meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// The client's address; `None` when it is not known.
    pub client: Option<Spot>,
    /// The server's.
    pub server: Option<Spot>,
    /// The port the server listens on.
    pub server_port: u16,
    /// Who tells of it now, and by what its ends are known now; `None` when what is counted there now is another edge's.
    pub told: Option<(SeenBy, Basis)>,
    /// It has waited long enough for its other half.
    pub settled: bool,
    /// Several services are at one of its ends: what is compared are sums over all of them.
    pub shared: bool,
    /// Both sides have counted, and some of it is this edge's.
    pub both: bool,
    /// What both sides counted, where they disagree; nothing when `told` is `None`.
    pub differences: Vec<Difference>,
}

/// An address, and on which host if it means something there only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The address.
    pub address: String,
    /// The host.
    pub within: Option<String>,
}

/// A number that both sides counted, each its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub measure: Measure,
    /// What the client's side counted.
    pub client: u64,
    /// What the server's side counted.
    pub server: u64,
}

impl Graph {
    /// Why an edge is there, as far as that is in memory; `None` when nothing is. It moves no time: nobody would do that
    /// again from the journal.
    pub fn explain(&mut self, id: Id, now: Timestamp) -> Option<Explanation> {
        let now = self.clock.max(now);
        let edge = self.edges.iter().find(|(_, edge)| edge.id == id);
        let published = edge.map(|(ix, edge)| (ix, edge.key));
        let mut witnesses = edge.map(|(_, edge)| edge.witnesses.clone()).unwrap_or_default();
        let mut watching: Vec<(NodeIx, Role)> = Vec::new();
        let mut meetings = Vec::new();
        let feeds = |link: &Link| match published {
            Some((ix, _)) => link.rows.iter().any(|row| row.edge == ix) || !link.settled,
            None => !link.settled,
        };
        let links: Vec<LinkIx> =
            self.links.pairs().filter(|(_, link)| feeds(link)).map(|(ix, _)| ix).collect();
        for ix in links {
            // Out of its place while it is looked at, as in a tick.
            let Some(link) = self.links.take(ix) else { continue };
            if let Some((key, meeting, bytes)) = self.meeting(&link, id, published, now) {
                self.add_witnesses(&link, key, &mut witnesses, &mut watching);
                meetings.push((meeting.differences.is_empty(), u64::MAX - bytes, meeting));
            }
            self.links.put_back(ix, link);
        }
        if published.is_none() && meetings.is_empty() {
            return None;
        }
        meetings.sort_by_key(|(agrees, rest, _)| (*agrees, *rest));
        let links_left_out = meetings.len().saturating_sub(MOST_LINKS);
        let mut hosts: Vec<_> = witnesses
            .into_iter()
            .filter_map(|Witness { node, role, first, last }| {
                let host = self.nodes.get(node)?.name().to_owned();
                let watching = watching.contains(&(node, role));
                Some(SeenOn { host, role, first, last, watching })
            })
            .collect();
        hosts.sort_by(|a, b| (a.role, &a.host).cmp(&(b.role, &b.host)));
        let hosts_left_out = hosts.len().saturating_sub(MOST_HOSTS);
        hosts.truncate(MOST_HOSTS);
        let links = meetings.into_iter().take(MOST_LINKS).map(|(.., meeting)| meeting).collect();
        Some(Explanation { hosts, hosts_left_out, links, links_left_out })
    }

    /// What a link has to do with an edge, if anything: the edge's ends, and how many bytes it brought.
    fn meeting(
        &mut self,
        link: &Link,
        id: Id,
        published: Option<(crate::count::edges::EdgeIx, EdgeKey)>,
        now: Timestamp,
    ) -> Option<(EdgeKey, Meeting, u64)> {
        let mut sides = self.sides(link, now);
        let both = !sides.clients.is_empty() && !sides.servers.is_empty();
        // Before the pairings take them.
        let mut differences =
            if both { differences(&sides.clients, &sides.servers) } else { Vec::new() };
        let shared = sides.are_shared();
        sides.divide();
        let row = published.and_then(|(ix, key)| {
            Some((key, link.rows.iter().find(|row| row.edge == ix)?.published.bytes()))
        });
        let mut told: Option<(EdgeKey, Seen, u64)> = None;
        for pairing in sides.pair(&Lead::UNLIMITED).pairings {
            let (key, seen) = self.edge_of((link.folded, &link.rows), &sides, &pairing);
            if self.id_of(key) == Some(id) {
                let (_, known, bytes) = told.get_or_insert((key, seen, 0));
                known.merge(seen);
                *bytes = bytes.saturating_add(pairing.totals.bytes());
            }
        }
        let (key, bytes) = row.or(told.map(|(key, _, bytes)| (key, bytes)))?;
        if told.is_none() {
            // They are of what another edge counts.
            differences.clear();
        }
        let meeting = Meeting {
            client: self.spot(link.key.client),
            server: self.spot(link.key.server),
            server_port: link.key.server_port,
            told: told.map(|(_, seen, _)| (SeenBy::of(seen), seen.by)),
            settled: link.settled,
            shared,
            both: both && told.is_some(),
            differences,
        };
        Some((key, meeting, bytes))
    }

    fn id_of(&self, (client, server, server_port): EdgeKey) -> Option<Id> {
        let (client, server) = (self.services.get(client)?, self.services.get(server)?);
        Some(Id::of_edge(client.id, server.id, server_port, PROTOCOL))
    }

    fn spot(&self, place: Place) -> Option<Spot> {
        let name = |node| self.nodes.get(node).map(|node| node.name().to_owned());
        let within = match place {
            Place::Global(_) => None,
            Place::Namespace { node, .. } | Place::Network { node, .. } => name(node),
            Place::Unchosen { .. } | Place::Other => return None,
        };
        Some(Spot { address: place.ip().to_string(), within })
    }

    fn add_witnesses(
        &self,
        link: &Link,
        (client, server, _): EdgeKey,
        witnesses: &mut Vec<Witness>,
        watching: &mut Vec<(NodeIx, Role)>,
    ) {
        for half in link.halves.iter().filter_map(|ix| self.halves.get(*ix)) {
            let end = match half.role() {
                Role::Client => client,
                Role::Server => server,
            };
            if half.service != end {
                continue;
            }
            witness::add(witnesses, Witness::of(half));
            let is_connected = self.nodes.get(half.node()).is_some_and(crate::Node::connected);
            if half.ended.is_none() && is_connected {
                watching.push((half.node(), half.role()));
            }
        }
    }
}

/// What all parties of both sides counted, where that is not the same.
fn differences(clients: &[Party], servers: &[Party]) -> Vec<Difference> {
    let sum = |parties: &[Party], measure| {
        let values = parties.iter().map(|party: &Party| EdgeTotals::get(&party.totals, measure));
        values.fold(0_u64, u64::saturating_add)
    };
    let differs = |measure| {
        let (client, server) = (sum(clients, measure), sum(servers, measure));
        (client != server).then_some(Difference { measure, client, server })
    };
    Measure::SHARED.into_iter().filter_map(differs).collect()
}
