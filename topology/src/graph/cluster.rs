//! What Kubernetes says of addresses, where nothing better is known of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::Graph;
use crate::{
    base::time::Timestamp,
    count::link::{Link, LinkIx, Row},
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

    /// Whether it is known what becomes of objects of a kind.
    #[must_use]
    pub fn is_cluster_heard(&self, kind: ClusterKind) -> bool {
        self.cluster.is_heard(kind)
    }

    /// The kinds of objects that should be watched, and are not, or have not been listed yet.
    #[must_use]
    pub fn cluster_unheard(&self) -> Vec<ClusterKind> {
        let unheard = ClusterKind::ALL.into_iter().filter(|kind| !self.is_cluster_heard(*kind));
        unheard.filter(|_| self.config.watches_cluster).collect()
    }

    /// How often an object was not taken in for lack of room.
    #[must_use]
    pub fn cluster_refused(&self) -> u64 {
        self.cluster.refused()
    }

    /// Takes in what Kubernetes says.
    pub fn take_cluster_news(&mut self, news: ClusterNews, now: Timestamp) {
        let now = self.see(now);
        let Graph { cluster, evidence, behind, links, .. } = self;
        let who = |ip, port| match evidence.who(Place::Global(ip), Some(port)).0 {
            Answer::Service(service) => Some(service),
            Answer::Host(_) | Answer::External(_) | Answer::Other => None,
        };
        cluster.take(news, now, &who);
        behind.forget();
        if !cluster.is_empty() {
            links.keep_addresses(true);
        }
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
        let changed = self.cluster.turn(now);
        let mut concerned: BTreeSet<LinkIx> = BTreeSet::new();
        for spot in changed.spots {
            match spot {
                Spot::Address(ip) => concerned.extend(self.links.at_address(ip)),
                Spot::NodePort(port) => {
                    let hosts = self.cluster.hosts();
                    concerned.extend(hosts.flat_map(|ip| self.links.at_port(ip, port)));
                }
            }
        }
        for ix in &concerned {
            if let Some(link) = self.links.get_mut(*ix) {
                link.seeks = true;
            }
        }
        for ip in changed.fronts {
            concerned.extend(self.links.at_address(ip));
        }
        for ix in concerned {
            if let Some(link) = self.links.get_mut(ix) {
                link.forget_plain();
            }
            self.links.enqueue(ix);
        }
        if self.cluster.is_empty() {
            self.links.keep_addresses(false);
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
        let name = Arc::clone(name);
        if sort == Sort::Service
            && let Some(port) = server_port
            && let Some(called) = self.cluster.called(&name, ip, port, span)
            && let Some(service) = self.sole_behind(&name, &called, span)
        {
            return Some(service);
        }
        Some(self.services.in_cluster(&name))
    }
}
