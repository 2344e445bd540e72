//! A world that happens: hosts with agents, an aggregator, and processes that talk.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    ground::Ground,
    plan::{Brief, Call, Deed, Step, Talk, Workload, World},
};
use crate::{
    Error, Result,
    fleet::{Fleet, Graph, Waited},
    lab::Lab,
    traffic::{Burst, Command, End, Ending, Open, Peer, Report},
    truth::{self, Truth},
};

/// Interval of the agents: short, so that a world is.
const INTERVAL: Duration = Duration::from_millis(250);

/// The shortest life that has to be seen, on a host that has its processors to itself.
const BRIEF: Duration = Duration::from_millis(200);

/// However busy the others are, a short life ends.
const BRIEF_LIMIT: Duration = Duration::from_secs(5);

/// How long the ends of connections may take to learn of their end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How long it may take until the first use of an address is known to be what it was.
const KNOWN_LIMIT: Duration = Duration::from_secs(30);

/// How long it may take from then on until the hosts count apart what they are asked to.
const TOLD: Duration = Duration::from_secs(5);

/// Pause between two looks at something that takes a moment.
const LOOK: Duration = Duration::from_millis(20);

/// A world that is there.
pub(super) struct Stage<'a> {
    world: &'a World,
    /// Where the graph of all that happened is served.
    pub(super) path: String,
    /// What they counted who live no more.
    gone: Vec<(usize, Report)>,
    // Processes first, then what they live in.
    peers: BTreeMap<usize, Peer>,
    pub(super) fleet: Fleet,
    ground: Ground<'a>,
    pub(super) lab: Lab,
}

impl<'a> Stage<'a> {
    /// Makes the hosts, and starts the aggregator and the agents.
    ///
    /// # Errors
    /// When something cannot be made or does not start.
    pub(super) fn new(world: &'a World) -> Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let path = format!("/api/v1/topology?from={}", since.as_millis());
        let lab = Lab::new()?;
        let mut fleet = Fleet::start(&lab, INTERVAL)?;
        let ground = Ground::new(world, &lab)?;
        fleet.add_agents(&ground.covered())?;
        Ok(Self { world, path, gone: Vec::new(), peers: BTreeMap::new(), fleet, ground, lab })
    }

    /// Lets it all happen.
    ///
    /// # Errors
    /// When a process does not do as it is told.
    pub(super) fn play(&mut self) -> Result<()> {
        for step in &self.world.steps {
            match step {
                Step::Start(who) => self.start(*who)?,
                Step::Stop(who) => self.stop(*who)?,
                Step::HandOver(from, to) => self.hand_over(*from, *to)?,
                Step::Talk(talks) => self.talk(talks)?,
                Step::Brief(briefs) => self.brief(briefs)?,
                Step::Rest(ms) => thread::sleep(Duration::from_millis(*ms)),
                Step::Introduce => self.introduce()?,
            }
        }
        Ok(())
    }

    /// Waits until the graph is true, if it will be, and then until the hosts have been told what follows from it.
    fn introduce(&mut self) -> Result<()> {
        let truth = self.truth()?;
        let deadline = Instant::now() + KNOWN_LIMIT;
        while Instant::now() < deadline {
            let graph = Graph::parse(&self.fleet.json(&self.path)?)?;
            let pending = graph.documents.values().any(|edge| edge["pending"] != false);
            if !pending && graph.must_equal(&truth).is_ok() {
                break;
            }
            thread::sleep(LOOK);
        }
        thread::sleep(TOLD);
        Ok(())
    }

    /// The truth, by what every process has counted.
    ///
    /// # Errors
    /// When it does not fit together in time.
    pub(super) fn truth(&mut self) -> Result<Truth> {
        let deadline = Instant::now() + END_LIMIT;
        loop {
            let reports = self.reports()?;
            let told: Vec<_> =
                reports.iter().map(|(who, report)| (self.name(*who), report)).collect();
            match truth::truth_of(&told, |target| self.ground.name_of(target)) {
                Err(_) if Instant::now() < deadline => thread::sleep(LOOK),
                result => return result,
            }
        }
    }

    /// What every process has counted, by the number of its workload.
    ///
    /// # Errors
    /// When one does not answer.
    pub(super) fn reports(&mut self) -> Result<Vec<(usize, Report)>> {
        let mut reports = self.gone.clone();
        for (who, peer) in &mut self.peers {
            reports.push((*who, peer.report()?));
        }
        Ok(reports)
    }

