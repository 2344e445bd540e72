//! What every test here starts with.

use std::{
    fs::File,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use testbed::{
    Result, binaries, environment,
    fleet::{Fleet, Graph},
    lab::{Host, Lab, mount_point},
    traffic::Peer,
    truth::{self, Truth},
};

use crate::support::skip;

/// Interval of the agents: short, so that tests are.
pub const INTERVAL: Duration = Duration::from_millis(250);
/// How long the graph may take to show what has happened.
const SHOW_LIMIT: Duration = Duration::from_secs(10);
/// How long the graph is watched for something that must not come.
const STAY: Duration = Duration::from_secs(1);
/// Longer than the ten seconds after which an edge settles.
pub const SETTLED: Duration = Duration::from_secs(20);
/// Names of the hosts.
const HOSTS: [&str; 3] = ["one", "two", "three"];

/// Three hosts with agents, and an aggregator.
pub struct World {
    pub fleet: Fleet,
    pub hosts: [Host; 3],
    pub lab: Lab,
    // Fleets one after the other: tests of time share the machine with nobody.
    pub _alone: Flock<File>,
}

/// Three hosts without agents.
pub struct Unstarted {
    pub hosts: [Host; 3],
    pub lab: Lab,
    pub alone: Flock<File>,
}

/// A world, or `None` where there can be none: said loudly, and a failure in CI.
pub fn world() -> Option<World> {
    world_with(Duration::ZERO)
}

/// A world in which the third host is this far away, one way.
pub fn world_with(delay: Duration) -> Option<World> {
    possible().then(|| World::start(Unstarted::new(delay).unwrap()).unwrap())
}

/// Hosts without agents, or `None` where there can be none.
pub fn unstarted() -> Option<Unstarted> {
    possible().then(|| Unstarted::new(Duration::ZERO).unwrap())
}

/// Alone among those that make labs on this machine, or `None` where there can be none.
pub fn alone() -> Option<Flock<File>> {
    possible().then(lock)
}

fn lock() -> Flock<File> {
    // Something that every user of this kernel has, so that no lock file is left.
    let file = File::open(mount_point().unwrap()).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap()
}

fn possible() -> bool {
    let programs = ["weft-aggregator", "weft-agent", "weft-traffic"];
    let ready = environment::check()
        .and_then(|()| programs.iter().try_for_each(|program| binaries::find(program).map(drop)));
    if let Err(reason) = &ready {
        skip(&reason.to_string());
    }
    ready.is_ok()
}

impl Unstarted {
    fn new(delay: Duration) -> Result<Self> {
        let alone = lock();
        let lab = Lab::new()?;
        let hosts = [lab.host(HOSTS[0])?, lab.host(HOSTS[1])?, lab.distant_host(HOSTS[2], delay)?];
        Ok(Self { hosts, lab, alone })
    }
}

impl World {
    /// Starts an aggregator, and an agent on every host.
    pub fn start(unstarted: Unstarted) -> Result<Self> {
        Self::start_every(unstarted, INTERVAL)
    }

    /// As [`World::start`], with another interval of the agents.
    pub fn start_every(unstarted: Unstarted, interval: Duration) -> Result<Self> {
        let Unstarted { hosts, lab, alone } = unstarted;
        let mut fleet = Fleet::start(&lab, interval)?;
        for host in &hosts {
            fleet.add_agent(host)?;
        }
        Ok(Self { fleet, hosts, lab, _alone: alone })
    }

    /// Whose address this is when nobody answers there: the host's, else nobody's.
    pub fn name_of(&self, address: SocketAddr) -> String {
        let ip = address.ip();
        let owner = self.hosts.iter().find(|host| host.ipv4() == ip || host.ipv6() == ip);
        owner.map_or_else(|| ip.to_string(), |host| host.name().to_owned())
    }

    /// Collects the truth, waits until the graph equals it and makes sure that it stays so.
    pub fn must_show(&self, peers: &mut [&mut Peer]) -> Graph {
        let truth = truth::collect(peers, |address| self.name_of(address)).unwrap();
        self.must_become(&truth)
    }

    /// Waits until the graph equals the truth and makes sure that it stays so.
    pub fn must_become(&self, truth: &Truth) -> Graph {
        self.must_become_within(SHOW_LIMIT, truth)
    }

    /// As [`World::must_become`], with another limit.
    pub fn must_become_within(&self, limit: Duration, truth: &Truth) -> Graph {
        let equal = |fleet: &Fleet| -> std::result::Result<Graph, String> {
            let graph = fleet.graph().map_err(|error| error.to_string())?;
            graph.must_equal(truth).map(|()| graph)
        };
        self.fleet.wait("the true graph", limit, equal).unwrap_or_else(|e| panic!("{e}"));
        std::thread::sleep(STAY);
        equal(&self.fleet).unwrap_or_else(|lines| panic!("it did not stay true:\n{lines}"))
    }

    /// Stops it all; everything must end well.
    pub fn stop(self) {
        self.fleet.stop().unwrap();
    }
}

/// The address of a port.
pub fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}
