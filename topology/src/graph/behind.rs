//! Who is behind the address of a Service of Kubernetes: whom it leads to, where no host tells of a translation, and whose
//! name it has.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use super::Graph;
use crate::{
    base::time::Timestamp,
    count::link::{Link, LinkIx, LinkKey},
    model::Role,
    who::{
        cluster::{
            facts::ObjectName,
            held::{Span, Stay},
        },
        evidence::Answer,
        place::Place,
        services::ServiceIx,
    },
};

/// Who is behind ports of Services, as far as that was asked since links were last looked at.
///
/// A Service may have very many pods, and very many clients: each pod is looked at once in a tick.
#[derive(Default)]
pub(crate) struct Behind(BTreeMap<(Arc<ObjectName>, Arc<str>), Pods>);

/// The pods that are or were ready to serve a port of a Service.
#[derive(Default)]
struct Pods {
    /// When who was there, by what agents say.
    known: Vec<(Timestamp, Option<Timestamp>, Option<ServiceIx>)>,
    /// Some are on hosts without an agent now, since when the first of them is known.
    uncovered: Option<Timestamp>,
}

impl Behind {
    /// What was asked holds no more.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

impl Pods {
    /// Only one line when it is always the same.
    fn shorten(&mut self) {
        let Some((_, _, first)) = self.known.first().copied() else { return };
        if self.known.iter().all(|(_, _, who)| *who == first) {
            let from = self.known.iter().map(|(from, ..)| *from).min().unwrap_or_default();
            let until = self.known.iter().map(|(_, until, _)| *until);
            let until = until.reduce(|one, other| Some(one?.max(other?))).flatten();
            self.known = vec![(from, until, first)];
        }
    }

    /// The service that all were of, in whose time a span is.
    fn sole(&self, span: Span) -> Option<ServiceIx> {
        let meant = || self.known.iter().filter(|(from, until, _)| span.meets(*from, *until));
        let first = meant().map(|(from, ..)| *from).min()?;
        let who = meant().next()?.2;
        (span.begins_with(first) && meant().all(|(.., other)| *other == who)).then_some(who)?
    }
}

impl Graph {
    /// The service that all pods ready to serve a port of one of Kubernetes were known to be of.
    pub(super) fn sole_behind(
        &mut self,
        name: &Arc<ObjectName>,
        called: &Arc<str>,
        span: Span,
    ) -> Option<ServiceIx> {
        self.pods_behind(name, called).sole(span)
    }

    fn pods_behind(&mut self, name: &Arc<ObjectName>, called: &Arc<str>) -> &Pods {
        let Graph { behind, cluster, evidence, services, .. } = self;
        behind.0.entry((Arc::clone(name), Arc::clone(called))).or_insert_with(|| {
            let mut pods = Pods::default();
            for stay in cluster.behind(name, called).filter(|stay| stay.ready) {
                let who = match stay {
                    Stay { known: Some(known), .. } => {
                        let who = known.get(&stay.port).copied();
                        who.filter(|who| services.get(*who).is_some())
                    }
                    _ => match evidence.who(Place::Global(stay.ip), Some(stay.port)).0 {
                        Answer::Service(service) => Some(service),
                        Answer::External(_) => {
                            let first = pods.uncovered.unwrap_or(stay.from);
                            pods.uncovered = Some(first.min(stay.from));
                            None
                        }
                        Answer::Host(_) | Answer::Other => None,
                    },
                };
                pods.known.push((stay.from, stay.until, who));
            }
            pods.shorten();
            pods
        })
    }

    /// A client that goes by the address of a Service meets the pods behind it that have told of it: where no host
    /// translates, nobody else says that their halves are of the same connections. Returns whether it is not known yet
    /// whether it meets others, too.
    pub(super) fn meet_behind(&mut self, ix: LinkIx, now: Timestamp) -> bool {
        let Some(link) = self.links.get_mut(ix) else { return false };
        let seeks = std::mem::take(&mut link.seeks);
        if self.cluster.is_empty() {
            return false;
        }
        if seeks {
            for (front, key) in self.led(ix) {
                self.lead(front, key, now);
            }
        }
        self.open_fronts(ix, now)
    }

    /// Who of a link's halves, or whom of others, is reached by the address of a Service: that, and their own.
    fn led(&self, ix: LinkIx) -> BTreeSet<(LinkKey, LinkKey)> {
        let Some(link) = self.links.get(ix).filter(|link| link.folded == 0) else {
            return BTreeSet::new();
        };
        let span = self.span_of(link);
        let at = |(ip, server_port), key: &LinkKey| LinkKey {
            client: key.client,
            server: Place::Global(ip),
            server_port,
        };
        let mut led = BTreeSet::new();
        for key in self.keys_of(link, Role::Server) {
            let Place::Global(ip) = key.server else { continue };
            for front in self.cluster.fronts(ip, key.server_port, span) {
                led.insert((at(front, &key), key));
            }
        }
        for front in self.keys_of(link, Role::Client) {
            let Place::Global(ip) = front.server else { continue };
            for role in self.cluster.services_at(ip, front.server_port, span) {
                let stays = self.cluster.behind(&role.service, &role.called);
                let stays = stays.filter(|stay| span.meets(stay.from, stay.until));
                let keys = stays.map(|stay| at((stay.ip, stay.port), &front));
                led.extend(keys.map(|key| (front, key)));
            }
        }
        led.retain(|(front, key)| self.is_led(front, key));
        led
    }

