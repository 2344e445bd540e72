//! A fleet that does not exist: services, their instances on nodes, and the links between them.
//!
//! Everything follows from the seed and the scenario, the traffic of every tick too: the agents
//! of both ends of a link work out the same numbers without a word between them.

mod churn;
mod random;
mod traffic;

#[cfg(test)]
mod tests;

use std::{collections::HashSet, net::Ipv4Addr};

pub use random::Random;
pub use traffic::Increment;

use crate::scenario::Fleet;
use random::Zipf;

/// What a random stream is for: the first number after the seed.
mod purpose {
    pub const WORLD: u64 = 1;
    pub const CHURN: u64 = 2;
    pub const LINK: u64 = 3;
    pub const SHARED: u64 = 4;
    pub const SIDE: u64 = 5;
    pub const STORM: u64 = 6;
    pub const REST: u64 = 7;
    pub const NAT: u64 = 8;
}

/// A number of a tick, one per interval.
pub type Tick = u32;

/// A tick that does not come.
pub const NEVER: Tick = Tick::MAX;

/// Which end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Client,
    Server,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    pub namespace: String,
    /// Where its instances listen.
    pub port: u16,
}

/// Client and server, as numbers of services; no two edges have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    pub client: u32,
    pub server: u32,
}

/// One workload of a service, with an address of its own that nobody else ever has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    pub service: u32,
    pub agent: u32,
    died: Tick,
}

/// The traffic of an edge between two instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Number of the edge.
    pub edge: u32,
    /// Numbers of the instances.
    pub client: u32,
    pub server: u32,
    /// Its first and its last tick.
    pub born: Tick,
    pub died: Tick,
}

#[derive(Debug)]
pub struct World {
    seed: u64,
    settings: Fleet,
    pub services: Vec<Service>,
    pub edges: Vec<Edge>,
    pub instances: Vec<Instance>,
    pub links: Vec<Link>,
}

impl World {
    /// A world that churns for `horizon` ticks, then stays as it is.
    pub fn new(settings: &Fleet, seed: u64, horizon: Tick) -> Self {
        let mut world = Self {
            seed,
            settings: settings.clone(),
            services: Vec::new(),
            edges: Vec::new(),
            instances: Vec::new(),
            links: Vec::new(),
        };
        let mut random = Random::of(&[seed, purpose::WORLD]);
        let replicas = world.people();
        world.connect(&mut random, &replicas);
        world.churn(horizon);
        world
    }

    /// Makes services and their instances; returns each service's first instance and how many
    /// it has. The first services are the large ones.
    fn people(&mut self) -> Vec<(u32, u32)> {
        let Fleet { agents, services, replicas, .. } = self.settings;
        let mut all = Vec::new();
        for service in 0..services {
            self.services.push(Service {
                name: format!("svc-{service}"),
                namespace: format!("team-{}", service % 17),
                port: 5_000 + (service % 1_000) as u16,
            });
            let share = f64::from(replicas) / f64::from(service + 1).powf(0.4);
            let count = (share.ceil() as u32).clamp(1, agents);
            all.push((self.instances.len() as u32, count));
            for _ in 0..count {
                // One after the other, so that every agent has some.
                let agent = self.instances.len() as u32 % agents;
                self.instances.push(Instance { service, agent, died: NEVER });
            }
        }
        all
    }

    /// Draws edges between services, large ones more often, and the links of each.
    fn connect(&mut self, random: &mut Random, replicas: &[(u32, u32)]) {
        let Fleet { services, edges, links_per_edge, skew, .. } = self.settings;
        let zipf = Zipf::new(services, skew);
        let mut known = HashSet::new();
        let mut misses = 0_u32;
        while self.edges.len() < edges as usize {
            // The most popular pairs are soon taken: what is left is drawn evenly.
            let server =
                if misses < 8 { zipf.draw(random) } else { random.below(services.into()) as u32 };
            let edge = Edge { client: random.below(services.into()) as u32, server };
            if edge.client == edge.server || !known.insert(edge) {
                misses += 1;
                continue;
            }
            misses = 0;
            let number = self.edges.len() as u32;
            self.edges.push(edge);
            let (clients, servers) =
                (replicas[edge.client as usize], replicas[edge.server as usize]);
            let (a, b) = (random.below(clients.1.into()), random.below(servers.1.into()));
            for link in 0..links_per_edge.min(clients.1 * servers.1) {
                // A pair of instances that has come already is left out.
                let client = (a as u32 + link) % clients.1;
                let server = (b as u32 + link / clients.1 + link) % servers.1;
                let (client, server) = (clients.0 + client, servers.0 + server);
                let link = Link { edge: number, client, server, born: 0, died: NEVER };
                if !self.links.iter().rev().take_while(|l| l.edge == number).any(|l| *l == link) {
                    self.links.push(link);
                }
            }
        }
    }

    /// The number of the instance at an end of a link.
    pub fn instance_at(&self, link: u32, side: Side) -> u32 {
        let link = &self.links[link as usize];
        match side {
            Side::Client => link.client,
            Side::Server => link.server,
        }
    }

    /// The number of the address by which one end of a link knows the other.
    pub fn peer_address(&self, link: u32, side: Side) -> u32 {
        match side {
            Side::Client if self.is_translated(link) => {
                self.instance_at(link, Side::Server) | TRANSLATED
            }
            Side::Client => self.instance_at(link, Side::Server),
            Side::Server => self.instance_at(link, Side::Client),
        }
    }

    /// Whether the client of a link knows its server by another address.
    pub fn is_translated(&self, link: u32) -> bool {
        // Nothing is drawn where nobody asked for it: what is drawn a million times over shows.
        self.settings.translated > 0.0
            && Random::of(&[self.seed, purpose::NAT, link.into()]).chance(self.settings.translated)
    }

    /// Where the server of a link listens.
    pub fn port_of(&self, link: u32) -> u16 {
        self.server_of(link).port
    }

    fn server_of(&self, link: u32) -> &Service {
        let edge = self.edges[self.links[link as usize].edge as usize];
        &self.services[edge.server as usize]
    }

    /// For each agent the ends of links that it sees, by the tick at which they begin.
    pub fn plans(&self) -> Vec<Vec<(u32, Side)>> {
        let mut plans = vec![Vec::new(); self.settings.agents as usize];
        for (number, link) in self.links.iter().enumerate() {
            for (side, instance) in [(Side::Client, link.client), (Side::Server, link.server)] {
                let agent = self.instances[instance as usize].agent;
                plans[agent as usize].push((number as u32, side));
            }
        }
        for plan in &mut plans {
            plan.sort_by_key(|(link, _)| self.links[*link as usize].born);
        }
        plans
    }
}

/// Added to the number of an instance: the address by which those know it who do not know its own.
const TRANSLATED: u32 = 1 << 31;

/// The address with this number: an instance's own, or its other one.
pub fn address_of(number: u32) -> Ipv4Addr {
    let is_own = number & TRANSLATED == 0;
    let first = if is_own { Ipv4Addr::new(10, 0, 0, 0) } else { Ipv4Addr::new(100, 64, 0, 0) };
    Ipv4Addr::from(first.to_bits() + (number & !TRANSLATED) + 1)
}
