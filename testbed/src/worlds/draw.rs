//! A world out of a seed.

mod cast;
mod people;
mod talk;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    feature::{Feature, Features},
    plan::{Brief, Call, Ear, HostPlan, On, Place, Step, Virtual, World},
};
use crate::random::Random;

/// Hosts of a world.
const HOSTS: (u64, u64) = (3, 6);

/// Workloads of a world, those that live shortly included.
const WORKLOADS: (u64, u64) = (20, 60);

/// How often everybody talks.
const ACTS: (u64, u64) = (3, 5);

/// The world of a seed, with nothing in it but these features.
#[must_use]
pub fn draw(seed: u64, features: &Features) -> World {
    let mut draw = Draw::new(seed, features);
    draw.hosts();
    draw.cast();
    draw.virtuals();
    draw.acts();
    draw.world
}

/// A world that is being drawn.
struct Draw<'a> {
    random: Random,
    features: &'a Features,
    world: World,
    /// Ports that somebody has, ever, in a place.
    ports: BTreeMap<Place, BTreeSet<u16>>,
    /// The last address behind each host's bridges.
    numbers: BTreeMap<usize, u8>,
    /// How many names were given.
    names: usize,
    acts: usize,
    /// Those that live from the first to the last moment.
    lasting: BTreeSet<usize>,
    swaps: Vec<Swap>,
    /// Short lives, and in which act they are.
    briefs: Vec<(usize, usize)>,
    /// Who lives in the running act.
    alive: BTreeSet<usize>,
    /// Where somebody listens in the running act.
    open: Vec<(usize, Ear)>,
    /// Connections that are open: the client, whether it may reset them, and how they were opened.
    kept: Vec<(usize, bool, Call)>,
    groups: usize,
}

/// One takes the place of another.
#[derive(Clone, Copy, Debug)]
struct Swap {
    act: usize,
    how: How,
    old: usize,
    new: usize,
}

/// How one takes the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// The first one is gone before the second one comes.
    Replace,
    /// Both live, and a port goes from the first to the second.
    HandOver,
}

impl<'a> Draw<'a> {
    fn new(seed: u64, features: &'a Features) -> Self {
        let mut random = Random::new(seed);
        let acts = random.between(ACTS.0, ACTS.1) as usize;
        let world = World {
            seed,
            hosts: Vec::new(),
            workloads: Vec::new(),
            virtuals: Vec::new(),
            published: Vec::new(),
            masquerade: features.contains(&Feature::Snat),
            steps: Vec::new(),
        };
        Self {
            random,
            features,
            world,
            ports: BTreeMap::new(),
            numbers: BTreeMap::new(),
            names: 0,
            acts,
            lasting: BTreeSet::new(),
            swaps: Vec::new(),
            briefs: Vec::new(),
            alive: BTreeSet::new(),
            open: Vec::new(),
            kept: Vec::new(),
            groups: 0,
        }
    }

    fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    fn hosts(&mut self) {
        let hosts = self.random.between(HOSTS.0, HOSTS.1) as usize;
        for number in 0..hosts {
            // The last one, so that the first ones are the same with and without.
            let agent = !(self.has(Feature::External) && number + 1 == hosts);
            // At least two, or no address is there twice.
            let engine =
                self.has(Feature::Bridges) && agent && (number < 2 || self.random.percent(50));
            self.world.hosts.push(HostPlan { name: format!("host-{number}"), agent, engine });
        }
    }

    /// Hosts with an agent.
    fn covered(&self) -> Vec<usize> {
        let hosts = self.world.hosts.iter().enumerate();
        hosts.filter(|(_, host)| host.agent).map(|(at, _)| at).collect()
    }

    /// Hosts without an agent.
    fn outside(&self) -> Option<usize> {
        self.world.hosts.iter().position(|host| !host.agent)
    }

    /// Addresses that lead to one or several of those servers that stay.
    fn virtuals(&mut self) {
        if !self.has(Feature::Dnat) {
            return;
        }
        let mut backends: Vec<(Place, u16)> = Vec::new();
        for at in &self.lasting {
            let Some(workload) = self.world.workloads.get(*at) else { continue };
            let known = matches!(workload.place, Place::Host(host) | Place::Pod(host, _)
                if self.world.hosts.get(host).is_some_and(|host| host.agent));
            let ear = workload.ears.first().filter(|ear| known && ear.on != On::Loopback);
            backends.extend(ear.map(|ear| (workload.place, ear.port)));
        }
        backends.dedup();
        for _ in 0..self.random.between(1, 3) {
            let number = self.random.between(1, 3);
            let mut chosen = BTreeSet::new();
            for _ in 0..number {
                chosen.extend(self.random.pick(&backends).copied());
            }
            let port = self.random.between(80, 90) as u16;
            if !chosen.is_empty() {
                let backends = chosen.into_iter().collect();
                self.world.virtuals.push(Virtual { port, backends });
            }
        }
    }

