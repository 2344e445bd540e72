//! What Kubernetes says of addresses, where nothing better is known of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::Graph;
use crate::{
    base::time::Timestamp,
    count::{
        half::HalfIx,
        link::{Link, LinkIx, LinkKey, Row},
    },
    model::Role,
    who::{
        cluster::{
            facts::{ClusterChange, ClusterKind, ClusterNews, ObjectName},
            held::{Sort, Span, Spot},
        },
        evidence::Answer,
        place::Place,
        services::ServiceIx,
    },
};

/// Gains may lie back so far when they are evaluated: a link waits for its other half, and hosts tell once in an interval.
const LAG: Duration = Duration::from_secs(15);

/// What a link is, for those who look for its ends.
pub(crate) struct Asking<'a> {
    pub(crate) folded: u8,
    pub(crate) rows: &'a [Row],
    /// When what is asked about was.
    pub(crate) span: Span,
}

impl Graph {
    /// What of these changes is not known yet.
    #[must_use]
    pub fn new_of_cluster(&self, changes: Vec<ClusterChange>) -> Vec<ClusterChange> {
        changes.into_iter().filter(|change| self.cluster.is_new(change)).collect()
    }

    /// The objects of a kind that are known.
    #[must_use]
    pub fn cluster_names(&self, kind: ClusterKind) -> Vec<ObjectName> {
        self.cluster.names(kind)
    }

    /// How many objects of a kind are known, and since when it is not known what becomes of them.
    #[must_use]
    pub fn cluster_state(&self, kind: ClusterKind) -> (usize, Option<Timestamp>) {
        (self.cluster.len(kind), self.cluster.lost(kind))
    }

    /// How often an object was not taken in for lack of room.
    #[must_use]
    pub fn cluster_refused(&self) -> u64 {
        self.cluster.refused()
    }

    /// Takes in what Kubernetes says.
    pub fn take_cluster_news(&mut self, news: ClusterNews, now: Timestamp) {
        let now = self.see(now);
        Arc::make_mut(&mut self.cluster).take(news, now);
    }

    /// The zones of hosts, as far as Kubernetes tells them: of nodes that are called like hosts, or have an address of one.
    #[must_use]
    pub(crate) fn cluster_zones(&self) -> BTreeMap<String, String> {
        if self.cluster.is_empty() {
            return BTreeMap::new();
        }
        let zones = self.nodes.iter().filter_map(|(_, node)| {
            let global = node.addresses.iter().filter(|own| own.address.is_global());
            let zone = self.cluster.zone(&node.name, global.map(|own| own.address.ip))?;
            Some((node.name.to_string(), zone.to_owned()))
        });
        zones.collect()
    }

    /// Once per step: links whose addresses have other holders now are looked at.
    pub(super) fn turn_cluster(&mut self, now: Timestamp) {
        if !self.cluster.has_news(now) {
            return;
        }
        let changed = Arc::make_mut(&mut self.cluster).turn(now);
        let is_changed = |place: Place, port| {
            matches!(place, Place::Global(ip) if changed.contains(&Spot::Address(ip)))
                || changed.contains(&Spot::NodePort(port))
        };
        let concerned = self.links.pairs().filter(|(_, link)| {
            let mut keys = link.keys();
            keys.any(|key| is_changed(key.client, 0) || is_changed(key.server, key.server_port))
        });
        let concerned: Vec<LinkIx> = concerned.map(|(ix, _)| ix).collect();
        for ix in concerned {
            if let Some(link) = self.links.get_mut(ix) {
                link.forget_plain();
            }
            self.links.enqueue(ix);
        }
    }

