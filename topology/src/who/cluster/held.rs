//! Who had an address of a cluster, and when.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::facts::ObjectName;
use crate::base::time::Timestamp;

/// By so much news of a cluster and of its traffic may miss each other: hosts tell once in an interval of what was, and
/// what the API server says is on its way for a moment, too.
const APART: Duration = Duration::from_secs(5);

/// How long it is remembered who had an address: what comes later than that is of nobody.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How many are remembered who had one address, the last ones.
const MOST_ENDED: usize = 4;

/// What somebody can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Spot {
    /// An address.
    Address(IpAddr),
    /// A port at every host of the cluster.
    NodePort(u16),
}

/// As what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Sort {
    /// A pod of a Service, or whatever else serves for it. It can be a client, too.
    Endpoint,
    /// It stands for all pods of a Service.
    Service,
    /// It leads to a Service at some ports, and elsewhere at others.
    Front,
}

/// Services and ports that an address is of.
pub(crate) type Roles = BTreeSet<(Arc<ObjectName>, u16)>;

/// Somebody has something, or had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holding {
    sort: Sort,
    /// The pod, or the Service itself.
    holder: Arc<ObjectName>,
    roles: Roles,
    from: Timestamp,
    until: Option<Timestamp>,
}

/// When what is asked about was: no earlier and no later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// Who had what and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    spots: BTreeMap<Spot, Vec<Holding>>,
    /// What is over, in the order in which that was found out, and until when it is remembered.
    ended: VecDeque<(Timestamp, Spot)>,
}

impl Holding {
    fn is(&self, sort: Sort, holder: &ObjectName) -> bool {
        self.sort == sort && *self.holder == *holder
    }

    /// Whether it is of no other Services than these, at whatever ports.
    fn is_of(&self, roles: &Roles) -> bool {
        let services = |roles: &Roles| -> BTreeSet<Arc<ObjectName>> {
            roles.iter().map(|(service, _)| Arc::clone(service)).collect()
        };
        services(&self.roles) == services(roles)
    }

    /// Whether two had it at the same time.
    fn overlaps(&self, other: &Holding) -> bool {
        let before =
            |one: &Holding, other: &Holding| one.until.is_some_and(|until| until <= other.from);
        !before(self, other) && !before(other, self)
    }

    /// Whether it may be meant: with a port as a server, without one as a client. What has others beside it at the same
    /// address (`shared`) is meant at its own ports only.
    fn is_meant(&self, port: Option<u16>, shared: bool) -> bool {
        let serves = |port| self.roles.iter().any(|role| role.1 == port);
        match port {
            Some(port) if shared || self.sort == Sort::Front => serves(port),
            Some(_) => true,
            None => self.sort == Sort::Endpoint && !shared,
        }
    }

    /// The Service whose it is; the first by name, where there are several. At a port that it is not known to serve it is
    /// still who it is.
    fn service(&self, port: Option<u16>) -> Option<&Arc<ObjectName>> {
        let at = self.roles.iter().find(|role| Some(role.1) == port);
        at.or_else(|| self.roles.first()).map(|(service, _)| service)
    }
}

impl Held {
    /// Somebody has something from now on, or for other Services than before, which was over at `until`.
    pub(super) fn holds(
        &mut self,
        spot: Spot,
        (sort, holder): (Sort, &Arc<ObjectName>),
        roles: Roles,
        until: Timestamp,
        at: Timestamp,
    ) {
        let holdings = self.spots.entry(spot).or_default();
        let live = |holding: &&mut Holding| holding.until.is_none() && holding.is(sort, holder);
        let known = match holdings.iter_mut().find(live) {
            Some(holding) if holding.from == at || holding.is_of(&roles) => Some(holding),
            Some(_) => {
                // What was counted before stays with those whose it was then.
                self.ends(spot, (sort, holder), until, at);
                None
            }
            None => {
                // Who lost it a moment ago has been there all the time: it moved from one object to another.
                let goes_on = |holding: &&mut Holding| {
                    holding.is(sort, holder)
                        && holding.is_of(&roles)
                        && holding.until.is_some_and(|until| until.plus(APART) >= at)
                };
                holdings.iter_mut().rev().find(goes_on)
            }
        };
        if let Some(holding) = known {
            (holding.roles, holding.until) = (roles, None);
            return;
        }
        let holder = Arc::clone(holder);
        let new = Holding { sort, holder, roles, from: at, until: None };
        self.spots.entry(spot).or_default().push(new);
    }

