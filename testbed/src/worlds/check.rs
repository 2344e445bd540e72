//! Whether a world makes sense: whoever is asked is there, and nobody else is where somebody is.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{At, Call, Deed, Ear, On, Place, Published, Step, Target, Workload, World};
use crate::traffic::Ending;

impl World {
    /// Says what makes no sense in it, if anything does.
    ///
    /// # Errors
    /// In words, when something does.
    pub fn check(&self) -> Result<(), String> {
        let mut now = Now::default();
        for workload in &self.workloads {
            let host = self.hosts.get(workload.place.host()).ok_or("a workload is nowhere")?;
            if matches!(workload.place, Place::Container(..)) && !host.engine {
                return Err(format!("{workload:?} is behind a bridge that is not there"));
            }
        }
        for step in &self.steps {
            match step {
                Step::Start(who) => now.start(self, *who)?,
                Step::Stop(who) => now.stop(*who)?,
                Step::HandOver(from, to) => {
                    let ear = *self.workload(*from)?.ears.first().ok_or("nothing to hand over")?;
                    now.lives(*from)?;
                    now.lives(*to)?;
                    now.close(self.workload(*from)?.place, ear, *from)?;
                    now.open(self.workload(*to)?.place, ear, *to)?;
                }
                Step::Talk(talks) => {
                    for talk in talks {
                        now.lives(talk.client)?;
                        talk.calls.iter().try_for_each(|call| now.call(self, talk.client, call))?;
                    }
                }
                Step::Brief(briefs) => {
                    for brief in briefs {
                        now.start(self, brief.workload)?;
                        let mut calls = brief.calls.iter();
                        calls.try_for_each(|call| now.call(self, brief.workload, call))?;
                    }
                    briefs.iter().try_for_each(|brief| now.stop(brief.workload))?;
                }
                Step::Rest(_) | Step::Introduce => {}
            }
        }
        Ok(())
    }

    fn workload(&self, at: usize) -> Result<&Workload, String> {
        self.workloads.get(at).ok_or_else(|| format!("there is no workload {at}"))
    }

    /// Where a target leads a client, at the last.
    fn reached(&self, client: usize, target: Target) -> Result<Vec<(Place, Target)>, String> {
        let place = self.workload(client)?.place;
        let (at, port) = (target.at, target.port);
        let published = |published: &&Published| {
            published.port == port && At::Of(Place::Host(published.place.host())) == at
        };
        if let Some(published) = self.published.iter().find(published) {
            let place = published.place;
            return Ok(vec![(place, Target { at: At::Of(place), port: published.to })]);
        }
        Ok(match at {
            At::Of(there) => vec![(there, target)],
            At::Host6(host) => vec![(Place::Host(host), target)],
            At::Loopback => vec![(place, target)],
            At::Nobody(_) => Vec::new(),
            At::Virtual(number) => {
                let found = self.virtuals.get(number).filter(|found| found.port == port);
                let backends = &found.ok_or("a target is no service")?.backends;
                let leads = |(place, port): &(Place, u16)| {
                    (*place, Target { at: At::Of(*place), port: *port })
                };
                backends.iter().map(leads).collect()
            }
        })
    }
}

/// Who lives and listens at a moment.
#[derive(Default)]
struct Now {
    lives: BTreeSet<usize>,
    ears: BTreeMap<(Place, u16), Vec<(usize, Ear)>>,
    groups: BTreeSet<(usize, String)>,
}

impl Now {
    fn start(&mut self, world: &World, who: usize) -> Result<(), String> {
        let workload = world.workload(who)?;
        if !self.lives.insert(who) {
            return Err(format!("{who} starts twice"));
        }
        workload.ears.iter().try_for_each(|ear| self.open(workload.place, *ear, who))
    }

    fn stop(&mut self, who: usize) -> Result<(), String> {
        self.lives(who)?;
        if self.groups.iter().any(|(client, _)| *client == who) {
            return Err(format!("{who} ends with connections open"));
        }
        self.lives.remove(&who);
        self.ears.values_mut().for_each(|ears| ears.retain(|(owner, _)| *owner != who));
        Ok(())
    }

    fn lives(&self, who: usize) -> Result<(), String> {
        self.lives.get(&who).map(drop).ok_or_else(|| format!("{who} does not live"))
    }

    fn open(&mut self, place: Place, ear: Ear, who: usize) -> Result<(), String> {
        let ears = self.ears.entry((place, ear.port)).or_default();
        // Linux lets listeners at different addresses have one port; here that would only be hard to read.
        if ears.iter().any(|(_, other)| !(other.shared && ear.shared)) {
            return Err(format!("{who} listens where somebody does: {place:?} {ear:?}"));
        }
        ears.push((who, ear));
        Ok(())
    }

    fn close(&mut self, place: Place, ear: Ear, who: usize) -> Result<(), String> {
        let ears = self.ears.entry((place, ear.port)).or_default();
        let at = ears.iter().position(|(owner, _)| *owner == who);
        ears.remove(at.ok_or_else(|| format!("{who} does not listen"))?);
        Ok(())
    }

    fn call(&mut self, world: &World, client: usize, call: &Call) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{client}: {what}: {call:?}"));
        let reached = world.reached(client, call.target)?;
        let heard = |(place, target): &(Place, Target)| {
            let ears = self.ears.get(&(*place, target.port)).into_iter().flatten();
            ears.filter(|(_, ear)| match target.at {
                At::Loopback => ear.on != On::Own,
                At::Host6(_) => ear.on == On::Both,
                _ => ear.on != On::Loopback,
            })
            .count()
        };
        match &call.deed {
            Deed::Fail { .. } if reached.iter().any(|place| heard(place) > 0) => {
                wrong("is answered")
            }
            Deed::Fail { .. } => Ok(()),
            _ if reached.is_empty() || reached.iter().any(|place| heard(place) == 0) => {
                wrong("is answered by nobody")
            }
            Deed::Burst { .. } => Ok(()),
            Deed::Open { group, .. } => match self.groups.insert((client, group.clone())) {
                true => Ok(()),
                false => wrong("is there"),
            },
            Deed::Go { group, ending, .. } => {
                let name = (client, group.clone());
                let there = match ending {
                    Ending::Keep => self.groups.contains(&name),
                    _ => self.groups.remove(&name),
                };
                if there { Ok(()) } else { wrong("is not open") }
            }
        }
    }
}