    fn acts(&mut self) {
        for act in 0..self.acts {
            if act == 0 {
                self.begin();
                self.introduce();
            }
            for swap in self.swaps.clone().into_iter().filter(|swap| swap.act == act) {
                self.swap(swap);
            }
            let talks = self.talks(act);
            self.world.steps.push(Step::Talk(talks));
            let briefs: Vec<_> = self.briefs.iter().filter(|(in_act, _)| *in_act == act).collect();
            let briefs: Vec<usize> = briefs.into_iter().map(|(_, workload)| *workload).collect();
            if !briefs.is_empty() {
                let briefs = briefs
                    .into_iter()
                    .map(|workload| Brief { workload, calls: self.calls_of(workload, 2) });
                let briefs = briefs.collect();
                self.world.steps.push(Step::Brief(briefs));
            }
            if self.random.percent(50) {
                let rest = self.random.between(50, 700);
                self.world.steps.push(Step::Rest(rest));
            }
        }
    }

    /// Everybody starts who does not come later.
    fn begin(&mut self) {
        let mut first = self.lasting.clone();
        for swap in &self.swaps {
            first.insert(swap.old);
            if swap.how == How::HandOver {
                first.insert(swap.new);
            }
        }
        for workload in first {
            self.start(workload);
        }
    }

    fn start(&mut self, workload: usize) {
        self.alive.insert(workload);
        let ears = self.world.workloads.get(workload).map(|it| it.ears.clone()).unwrap_or_default();
        self.open.extend(ears.into_iter().map(|ear| (workload, ear)));
        self.world.steps.push(Step::Start(workload));
    }

    fn swap(&mut self, swap: Swap) {
        let Swap { how, old, new, .. } = swap;
        match how {
            How::Replace => {
                self.alive.remove(&old);
                self.open.retain(|(owner, _)| *owner != old);
                self.world.steps.push(Step::Stop(old));
                self.start(new);
            }
            How::HandOver => {
                for (owner, _) in &mut self.open {
                    if *owner == old {
                        *owner = new;
                    }
                }
                self.world.steps.push(Step::HandOver(old, new));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some_features() -> impl Strategy<Value = Features> {
        proptest::sample::subsequence(Feature::ALL.to_vec(), 0..=Feature::ALL.len())
            .prop_map(|features| features.into_iter().collect())
    }

    proptest! {
        #[test]
        fn every_world_makes_sense(seed in any::<u64>(), features in some_features()) {
            let world = draw(seed, &features);
            prop_assert_eq!(world.check(), Ok(()));
            let (hosts, workloads) = (world.hosts.len() as u64, world.workloads.len() as u64);
            prop_assert!((HOSTS.0..=HOSTS.1).contains(&hosts), "{} hosts", hosts);
            prop_assert!((WORKLOADS.0..=WORKLOADS.1).contains(&workloads), "{} workloads", workloads);
            prop_assert_eq!(&draw(seed, &features), &world);
        }

        #[test]
        fn a_world_has_what_its_features_promise(seed in any::<u64>()) {
            let features: Features = Feature::ALL.into_iter().collect();
            let world = draw(seed, &features);
            let outside = world.hosts.iter().filter(|host| !host.agent).count();
            prop_assert_eq!(outside, 1);
            prop_assert!(world.hosts.iter().filter(|host| host.engine).count() >= 2);
            prop_assert!(!world.virtuals.is_empty() && !world.published.is_empty());
            let ears = || world.workloads.iter().flat_map(|workload| &workload.ears);
            prop_assert!(ears().any(|ear| ear.shared) && ears().any(|ear| ear.on == On::Loopback));
            let swapped = |step: &Step| matches!(step, Step::Stop(_) | Step::HandOver(..));
            prop_assert!(world.steps.iter().any(swapped));
            prop_assert!(world.steps.iter().any(|step| matches!(step, Step::Brief(_))));
        }
    }
}
