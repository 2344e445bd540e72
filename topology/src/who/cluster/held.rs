//! Who had an address of a cluster, and when.

mod asked;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub(crate) use self::asked::Stay;
use super::facts::ObjectName;
use crate::{
    base::{paged::Paged, time::Timestamp},
    who::services::ServiceIx,
};

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

/// What an address does for a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Serves {
    pub(crate) service: Arc<ObjectName>,
    /// At which port,
    pub(crate) port: u16,
    /// and what that is called.
    pub(crate) called: Arc<str>,
    /// Whether connections were led to it.
    pub(crate) ready: bool,
}

/// Everything that it does.
pub(crate) type Roles = BTreeSet<Serves>;

/// Who was known to be at the ports of an address, by their agents.
pub(crate) type Known = BTreeMap<u16, ServiceIx>;

/// Somebody has something, or had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holding {
    sort: Sort,
    /// The pod, or the Service itself.
    holder: Arc<ObjectName>,
    roles: Roles,
    from: Timestamp,
    over: Option<Over>,
}

/// Somebody has something no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Over {
    at: Timestamp,
    forget_at: Timestamp,
    /// Who it was, of a pod.
    known: Known,
}

/// When what is asked about was: no earlier and no later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

impl Span {
    /// Whether what was between two moments has to do with it.
    pub(crate) fn meets(self, from: Timestamp, until: Option<Timestamp>) -> bool {
        from <= self.to && until.is_none_or(|until| until >= self.from.minus(APART))
    }

    /// Whether what began then may have been there from the beginning.
    pub(crate) fn begins_with(self, from: Timestamp) -> bool {
        from <= self.from.plus(APART)
    }
}

/// Who had what and when.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Held {
    spots: Paged<Spot, Vec<Holding>>,
    /// What is to be forgotten, and when.
    #[serde(skip)]
    ended: BTreeSet<(Timestamp, Spot)>,
    /// Where the pods of each Service are and were.
    #[serde(skip)]
    pods: Places,
    /// Where each Service itself is and was.
    #[serde(skip)]
    fronts: Places,
}

/// Addresses of Services.
type Places = BTreeMap<Arc<ObjectName>, BTreeSet<IpAddr>>;

impl Holding {
    fn is(&self, sort: Sort, holder: &ObjectName) -> bool {
        self.sort == sort && *self.holder == *holder
    }

    /// Whether it is of no other Services than these, at whatever ports.
    fn is_of(&self, roles: &Roles) -> bool {
        let services = |roles: &Roles| -> BTreeSet<Arc<ObjectName>> {
            roles.iter().map(|role| Arc::clone(&role.service)).collect()
        };
        services(&self.roles) == services(roles)
    }

    /// It does other things for the same Services. Whoever was ready at a port has served there.
    fn becomes(&mut self, roles: Roles) {
        let was = std::mem::take(&mut self.roles);
        let become_so = |role: Serves| {
            let ready = role.ready || was.contains(&Serves { ready: true, ..role.clone() });
            Serves { ready, ..role }
        };
        self.roles = roles.into_iter().map(become_so).collect();
        self.over = None;
    }

    fn until(&self) -> Option<Timestamp> {
        self.over.as_ref().map(|over| over.at)
    }

    /// Whether two had it at the same time.
    fn overlaps(&self, other: &Holding) -> bool {
        let before =
            |one: &Holding, other: &Holding| one.until().is_some_and(|until| until <= other.from);
        !before(self, other) && !before(other, self)
    }

    /// Whether it may be meant: with a port as a server, without one as a client. What has others beside it at the same
    /// address (`shared`) is meant at its own ports only.
    fn is_meant(&self, port: Option<u16>, shared: bool) -> bool {
        let serves = |port| self.roles.iter().any(|role| role.port == port);
        match port {
            Some(port) if shared || self.sort == Sort::Front => serves(port),
            Some(_) => true,
            None => self.sort == Sort::Endpoint && !shared,
        }
    }

    /// The Service whose it is; the first by name, where there are several. At a port that it is not known to serve it is
    /// still who it is.
    fn service(&self, port: Option<u16>) -> Option<&Arc<ObjectName>> {
        let at = self.roles.iter().find(|role| Some(role.port) == port);
        at.or_else(|| self.roles.first()).map(|role| &role.service)
    }
}

/// The Services that have pods among these, or are there themselves.
fn services_of(holdings: &[Holding], sort: Sort) -> BTreeSet<Arc<ObjectName>> {
    let meant = holdings.iter().filter(|holding| holding.sort == sort);
    meant.flat_map(|one| &one.roles).map(|role| Arc::clone(&role.service)).collect()
}

impl Held {
    /// What has to be stored; the rest follows from it.
    pub(super) fn stored(&self) -> Self {
        Held { spots: self.spots.stored(), ..Held::default() }
    }

    /// Finishes what was read back.
    pub(super) fn resume(&mut self) {
        self.spots.resume();
        let ended = |(spot, holdings): (&Spot, &Vec<Holding>)| {
            let over = holdings.iter().filter_map(|holding| holding.over.as_ref());
            over.map(|over| (over.forget_at, *spot)).collect::<Vec<_>>()
        };
        self.ended = self.spots.iter().flat_map(ended).collect();
        for (spot, holdings) in self.spots.iter() {
            let Spot::Address(ip) = spot else { continue };
            for (sort, places) in
                [(Sort::Endpoint, &mut self.pods), (Sort::Service, &mut self.fronts)]
            {
                for service in services_of(holdings, sort) {
                    places.entry(service).or_default().insert(*ip);
                }
            }
        }
    }

