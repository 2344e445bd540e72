//! Who talks to whom, and how.

use std::collections::BTreeSet;

use super::{Draw, Place};
use crate::{
    traffic::{Dial, Ending, Exchange, Means},
    worlds::{
        feature::Feature,
        nat,
        plan::{At, Call, Deed, Ear, On, Step, Talk, Target},
    },
};

/// Nobody listens there.
const CLOSED: u16 = 3;

impl Draw<'_> {
    /// What everybody says in an act.
    pub(super) fn talks(&mut self, act: usize) -> Vec<Talk> {
        let mut talks = Vec::new();
        for client in self.alive.clone() {
            let mut calls = self.go_on(client, act);
            if self.random.percent(75) {
                calls.extend(self.calls_of(client, 3));
            }
            if self.lasting.contains(&client) && self.has(Feature::Kept) && self.random.percent(15)
            {
                calls.extend(self.keep(client));
            }
            if self.has(Feature::Failures) && self.random.percent(20) {
                calls.extend(self.failure(client));
            }
            if !calls.is_empty() {
                talks.push(Talk { client, calls });
            }
        }
        talks
    }

    /// Some connections to some of those who can be reached.
    pub(super) fn calls_of(&mut self, client: usize, most: u64) -> Vec<Call> {
        let mut calls = Vec::new();
        for _ in 0..self.random.between(1, most) {
            let Some((server, target)) = self.target(client) else { continue };
            let ending = match self.random.below(100) {
                0..=59 => Ending::ClientCloses,
                60..=84 => Ending::ServerCloses,
                85..=92 if self.may_reset(client, server) => Ending::ClientResets,
                _ => Ending::ServerResets,
            };
            let deed = Deed::Burst {
                connections: self.random.between(1, 9) as u32,
                threads: self.random.between(1, 2) as u32,
                exchange: self.exchange(),
                ending,
            };
            calls.push(Call { target, dial: self.dial(target), deed });
        }
        calls
    }

    /// What a client that resets has not acknowledged, its kernel has taken, and only that knows: not which one of
    /// several servers behind one port or one address had sent it. Nor does anybody ask the kernel of a host without an agent.
    fn may_reset(&self, client: usize, server: usize) -> bool {
        let place = |at: usize| self.world.workloads.get(at).map(|workload| workload.place);
        if place(client).is_some_and(|place| Some(place.host()) == self.outside()) {
            return false;
        }
        let place = place(server);
        let of_several = |ear: &Ear| {
            let backend = |it: &(Place, u16)| Some(it.0) == place && it.1 == ear.port;
            let mut virtuals = self.world.virtuals.iter();
            ear.shared || virtuals.any(|it| it.backends.iter().any(backend))
        };
        !self.open.iter().any(|(owner, ear)| *owner == server && of_several(ear))
    }

    /// Each translated address is used by one alone, before others come: what several have done at an address of which
    /// nobody could know yet that it leads to several servers, is in nobody's numbers.
    pub(super) fn introduce(&mut self) {
        let mut hosts = BTreeSet::new();
        let mut firsts = self.lasting.clone();
        firsts.retain(|first| match self.world.workloads.get(*first).map(|it| it.place) {
            Some(Place::Host(host)) => {
                self.world.hosts.get(host).is_some_and(|host| host.agent) && hosts.insert(host)
            }
            _ => false,
        });
        let mut talks: Vec<Talk> = Vec::new();
        for (number, service) in self.world.virtuals.clone().into_iter().enumerate() {
            let place = |at: usize| self.world.workloads.get(at).map(|workload| workload.place);
            let apart =
                |at: &&usize| service.backends.iter().all(|(there, _)| Some(*there) != place(**at));
            let Some(client) = firsts.iter().find(apart).copied() else { continue };
            let target = Target { at: At::Virtual(number), port: service.port };
            let deed = Deed::Burst {
                connections: 2 * service.backends.len() as u32,
                threads: 1,
                exchange: self.exchange(),
                ending: Ending::ClientCloses,
            };
            let call = Call { target, dial: Dial::default(), deed };
            match talks.iter_mut().find(|talk| talk.client == client) {
                Some(talk) => talk.calls.push(call),
                None => talks.push(Talk { client, calls: vec![call] }),
            }
        }
        if !talks.is_empty() {
            self.world.steps.extend([Step::Talk(talks), Step::Introduce]);
        }
    }

    /// Connections that stay, between two who stay.
    fn keep(&mut self, client: usize) -> Option<Call> {
        let (server, target) = self.target(client)?;
        let swapped = self.swaps.iter().any(|swap| [swap.old, swap.new].contains(&server));
        if swapped {
            return None;
        }
        self.groups += 1;
        let deed = Deed::Open {
            group: format!("kept-{}", self.groups),
            connections: self.random.between(1, 3) as u32,
            exchange: self.exchange(),
        };
        let call = Call { target, dial: self.dial(target), deed };
        self.kept.push((client, self.may_reset(client, server), call.clone()));
        Some(call)
    }

    /// What happens on those that stay.
    fn go_on(&mut self, client: usize, act: usize) -> Vec<Call> {
        let mut calls = Vec::new();
        for (of, may_reset, call) in std::mem::take(&mut self.kept) {
            let Deed::Open { group, .. } = &call.deed else { continue };
            if of != client || self.random.percent(30) {
                self.kept.push((of, may_reset, call));
                continue;
            }
            let ending = match self.random.below(6) {
                // Some are open in the end.
                _ if act + 1 == self.acts && self.random.percent(40) => Ending::Keep,
                0 => Ending::ClientCloses,
                1 => Ending::ServerCloses,
                2 if may_reset => Ending::ClientResets,
                _ => Ending::Keep,
            };
            let deed = Deed::Go { group: group.clone(), exchange: self.exchange(), ending };
            calls.push(Call { target: call.target, dial: call.dial.clone(), deed });
            if ending == Ending::Keep {
                self.kept.push((of, may_reset, call));
            }
        }
        calls
    }

    /// An attempt that fails.
    fn failure(&mut self, client: usize) -> Option<Call> {
        let place = self.world.workloads.get(client)?.place;
        let covered = self.covered();
        let host = self.random.pick(&covered).copied()?;
        let at = match (place, self.random.below(4)) {
            (Place::Container(..), _) => return None,
            (Place::Host(_), 0) => At::Host6(host),
            // In a network of one's own it takes seconds to find that nobody is there.
            (_, 1) if host != place.host() => At::Nobody(host),
            (_, 2) => At::Of(Place::Host(self.outside().unwrap_or(host))),
            _ => At::Of(Place::Host(host)),
        };
        let port = if self.random.percent(30) { nat::SILENT } else { CLOSED };
        // Whoever is not answered gives up.
        let patience_ms = (port == nat::SILENT && !matches!(at, At::Nobody(_))).then_some(60);
        let deed = Deed::Fail { connections: self.random.between(1, 4) as u32 };
        Some(Call {
            target: Target { at, port },
            dial: Dial { patience_ms, ..Dial::default() },
            deed,
        })
    }

    /// A server that a client can reach, and how.
    fn target(&mut self, client: usize) -> Option<(usize, Target)> {
        let place = self.world.workloads.get(client)?.place;
        let mut near = Vec::new();
        let mut all = Vec::new();
        for (server, ear) in &self.open {
            // A client of its own would be an edge to itself, which is not what is tried here.
            let Some(there) = self.world.workloads.get(*server).map(|it| it.place) else {
                continue;
            };
            if *server == client || self.same(*server, client) {
                continue;
            }
            let ways = self.ways(place, there, *ear);
            all.extend(ways.iter().map(|target| (*server, *target)));
            if ear.on == On::Loopback || matches!(there, Place::Container(..)) || ear.shared {
                near.extend(ways.into_iter().map(|target| (*server, target)));
            }
        }
        // What is rare to be reached is asked for more often.
        let from = if self.random.percent(40) && !near.is_empty() { near } else { all };
        self.random.pick(&from).copied()
    }

    /// Whether two workloads have one name.
    fn same(&self, one: usize, other: usize) -> bool {
        let name = |at: usize| self.world.workloads.get(at).map(|workload| &workload.shown);
        name(one) == name(other)
    }

    /// How a client at a place reaches an ear at another.
    fn ways(&self, from: Place, to: Place, ear: Ear) -> Vec<Target> {
        let port = ear.port;
        let mut at = Vec::new();
        let covered = |place: Place| self.world.hosts.get(place.host()).is_some_and(|it| it.agent);
        if from == to && ear.on != On::Own {
            at.push(At::Loopback);
        }
        if ear.on == On::Loopback || (!covered(from) && !covered(to)) {
            return at.into_iter().map(|at| Target { at, port }).collect();
        }
        let leaves = self.has(Feature::Snat);
        let direct = match (from, to) {
            _ if from == to => true,
            (Place::Container(here, _), Place::Container(there, _) | Place::Host(there))
                if here == there =>
            {
                true
            }
            (Place::Host(here), Place::Container(there, _)) => here == there,
            (_, Place::Container(..)) => false,
            (Place::Container(..), _) => leaves,
            _ => true,
        };
        if direct {
            at.push(At::Of(to));
        }
        if let (Place::Host(_), Place::Host(host), On::Both) = (from, to, ear.on) {
            at.push(At::Host6(host));
        }
        let mut targets: Vec<_> = at.into_iter().map(|at| Target { at, port }).collect();
        // Not from the same bridge, where a container's own address would do.
        let apart = match from {
            Place::Container(here, _) => leaves && here != to.host(),
            _ => true,
        };
        let published = self.world.published.iter().filter(|it| it.place == to && it.to == port);
        targets.extend(
            published
                .filter(|_| apart)
                .map(|it| Target { at: At::Of(Place::Host(to.host())), port: it.port }),
        );
        if covered(from) && (leaves || !matches!(from, Place::Container(..))) {
            for (number, service) in self.world.virtuals.iter().enumerate() {
                let leads = service.backends.contains(&(to, port));
                // Whoever is behind an address is not answered by itself through it.
                if leads && service.backends.iter().all(|(place, _)| *place != from) {
                    targets.push(Target { at: At::Virtual(number), port: service.port });
                }
            }
        }
        targets
    }

    fn exchange(&mut self) -> Exchange {
        let response_bytes =
            if self.random.percent(3) { 500_000 } else { self.random.between(1, 30_000) };
        let means = match self.random.below(10) {
            0 => Means::Sendfile,
            1 => Means::Splice,
            _ => Means::Write,
        };
        Exchange {
            requests: self.random.between(1, 3) as u32,
            request_bytes: self.random.between(24, 6_000),
            response_bytes,
            means,
        }
    }

    fn dial(&mut self, target: Target) -> Dial {
        let mapped = self.random.percent(10) && !matches!(target.at, At::Host6(_));
        Dial { mapped, ..Dial::default() }
    }
}
