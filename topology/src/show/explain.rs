//! Why an edge is there: which evidence made it, which hosts saw it, and where its two sides disagree.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

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
        edges::{EdgeIx, EdgeKey, PROTOCOL, Seen},
        link::{Link, LinkIx, LinkKey},
        pairing::Party,
        witness::Witness,
    },
    model::Role,
    nodes::NodeIx,
    who::{basis::Basis, place::Place},
};

/// Hosts of one side in one explanation.
const MOST_HOSTS: usize = 50;

/// Meeting points in one explanation.
const MOST_LINKS: usize = 50;

/// Links that are looked at for one explanation.
const MOST_LOOKED_AT: usize = 10_000;

/// Further addresses of one meeting point.
const MOST_ADDRESSES: usize = 8;

/// What is in memory of an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Hosts that saw it, the client's side first, by name.
    pub hosts: Vec<SeenOn>,
    /// How many more there are, on the client's side and on the server's.
    pub hosts_left_out: [usize; 2],
    /// Where its halves meet: those first at which its sides disagree, then the busiest.
    pub links: Vec<Meeting>,
    /// How many more there are, at most: of very many, not all are looked at.
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
    /// Where addresses are translated: others that its ends are known by, with the port of the server's; some of them, if
    /// there are many.
    pub also: Vec<(Role, Spot, Option<u16>)>,
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

/// Where one side is, and its port, if it is the server's.
type At = (Role, Place, u16);

/// What is known of a meeting point before it is put in words.
struct Point {
    client: At,
    server: At,
    told: Option<(SeenBy, Basis)>,
    settled: bool,
    shared: bool,
    both: bool,
    differences: Vec<Difference>,
    also: Vec<At>,
}

/// By this the first meeting points are chosen: whether its sides agree, bytes, and no matter what.
type Order = (bool, Reverse<u64>, LinkIx);

/// What the links of an edge tell, while they are looked at.
#[derive(Default)]
struct Gathered {
    /// When each host first and last saw it.
    witnesses: HashMap<(NodeIx, Role), (Timestamp, Timestamp)>,
    watching: HashSet<(NodeIx, Role)>,
    points: BTreeMap<Order, Point>,
    left_out: usize,
}

impl Gathered {
    fn witness(&mut self, Witness { node, role, first, last }: Witness) {
        let known = self.witnesses.entry((node, role)).or_insert((first, last));
        *known = (known.0.min(first), known.1.max(last));
    }

    fn point(&mut self, order: Order, point: Point) {
        self.points.insert(order, point);
        if self.points.len() > MOST_LINKS {
            self.points.pop_last();
            self.left_out += 1;
        }
    }
}

impl Graph {
    /// Why an edge is there, as far as that is in memory; `None` when nothing is. It moves no time: nobody would do that
    /// again from the journal.
    pub fn explain(&mut self, id: Id, now: Timestamp) -> Option<Explanation> {
        let now = self.clock.max(now);
        let mut gathered = Gathered::default();
        let published = self.edges.iter().find(|(_, edge)| edge.id == id).map(|(ix, edge)| {
            edge.witnesses.iter().for_each(|witness| gathered.witness(*witness));
            (ix, edge.key)
        });
        let edge = published.map(|(ix, _)| ix);
        // Of one that was never published it is known as soon as a link is found that leads to it.
        let mut known = published.map(|(_, key)| key);
        let concerned = self.links.pairs().filter(|(_, link)| self.concerns(link, edge, known));
        let links: Vec<LinkIx> = concerned.map(|(ix, _)| ix).collect();
        let mut left = MOST_LOOKED_AT;
        for ix in links {
            if !self.links.get(ix).is_some_and(|link| self.concerns(link, edge, known)) {
                continue;
            }
            if left == 0 {
                gathered.left_out += 1;
                continue;
            }
            left -= 1;
            // Out of its place while it is looked at, as in a tick.
            let Some(link) = self.links.take(ix) else { continue };
            if let Some((key, point, bytes)) = self.point(&link, id, published, now) {
                known = Some(key);
                self.add_witnesses(&link, key, &mut gathered);
                gathered.point((point.differences.is_empty(), Reverse(bytes), ix), point);
            }
            self.links.put_back(ix, link);
        }
        let Gathered { points, left_out: links_left_out, .. } = &mut gathered;
        let (points, links_left_out) = (std::mem::take(points), *links_left_out);
        if published.is_none() && points.is_empty() && links_left_out == 0 {
            return None;
        }
        let links = points.into_values().map(|point| self.meeting(point)).collect();
        let (hosts, hosts_left_out) = self.seen_on(&gathered);
        Some(Explanation { hosts, hosts_left_out, links, links_left_out })
    }

    /// Whether a link may have to do with an edge: it feeds it, or is not settled and somebody there is at an end of it.
    fn concerns(&self, link: &Link, edge: Option<EdgeIx>, known: Option<EdgeKey>) -> bool {
        let feeds = |edge| link.rows.iter().any(|row| row.edge == edge);
        if edge.is_some_and(feeds) {
            return true;
        }
        let Some((client, server, _)) = known else { return !link.settled };
        let is_end = |role, service| match role {
            Role::Client => service == client,
            Role::Server => service == server,
        };
        let halves = || link.halves.iter().filter_map(|ix| self.halves.get(*ix));
        !link.settled
            && (link.folded > 0
                || halves().any(|half| is_end(half.role(), half.service))
                || link.rests.iter().any(|rest| is_end(rest.role, rest.service)))
    }

