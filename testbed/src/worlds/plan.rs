//! What a world is made of.

use std::collections::{BTreeMap, BTreeSet};

use crate::traffic::{Dial, Ending, Exchange};

/// Everything that happens in a world is in here; addresses that a lab gives are left to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// What it was drawn from.
    pub seed: u64,
    /// Its hosts.
    pub hosts: Vec<HostPlan>,
    /// Everybody who ever lives there.
    pub workloads: Vec<Workload>,
    /// Addresses that hosts translate into others.
    pub virtuals: Vec<Virtual>,
    /// Ports of hosts that lead to a container.
    pub published: Vec<Published>,
    /// Whether containers may leave their host, behind its address.
    pub masquerade: bool,
    /// What happens, one thing after the other.
    pub steps: Vec<Step>,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// Its name.
    pub name: String,
    /// Whether an agent is there.
    pub agent: bool,
    /// Whether it has a bridge with the same addresses as other hosts' bridges.
    pub engine: bool,
}

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// That of a host.
    Host(usize),
    /// One with an address that the whole fleet knows: the host's number, and its own.
    Pod(usize, u8),
    /// One behind the bridge of a host, with an address that other hosts have as well.
    Container(usize, u8),
}

impl Place {
    /// The host that it is on.
    #[must_use]
    pub const fn host(self) -> usize {
        match self {
            Place::Host(host) | Place::Pod(host, _) | Place::Container(host, _) => host,
        }
    }
}

/// A process, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Name of its executable.
    pub program: String,
    /// Its cgroup below that of the host, if it has one.
    pub leaf: Option<String>,
    /// What the graph has to call it.
    pub shown: String,
    /// What kind of thing the graph has to take it for.
    pub kind: &'static str,
    /// Where it lives.
    pub place: Place,
    /// Where it listens from its start on.
    pub ears: Vec<Ear>,
}

/// Where somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ear {
    /// At which address.
    pub on: On,
    /// At which port.
    pub port: u16,
    /// Others may listen there, too.
    pub shared: bool,
}

/// Addresses to listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum On {
    /// Every IPv4 address of the place.
    Any,
    /// Every address of the place.
    Both,
    /// The place's own IPv4 address.
    Own,
    /// Loopback.
    Loopback,
}

/// Whom a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// At which address.
    pub at: At,
    /// At which port.
    pub port: u16,
}

/// An address, by what it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// A place's IPv4 address.
    Of(Place),
    /// A host's IPv6 address.
    Host6(usize),
    /// Loopback.
    Loopback,
    /// A translated address.
    Virtual(usize),
    /// In the network of a host, but nobody's.
    Nobody(usize),
}

/// An address that hosts translate, as Kubernetes does for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtual {
    /// The port that clients ask for.
    pub port: u16,
    /// Where they get, by turns.
    pub backends: Vec<(Place, u16)>,
}

/// A port of a host that leads to a container there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The host's port.
    pub port: u16,
    /// The container.
    pub place: Place,
    /// Its port.
    pub to: u16,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A workload starts and listens.
    Start(usize),
    /// A workload ends, its connections having ended.
    Stop(usize),
    /// A workload no longer listens at its first ear; another one does, at once.
    HandOver(usize, usize),
    /// Workloads talk, all at the same time, each one thing after the other.
    Talk(Vec<Talk>),
    /// Containers come, talk and go, all at the same time.
    Brief(Vec<Brief>),
    /// Nothing happens for some milliseconds.
    Rest(u64),
}

/// What one workload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talk {
    /// Who.
    pub client: usize,
    /// What, in this order.
    pub calls: Vec<Call>,
}

/// A short life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brief {
    /// Whose.
    pub workload: usize,
    /// What it does in it.
    pub calls: Vec<Call>,
}

/// Connections to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// To whom.
    pub target: Target,
    /// How the sockets are made.
    pub dial: Dial,
    /// What is done.
    pub deed: Deed,
}

/// What is done with connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// They are opened, exchange and end.
    Burst { connections: u32, threads: u32, exchange: Exchange, ending: Ending },
    /// They are opened, exchange and stay, under this name.
    Open { group: String, connections: u32, exchange: Exchange },
    /// Those of this name exchange, and end or stay.
    Go { group: String, exchange: Exchange, ending: Ending },
    /// They fail.
    Fail { connections: u32 },
}

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
                Step::Rest(_) => {}
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