    /// Changes who has something, and what follows from that.
    fn change(&mut self, spot: Spot, change: impl FnOnce(&mut Vec<Holding>)) {
        if !self.spots.contains_key(&spot) {
            self.spots.insert(spot, Vec::new());
        }
        let Some(holdings) = self.spots.get_mut(&spot) else { return };
        let sorts = [Sort::Endpoint, Sort::Service];
        let before = sorts.map(|sort| services_of(holdings, sort));
        change(holdings);
        let after = sorts.map(|sort| services_of(holdings, sort));
        if holdings.is_empty() {
            self.spots.remove(&spot);
        }
        let Spot::Address(ip) = spot else { return };
        let places = [&mut self.pods, &mut self.fronts];
        for ((before, after), places) in before.iter().zip(&after).zip(places) {
            for gone in before.difference(after) {
                if let Some(there) = places.get_mut(gone) {
                    there.remove(&ip);
                    if there.is_empty() {
                        places.remove(gone);
                    }
                }
            }
            for new in after.difference(before) {
                places.entry(Arc::clone(new)).or_default().insert(ip);
            }
        }
    }

    /// Somebody has something from now on, or for other Services than before, which was over at `until`.
    pub(super) fn holds(
        &mut self,
        spot: Spot,
        (sort, holder): (Sort, &Arc<ObjectName>),
        roles: Roles,
        (until, at): (Timestamp, Timestamp),
        known: impl FnOnce() -> Known,
    ) {
        let live = |holding: &Holding| holding.over.is_none() && holding.is(sort, holder);
        let goes_on = |holding: &Holding| holding.from == at || holding.is_of(&roles);
        let held = self.spots.get(&spot).and_then(|all| all.iter().find(|one| live(one)));
        if held.is_some_and(|held| !goes_on(held)) {
            // What was counted before stays with those whose it was then.
            self.ends(spot, (sort, holder), (until, at), known);
        }
        self.change(spot, |holdings| {
            // Who lost it a moment ago has been there all the time: it moved from one object to another.
            let back = |holding: &Holding| {
                holding.is(sort, holder)
                    && holding.is_of(&roles)
                    && holding.until().is_some_and(|until| until.plus(APART) >= at)
            };
            let held = holdings.iter().position(live);
            match held.or_else(|| holdings.iter().rposition(back)) {
                Some(at) => holdings[at].becomes(roles),
                None => {
                    let holder = Arc::clone(holder);
                    holdings.push(Holding { sort, holder, roles, from: at, over: None });
                }
            }
        });
    }

    /// Somebody has had something until then, as was found out now. `known` says who that was, as far as it is known.
    pub(super) fn ends(
        &mut self,
        spot: Spot,
        (sort, holder): (Sort, &ObjectName),
        (until, now): (Timestamp, Timestamp),
        known: impl FnOnce() -> Known,
    ) {
        let forget_at = now.plus(REMEMBERED);
        // Else another may be there by now.
        let is_fresh = sort == Sort::Endpoint && until.plus(APART) >= now;
        let known = if is_fresh { known() } else { Known::default() };
        let mut ended = false;
        self.change(spot, |holdings| {
            let live = |holding: &&mut Holding| holding.over.is_none() && holding.is(sort, holder);
            if let Some(holding) = holdings.iter_mut().find(live) {
                let at = until.max(holding.from);
                holding.over = Some(Over { at, forget_at, known });
                ended = true;
            }
            let over = |(at, one): (usize, &Holding)| Some((one.until()?, at));
            if holdings.iter().filter(|holding| holding.over.is_some()).count() > MOST_ENDED
                && let Some((_, oldest)) = holdings.iter().enumerate().filter_map(over).min()
            {
                holdings.remove(oldest);
            }
        });
        if ended {
            self.ended.insert((forget_at, spot));
        }
    }

    /// Forgets what has been over for long.
    pub(super) fn forget(&mut self, now: Timestamp) {
        while self.is_due(now) {
            let Some((_, spot)) = self.ended.pop_first() else { return };
            let remembered = |over: &Over| over.forget_at > now;
            self.change(spot, |holdings| {
                holdings.retain(|holding| holding.over.as_ref().is_none_or(remembered));
            });
        }
    }

    /// The clock was ahead and has been set back.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        for holding in self.spots.values_mut().flatten() {
            holding.from = holding.from.min(now);
            if let Some(over) = &mut holding.over {
                over.at = over.at.min(now);
                over.forget_at = over.forget_at.min(now.plus(REMEMBERED));
            }
        }
        let ended = std::mem::take(&mut self.ended).into_iter();
        self.ended = ended.map(|(at, spot)| (at.min(now.plus(REMEMBERED)), spot)).collect();
    }

    /// Whether [`forget`](Self::forget) has anything to do.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.ended.first().is_some_and(|(at, _)| *at <= now)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.spots.is_empty()
            && self.ended.is_empty()
            && self.pods.is_empty()
            && self.fronts.is_empty()
    }
}