    /// What a link has to do with an edge, if anything: the edge's ends, and how many bytes it brought.
    fn point(
        &mut self,
        link: &Link,
        id: Id,
        published: Option<(EdgeIx, EdgeKey)>,
        now: Timestamp,
    ) -> Option<(EdgeKey, Point, u64)> {
        let mut sides = self.sides(link, now);
        let both = !sides.clients.is_empty() && !sides.servers.is_empty();
        // Before the pairings take them.
        let mut differences =
            if both { differences(&sides.clients, &sides.servers) } else { Vec::new() };
        let shared = sides.are_shared();
        sides.divide();
        let row = published.and_then(|(ix, key)| {
            let row = link.rows.iter().find(|row| row.edge == ix)?;
            Some((key, self.edges.published(row).bytes()))
        });
        let mut told: Option<(EdgeKey, Seen, u64)> = None;
        let (mut clients, mut servers) = (BTreeSet::new(), BTreeSet::new());
        let asking = self.asking(link);
        for pairing in sides.pair(&Lead::UNLIMITED).pairings {
            let (key, seen) = self.edge_of(&asking, &sides, &pairing);
            if self.id_of(key) == Some(id) {
                let (_, known, bytes) = told.get_or_insert((key, seen, 0));
                known.merge(seen);
                *bytes = bytes.saturating_add(pairing.totals.bytes());
                clients.extend(pairing.client);
                servers.extend(pairing.server);
            }
        }
        let (key, bytes) = row.or(told.map(|(key, _, bytes)| (key, bytes)))?;
        if told.is_none() {
            // They are of what another edge counts.
            differences.clear();
        }
        let clients: Vec<&Party> =
            clients.into_iter().filter_map(|at| sides.clients.get(at)).collect();
        let servers: Vec<&Party> =
            servers.into_iter().filter_map(|at| sides.servers.get(at)).collect();
        // Each end by the address that it has itself.
        let own = |party: Option<&&Party>| party.map_or(link.key, |party| party.own);
        let [client, _] = ends(&own(clients.first().or(servers.first())));
        let [_, server] = ends(&own(servers.first().or(clients.first())));
        let parties = || clients.iter().chain(&servers);
        let also = match (&link.tied, told) {
            (None, _) => Vec::new(),
            (_, Some(_)) => also([client, server], parties().flat_map(|party| &party.reach)),
            (_, None) => also([client, server], link.keys()),
        };
        let point = Point {
            client,
            server,
            told: told.map(|(_, seen, _)| (SeenBy::of(seen), seen.by)),
            settled: link.settled,
            shared,
            both: both && told.is_some(),
            differences,
            also,
        };
        Some((key, point, bytes))
    }

    fn meeting(&self, point: Point) -> Meeting {
        let also = point.also.into_iter().filter_map(|(role, place, port)| {
            Some((role, self.spot(place)?, (role == Role::Server).then_some(port)))
        });
        Meeting {
            client: self.spot(point.client.1),
            server: self.spot(point.server.1),
            server_port: point.server.2,
            told: point.told,
            settled: point.settled,
            shared: point.shared,
            both: point.both,
            differences: point.differences,
            also: also.collect(),
        }
    }

    /// The first hosts of each side by name, and how many more there are.
    fn seen_on(&self, gathered: &Gathered) -> (Vec<SeenOn>, [usize; 2]) {
        let (mut hosts, mut left_out) = (Vec::new(), [0; 2]);
        for (role, left_out) in [Role::Client, Role::Server].into_iter().zip(&mut left_out) {
            let seen = gathered.witnesses.iter().filter(|((_, side), _)| *side == role);
            let mut named: Vec<_> = seen
                .filter_map(|(at, times)| Some((self.nodes.get(at.0)?.name(), at, times)))
                .collect();
            named.sort_unstable_by_key(|(name, ..)| *name);
            *left_out = named.len().saturating_sub(MOST_HOSTS);
            hosts.extend(named.into_iter().take(MOST_HOSTS).map(|(name, at, (first, last))| {
                let watching = gathered.watching.contains(at);
                SeenOn { host: name.to_owned(), role, first: *first, last: *last, watching }
            }));
        }
        (hosts, left_out)
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

    fn add_witnesses(&self, link: &Link, (client, server, _): EdgeKey, gathered: &mut Gathered) {
        for half in link.halves.iter().filter_map(|ix| self.halves.get(*ix)) {
            let end = match half.role() {
                Role::Client => client,
                Role::Server => server,
            };
            if half.service != end {
                continue;
            }
            gathered.witness(Witness::of(half));
            let is_connected = self.nodes.get(half.node()).is_some_and(crate::Node::connected);
            if half.ended.is_none() && is_connected {
                gathered.watching.insert((half.node(), half.role()));
            }
        }
    }
}

const fn ends(key: &LinkKey) -> [At; 2] {
    [(Role::Client, key.client, 0), (Role::Server, key.server, key.server_port)]
}

/// By what other addresses ends are known.
fn also<'a>(known: [At; 2], keys: impl Iterator<Item = &'a LinkKey>) -> Vec<At> {
    let mut others: BTreeSet<At> = keys.flat_map(ends).collect();
    let is_nowhere = |place| matches!(place, Place::Unchosen { .. } | Place::Other);
    others.retain(|at| !known.contains(at) && !is_nowhere(at.1));
    others.into_iter().take(MOST_ADDRESSES).collect()
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
