//! Who lives in a world.

use super::{Draw, How, Place, Swap, WORKLOADS, people::Kind};
use crate::worlds::{
    feature::Feature,
    plan::{Ear, On, Published},
};

impl Draw<'_> {
    /// Everybody: first those whom features ask for, then others up to a number.
    pub(super) fn cast(&mut self) {
        let all = self.random.between(WORKLOADS.0, WORKLOADS.1) as usize;
        if self.has(Feature::Loopback) {
            self.loopback();
        }
        if self.has(Feature::Shared) {
            self.shared();
        }
        if self.has(Feature::Reuse) {
            self.reuse();
        }
        if self.has(Feature::External) {
            self.external();
        }
        if self.has(Feature::Bridges) {
            self.containers();
        }
        if self.has(Feature::Short) {
            self.short();
        }
        while self.world.workloads.len() < all {
            self.ordinary(all);
        }
    }

    fn last(&mut self, workload: usize) {
        self.lasting.insert(workload);
    }

    /// A server and a client that nobody else reaches, in one place.
    fn loopback(&mut self) {
        for pods in [0, 100] {
            let place = self.place(pods);
            let ear = Ear { on: On::Loopback, port: self.port(place), shared: false };
            let server = self.workload(place, vec![ear]);
            let client = self.workload(place, Vec::new());
            self.last(server);
            self.last(client);
        }
    }

    /// Two or three servers behind one port.
    fn shared(&mut self) {
        let pods = if self.random.percent(30) { 100 } else { 0 };
        let place = self.place(pods);
        let ear = Ear { shared: true, ..self.ear(place) };
        for _ in 0..self.random.between(2, 3) {
            let server = self.workload(place, vec![ear]);
            self.last(server);
        }
    }

    /// Addresses, ports and names that pass from one to another.
    fn reuse(&mut self) {
        for _ in 0..self.random.between(1, 2) {
            // Another one with the address, and mostly with the port, too.
            let place = self.place(100);
            let ear = self.ear(place);
            let next = if self.random.percent(70) { ear } else { self.ear(place) };
            let (old, new) = (self.workload(place, vec![ear]), self.workload(place, vec![next]));
            self.pass_on(How::Replace, old, new);
        }
        let place = self.place(0);
        let ear = self.ear(place);
        match self.random.below(3) {
            0 => {
                let (old, new) = (self.workload(place, vec![ear]), self.workload(place, vec![ear]));
                self.pass_on(How::Replace, old, new);
            }
            1 => {
                let old = self.workload(place, vec![ear]);
                let new = self.workload(place, Vec::new());
                self.pass_on(How::HandOver, old, new);
            }
            _ => {
                // The same service, started again.
                let kind = if self.random.percent(50) { Kind::Process } else { Kind::Unit };
                let name = self.name();
                let old = self.named(kind, name.clone(), place, vec![ear]);
                let new = self.named(kind, name, place, vec![ear]);
                self.pass_on(How::Replace, old, new);
            }
        }
    }

    fn pass_on(&mut self, how: How, old: usize, new: usize) {
        let act = self.random.between(1, self.acts as u64 - 1) as usize;
        self.swaps.push(Swap { act, how, old, new });
    }

    /// Those of whom nobody tells.
    fn external(&mut self) {
        let Some(host) = self.outside() else { return };
        let place = Place::Host(host);
        let ear = self.ear(place);
        let server = self.workload(place, vec![ear]);
        self.last(server);
        for _ in 0..self.random.between(1, 2) {
            let client = self.workload(place, Vec::new());
            self.last(client);
        }
    }

    /// Containers with the same addresses on every host that has an engine.
    fn containers(&mut self) {
        let hosts: Vec<usize> = self.covered();
        for host in hosts {
            if !self.world.hosts.get(host).is_some_and(|host| host.engine) {
                continue;
            }
            // Two or three, from the first address on: it is the same range everywhere.
            for number in 2..=self.random.between(3, 4) as u8 {
                let place = Place::Container(host, number);
                let ear = self.ear(place);
                let ears = if number == 2 || self.random.percent(40) { vec![ear] } else { vec![] };
                let published = self.has(Feature::Dnat) && number == 2;
                if published {
                    let port = self.port(Place::Host(host));
                    self.world.published.push(Published { port, place, to: ear.port });
                }
                let container = self.workload(place, ears);
                self.last(container);
            }
        }
    }

    /// Containers that come and go.
    fn short(&mut self) {
        for _ in 0..self.random.between(2, 4) {
            let place = self.place(70);
            let name = self.name();
            let workload = self.named(Kind::Container, name, place, Vec::new());
            let act = self.random.below(self.acts as u64) as usize;
            self.briefs.push((act, workload));
        }
    }

    /// A server, a service on several hosts, or somebody who only asks.
    fn ordinary(&mut self, all: usize) {
        match self.random.below(10) {
            0..=2 => {
                let place = self.place(50);
                let ear = self.ear(place);
                let server = self.workload(place, vec![ear]);
                self.last(server);
            }
            3 => {
                let name = self.name();
                let port = self.port(Place::Host(0));
                let hosts = self.covered();
                let room = all - self.world.workloads.len();
                for host in hosts.into_iter().take(room.min(3)) {
                    let place = Place::Host(host);
                    let used = self.ports.entry(place).or_default();
                    // On the first one, it was just taken for this.
                    if !used.insert(port) && host != 0 {
                        continue;
                    }
                    let ear = Ear { on: On::Any, port, shared: false };
                    let server = self.named(Kind::Process, name.clone(), place, vec![ear]);
                    self.last(server);
                }
            }
            _ => {
                let place = self.place(40);
                let client = self.workload(place, Vec::new());
                self.last(client);
            }
        }
    }
}