    /// What the graph has to call a workload; nothing where no agent is.
    fn name(&self, who: usize) -> Option<&'a str> {
        let workload = self.world.workloads.get(who)?;
        let host = self.world.hosts.get(workload.place.host())?;
        host.agent.then_some(workload.shown.as_str())
    }

    fn start(&mut self, who: usize) -> Result<()> {
        let workload = self.workload(who)?;
        self.ground.enter(workload.place)?;
        let mut peer = self.ground.process(workload)?;
        for ear in &workload.ears {
            peer.listen_as(self.ground.listen(workload.place, *ear))?;
        }
        self.peers.insert(who, peer);
        Ok(())
    }

    /// Ends a workload that has nothing open, and keeps what it counted.
    fn stop(&mut self, who: usize) -> Result<()> {
        let workload = self.workload(who)?;
        let mut peer = self.take(who)?;
        let report = settled(&mut peer)?;
        drop(peer);
        self.gone.push((who, report));
        self.ground.leave(workload)
    }

    fn hand_over(&mut self, from: usize, to: usize) -> Result<()> {
        let workload = self.workload(from)?;
        let Some(ear) = workload.ears.first() else { return Ok(()) };
        let listen = self.ground.listen(workload.place, *ear);
        self.peer(from)?.ask(&Command::Unlisten { address: listen.address })?;
        self.peer(to)?.listen_as(listen).map(drop)
    }

    fn talk(&mut self, talks: &[Talk]) -> Result<()> {
        let mut told = Vec::new();
        for talk in talks {
            let commands = self.commands(talk.client, &talk.calls)?;
            let peer = self.peer(talk.client)?;
            commands.iter().try_for_each(|command| peer.tell(command))?;
            told.push((talk.client, commands.len()));
        }
        for (client, answers) in told {
            let peer = self.peer(client)?;
            (0..answers).try_for_each(|_| peer.answer().map(drop))?;
        }
        Ok(())
    }

    /// Each life on a thread of its own, so that all are as short as they are meant to be.
    fn brief(&mut self, briefs: &[Brief]) -> Result<()> {
        let mut lives = Vec::new();
        for brief in briefs {
            let workload = self.workload(brief.workload)?;
            self.ground.enter(workload.place)?;
            lives.push((brief.workload, workload, self.commands(brief.workload, &brief.calls)?));
        }
        let (ground, fleet) = (&self.ground, &self.fleet);
        let host = |workload: &Workload| {
            let host = self.world.hosts.get(workload.place.host());
            host.map(|host| host.name.as_str()).unwrap_or_default()
        };
        let reports: Result<Vec<_>> = thread::scope(|scope| {
            let threads: Vec<_> = lives
                .iter()
                .map(|(who, workload, commands)| {
                    scope.spawn(|| {
                        let waited = || fleet.waited(host(workload));
                        Ok((*who, live(ground, workload, commands, &waited)?))
                    })
                })
                .collect();
            let panicked = |_| Err(Error::Unavailable("a short life panicked".into()));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
        });
        self.gone.extend(reports?);
        lives.iter().try_for_each(|(_, workload, _)| self.ground.leave(workload))
    }

    fn commands(&self, client: usize, calls: &[Call]) -> Result<Vec<Command>> {
        let place = self.workload(client)?.place;
        let mut commands = Vec::new();
        for Call { target, dial, deed } in calls {
            let (target, dial) = (self.ground.target(place, *target), dial.clone());
            let open = |group: &str, connections| {
                Command::Open(Open { group: group.into(), target, connections, dial: dial.clone() })
            };
            match deed.clone() {
                Deed::Burst { connections, threads, exchange, ending } => {
                    let burst = Burst { target, connections, threads, exchange, ending, dial };
                    commands.push(Command::Burst(burst));
                }
                Deed::Open { group, connections, exchange } => {
                    commands.push(open(&group, connections));
                    // Once answered, they are accepted.
                    commands.push(Command::Exchange { group, exchange, ending: Ending::Keep });
                }
                Deed::Go { group, exchange, ending } => {
                    commands.push(Command::Exchange { group, exchange, ending });
                }
                Deed::Fail { connections } => commands.push(open("failed", connections)),
            }
        }
        Ok(commands)
    }

    fn workload(&self, who: usize) -> Result<&'a Workload> {
        let missing = || Error::Unavailable(format!("no workload {who}"));
        self.world.workloads.get(who).ok_or_else(missing)
    }

    fn peer(&mut self, who: usize) -> Result<&mut Peer> {
        self.peers.get_mut(&who).ok_or_else(|| Error::Unavailable(format!("{who} does not live")))
    }

    fn take(&mut self, who: usize) -> Result<Peer> {
        self.peers.remove(&who).ok_or_else(|| Error::Unavailable(format!("{who} does not live")))
    }
}

/// A process that does what it is told, and is gone. `waited` says how long its host's agent had to wait for others.
fn live(
    ground: &Ground<'_>,
    workload: &Workload,
    commands: &[Command],
    waited: &dyn Fn() -> Waited,
) -> Result<Report> {
    let before = waited();
    let mut peer = ground.process(workload)?;
    let begin = Instant::now();
    for command in commands {
        peer.ask(command)?;
    }
    let report = settled(&mut peer)?;
    while begin.elapsed() < (BRIEF + waited().since(&before)).min(BRIEF_LIMIT) {
        thread::sleep(LOOK);
    }
    Ok(report)
}

/// What a process counted, once all its connections have ended.
fn settled(peer: &mut Peer) -> Result<Report> {
    let deadline = Instant::now() + END_LIMIT;
    loop {
        let report = peer.report()?;
        let open = report.connections.iter().find(|connection| connection.end == End::Open);
        match open {
            None => return Ok(report),
            Some(open) if Instant::now() > deadline => {
                let reason = format!("still open: {open:?}");
                return Err(Error::Answer { who: peer.name().into(), reason });
            }
            Some(_) => thread::sleep(LOOK),
        }
    }
}