    /// What is asked of a link about who was at its ends.
    pub(crate) fn asking<'a>(&self, link: &'a Link) -> Asking<'a> {
        Asking { folded: link.folded, rows: &link.rows, span: self.span_of(link) }
    }

    /// The same of a link that has published nothing.
    pub(crate) fn asking_anew(&self, link: &Link) -> Asking<'static> {
        Asking { folded: link.folded, rows: &[], span: self.span_of(link) }
    }

    /// When that may have been which a link has counted and not published.
    pub(crate) fn span_of(&self, link: &Link) -> Span {
        let (from, to) = match self.telling_of {
            // It may have been held back for long: all that it has counted is still to come.
            _ if link.rows.is_empty() => {
                let step = self.telling_of.unwrap_or(link.first_seen);
                (link.first_seen.min(step), self.clock)
            }
            Some(step) => (step, step.plus(self.config.step)),
            None => (self.clock.minus(LAG).max(link.first_seen), self.clock),
        };
        let noted = link.late.as_ref().and_then(|late| late.first_step());
        Span { from: noted.map_or(from, |noted| noted.min(from)), to }
    }

    /// The service whose address it was, by what Kubernetes says. Where all pods that stand behind it are known to be of
    /// one service, that one.
    pub(crate) fn in_cluster(
        &mut self,
        place: Place,
        server_port: Option<u16>,
        span: Span,
    ) -> Option<ServiceIx> {
        let Place::Global(ip) = place else { return None };
        let is_host = self.evidence.is_own_of_host(place);
        let (name, sort) = self.cluster.who(ip, server_port, is_host, span)?;
        if sort == Sort::Service
            && let Some(port) = server_port
            && let Some(service) = self.sole_behind(name, port)
        {
            return Some(service);
        }
        let name = Arc::clone(name);
        Some(self.services.in_cluster(&name))
    }

    /// The service that all pods ready to serve a port of one of Kubernetes are known to be of.
    fn sole_behind(&self, name: &ObjectName, port: u16) -> Option<ServiceIx> {
        let behind = self.cluster.behind(name, port)?;
        let mut services = behind.into_iter().map(|(ip, port)| {
            match self.evidence.who(Place::Global(ip), Some(port)).0 {
                Answer::Service(service) => Some(service),
                Answer::Host(_) | Answer::External(_) | Answer::Other => None,
            }
        });
        let first = services.next()??;
        services.all(|service| service == Some(first)).then_some(first)
    }

    /// A client that goes by the address of a Service meets the pods behind it that have told of it: where no host
    /// translates, nobody else says that their halves are of the same connections.
    pub(super) fn meet_behind(&mut self, ix: LinkIx, now: Timestamp) {
        if self.cluster.is_empty() {
            return;
        }
        self.tie_behind(ix, now);
        for front in self.fronts(ix) {
            self.tie_behind(front, now);
        }
    }

    /// Other links by which those that a link has servers of are reached through the address of a Service.
    fn fronts(&self, ix: LinkIx) -> BTreeSet<LinkIx> {
        let Some(link) = self.links.get(ix) else { return BTreeSet::new() };
        let halves = link.halves.iter().filter_map(|ix| self.halves.get(*ix));
        let servers = halves.filter(|half| half.role() == Role::Server);
        let keys: BTreeSet<LinkKey> = servers.map(|half| link.key_of(half)).collect();
        let fronts = keys.iter().filter_map(|key| match key.server {
            Place::Global(ip) => Some((key, self.cluster.fronts(ip, key.server_port))),
            _ => None,
        });
        let fronts = fronts.flat_map(|(key, fronts)| {
            fronts.into_iter().map(|(ip, server_port)| LinkKey {
                client: key.client,
                server: Place::Global(ip),
                server_port,
            })
        });
        let links = fronts.filter_map(|key| self.links.at(&key));
        links.filter(|front| *front != ix).collect()
    }

    fn tie_behind(&mut self, ix: LinkIx, now: Timestamp) {
        let Some(link) = self.links.get(ix).filter(|link| link.folded == 0) else { return };
        let span = self.span_of(link);
        let behind = |key: &LinkKey| {
            let Place::Global(ip) = key.server else { return None };
            let name = self.cluster.service_at(ip, key.server_port, span)?;
            self.cluster.behind(name, key.server_port)
        };
        let mut meetings: Vec<(HalfIx, Vec<LinkKey>)> = Vec::new();
        for half_ix in &link.halves {
            let Some(half) = self.halves.get(*half_ix) else { continue };
            let key = link.key_of(half);
            if half.role() != Role::Client {
                continue;
            }
            let Some(behind) = behind(&key) else { continue };
            let at = |(ip, server_port): (_, u16)| LinkKey {
                client: key.client,
                server: Place::Global(ip),
                server_port,
            };
            let told = self.links.told(ix, *half_ix);
            let keys: BTreeSet<LinkKey> = behind.into_iter().map(at).collect();
            // Its host knows better.
            let translates = told.iter().any(|told| told.client != key.client);
            if translates || !keys.iter().any(|key| self.has_server(key)) {
                continue;
            }
            let uncovered = |key: &LinkKey| {
                let who = self.evidence.who(key.server, Some(key.server_port)).0;
                matches!(who, Answer::External(_))
            };
            // Some of it is theirs, unless its host has told to whom it leads.
            let untold = !link.is_told_by_host(*half_ix);
            let is_meant = |key: &LinkKey| self.has_server(key) || (untold && uncovered(key));
            meetings.push((*half_ix, keys.into_iter().filter(is_meant).collect()));
        }
        for (half, told) in meetings {
            self.tie(half, told, now);
        }
    }

    /// Whether somebody told of serving at a meeting point.
    fn has_server(&self, key: &LinkKey) -> bool {
        let Some(link) = self.links.find(key) else { return false };
        let halves = link.halves.iter().filter_map(|ix| self.halves.get(*ix));
        halves.filter(|half| half.role() == Role::Server).any(|half| link.key_of(half) == *key)
    }
}