    /// Whether there are halves on both sides that do not meet yet.
    fn is_led(&self, front: &LinkKey, key: &LinkKey) -> bool {
        let (Some(clients), Some(servers)) = (self.links.find(front), self.links.find(key)) else {
            return false;
        };
        front != key
            && clients.folded == 0
            && servers.folded == 0
            && !clients.is_led(front, key)
            && self.has_half(servers, Role::Server, key)
            && self.goes_by(clients, front)
    }

    fn has_half(&self, link: &Link, role: Role, key: &LinkKey) -> bool {
        let halves = link.halves.iter().filter_map(|ix| self.halves.get(*ix));
        halves.filter(|half| half.role() == role).any(|half| link.key_of(half) == *key)
    }

    /// Whether a client goes by an address whose host does not know better.
    fn goes_by(&self, link: &Link, front: &LinkKey) -> bool {
        let halves = link.halves.iter().filter_map(|ix| Some((*ix, self.halves.get(*ix)?)));
        let mut clients = halves.filter(|(_, half)| half.role() == Role::Client);
        clients.any(|(ix, half)| {
            let translates = || {
                let told = self.links.told(half.link, ix);
                told.iter().any(|told| told.client != front.client)
            };
            link.key_of(half) == *front && !translates()
        })
    }

    /// Where halves of a role of a link meet others.
    fn keys_of(&self, link: &Link, role: Role) -> BTreeSet<LinkKey> {
        let halves = link.halves.iter().filter_map(|ix| self.halves.get(*ix));
        halves.filter(|half| half.role() == role).map(|half| link.key_of(half)).collect()
    }

    fn lead(&mut self, front: LinkKey, key: LinkKey, now: Timestamp) {
        let sides = [self.links.find(&front), self.links.find(&key)];
        let [Some(clients), Some(servers)] = sides else { return };
        let is_new = !self.has_servers_of(clients, servers);
        let has_told = !servers.rows.is_empty();
        let Some(led) = self.links.lead(front, key, &mut self.edges) else { return };
        for half in led.halves {
            if let Some(half) = self.halves.get_mut(half) {
                half.link = led.to;
            }
        }
        if is_new || has_told {
            self.knows_more(led.to, is_new, now);
        }
        self.links.enqueue(led.to);
    }

    /// Whether all services of a link's servers have halves at another one.
    fn has_servers_of(&self, link: &Link, other: &Link) -> bool {
        let mut missing: HashSet<ServiceIx> = self.servers_of(other).collect();
        // There may be very many of them, and the first is mostly enough.
        missing.is_empty()
            || self.servers_of(link).any(|service| {
                missing.remove(&service);
                missing.is_empty()
            })
    }

    fn servers_of(&self, link: &Link) -> impl Iterator<Item = ServiceIx> {
        let halves = link.halves.iter().filter_map(|ix| self.halves.get(*ix));
        halves.filter(|half| half.role() == Role::Server).map(|half| half.service)
    }

    /// More is known of who meets at a link. What it has published is looked at anew, however often that happens.
    fn knows_more(&mut self, ix: LinkIx, waits: bool, now: Timestamp) {
        if let Some(link) = self.links.get_mut(ix) {
            if waits {
                link.gather(now, self.config.gather_for, self.config.settle_after);
            }
            let since = link.tied.as_ref().and_then(|tied| tied.fresh);
            link.freshen(since.unwrap_or(now));
        }
    }

    /// Some of what a client has by the address of a Service is with pods that nobody covers, unless its host has told to
    /// whom it leads. Pods are not uncovered at once: their agents may be about to connect. Returns whether that is so.
    fn open_fronts(&mut self, ix: LinkIx, now: Timestamp) -> bool {
        let Some(link) = self.links.get(ix).filter(|link| link.has_fronts()) else { return false };
        let span = self.span_of(link);
        let halves = link.halves.iter().filter_map(|ix| Some((*ix, self.halves.get(*ix)?)));
        let untold =
            halves.filter(|(ix, half)| half.role() == Role::Client && !link.is_told_by_host(*ix));
        let fronts: BTreeSet<LinkKey> = untold.map(|(_, half)| link.key_of(half)).collect();
        let mut asked = Vec::new();
        for front in fronts.into_iter().filter(|front| !link.is_open(front)) {
            let Place::Global(ip) = front.server else { continue };
            let roles = self.cluster.services_at(ip, front.server_port, span);
            asked.extend(roles.map(|role| (front, role.clone())));
        }
        let mut waits = false;
        for (front, role) in asked {
            let Some(since) = self.pods_behind(&role.service, &role.called).uncovered else {
                continue;
            };
            if self.nodes.coming_back() || now.since(since) < self.config.node_return {
                waits = true;
                continue;
            }
            if let Some(link) = self.links.get_mut(ix) {
                link.open(front);
            }
            self.knows_more(ix, true, now);
        }
        waits
    }
}