    /// Somebody has had something until then, as was found out now.
    pub(super) fn ends(
        &mut self,
        spot: Spot,
        (sort, holder): (Sort, &ObjectName),
        until: Timestamp,
        now: Timestamp,
    ) {
        let Some(holdings) = self.spots.get_mut(&spot) else { return };
        let live = |holding: &&mut Holding| holding.until.is_none() && holding.is(sort, holder);
        if let Some(holding) = holdings.iter_mut().find(live) {
            holding.until = Some(until.max(holding.from));
            self.ended.push_back((now.plus(REMEMBERED), spot));
        }
        let ended = holdings.iter().filter(|holding| holding.until.is_some()).count();
        if ended > MOST_ENDED {
            let over = |holding: &Holding| holding.until;
            let ended = holdings.iter().enumerate().filter_map(|(at, one)| Some((over(one)?, at)));
            if let Some((_, oldest)) = ended.min() {
                holdings.remove(oldest);
            }
        }
    }

    /// Forgets what has been over for long.
    pub(super) fn forget(&mut self, now: Timestamp) {
        while self.ended.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, spot)) = self.ended.pop_front() else { return };
            let Some(holdings) = self.spots.get_mut(&spot) else { continue };
            let oldest = now.minus(REMEMBERED);
            holdings.retain(|holding| holding.until.is_none_or(|until| until > oldest));
            if holdings.is_empty() {
                self.spots.remove(&spot);
            }
        }
    }

    /// The Services that what has an address now serves for at a port.
    pub(super) fn services(&self, spot: Spot, port: u16) -> impl Iterator<Item = &ObjectName> {
        let live = |holding: &&Holding| holding.until.is_none() && holding.sort == Sort::Endpoint;
        let holdings = self.spots.get(&spot).into_iter().flatten().filter(live);
        let roles = holdings.flat_map(|holding| &holding.roles);
        roles.filter(move |role| role.1 == port).map(|(service, _)| service.as_ref())
    }

    /// The clock was ahead and has been set back.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        for holding in self.spots.values_mut().flatten() {
            holding.from = holding.from.min(now);
            holding.until = holding.until.map(|until| until.min(now));
        }
        for (at, _) in &mut self.ended {
            *at = (*at).min(now.plus(REMEMBERED));
        }
    }

    /// Whether [`forget`](Self::forget) has anything to do.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.ended.front().is_some_and(|(at, _)| *at <= now)
    }

    /// The Service whose something was all the time; `None` when it had several holders of different Services then, or
    /// it is not known whose it was at first. And as what. `shared` says that it is or may be a host's address, which all
    /// have who are on the host's own network; an address that several pods had at once is no pod's own, either.
    pub(super) fn who(
        &self,
        spot: Spot,
        port: Option<u16>,
        shared: bool,
        span: Span,
    ) -> Option<(&Arc<ObjectName>, Sort)> {
        let earliest = span.from.minus(APART);
        let then = |holding: &&Holding| {
            holding.from <= span.to && holding.until.is_none_or(|until| until >= earliest)
        };
        let known = || self.spots.get(&spot).into_iter().flatten().filter(then);
        let pods = || known().filter(|holding| holding.sort == Sort::Endpoint);
        let beside =
            |one: &Holding| pods().any(|other| other.holder != one.holder && other.overlaps(one));
        let shared = shared || pods().any(beside);
        let holdings = || known().filter(|holding| holding.is_meant(port, shared));
        let first = holdings().min_by_key(|holding| holding.from)?;
        if first.from > span.from.plus(APART) {
            return None;
        }
        let service = first.service(port)?;
        let same = |holding: &Holding| holding.service(port) == Some(service);
        holdings().all(same).then_some((service, first.sort))
    }
}
