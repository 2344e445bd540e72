//! What answers have to say, and where they say something else.

use std::{collections::HashMap, fmt};

use crate::{
    agent::Ledger,
    totals::{EdgeTotals, NUMBERS, Number},
    world::{Edge, World},
};

/// Differences that are told one by one.
const TOLD: usize = 20;

/// What every edge has counted.
pub struct Expected {
    services: HashMap<String, u32>,
    namespaces: Vec<String>,
    ports: Vec<u16>,
    pub edges: HashMap<Edge, EdgeTotals>,
    /// Clients that tell of more than there is room for: their edges are not looked at one by one.
    strangers: Vec<&'static str>,
}

impl Expected {
    pub fn new(world: &World, ledger: &Ledger) -> Self {
        let name = |(number, service): (usize, &crate::world::Service)| {
            (service.name.clone(), number as u32)
        };
        let edge =
            |(number, totals): (&u32, &EdgeTotals)| (world.edges[*number as usize], totals.clone());
        Self {
            services: world.services.iter().enumerate().map(name).collect(),
            namespaces: world.services.iter().map(|one| one.namespace.clone()).collect(),
            ports: world.services.iter().map(|one| one.port).collect(),
            edges: ledger.iter().map(edge).filter(|(_, totals)| !totals.is_zero()).collect(),
            strangers: Vec::new(),
        }
    }

    /// An edge that no world has: names and port of its own, for a watch on how fresh answers are.
    pub fn add(&mut self, client: &str, server: &str, port: u16, totals: EdgeTotals) {
        let mut number = |name: &str| {
            let number = self.namespaces.len() as u32;
            self.services.insert(name.to_owned(), number);
            self.namespaces.push(String::new());
            self.ports.push(port);
            number
        };
        let edge = Edge { client: number(client), server: number(server) };
        self.edges.insert(edge, totals);
    }

    /// Passes over the edges of these clients.
    pub fn pass_over(&mut self, clients: impl IntoIterator<Item = &'static str>) {
        self.strangers.extend(clients);
    }

    pub fn is_stranger(&self, client: &str) -> bool {
        self.strangers.contains(&client)
    }

    /// The edge of these names; `None` when there should be none.
    pub fn find(&self, client: (&str, &str), server: (&str, &str), port: u16) -> Option<Edge> {
        let number = |(name, namespace): (&str, &str)| {
            let number = *self.services.get(name)?;
            (self.namespaces.get(number as usize)? == namespace).then_some(number)
        };
        let edge = Edge { client: number(client)?, server: number(server)? };
        let known = self.edges.contains_key(&edge) && self.ports[edge.server as usize] == port;
        known.then_some(edge)
    }

    /// An edge, for people.
    pub fn name(&self, edge: Edge) -> String {
        let name = |number: u32| {
            let found = self.services.iter().find(|(_, one)| **one == number);
            found.map_or("?", |(name, _)| name.as_str())
        };
        let port = self.ports.get(edge.server as usize).copied().unwrap_or_default();
        format!("{} -> {}:{port}", name(edge.client), name(edge.server))
    }

    /// All edges together.
    pub fn sum(&self) -> [u64; NUMBERS] {
        let mut sum = [0; NUMBERS];
        for totals in self.edges.values() {
            for number in Number::ALL {
                sum[number as usize] += totals.get(number);
            }
        }
        sum
    }
}

/// Where an answer and what is expected differ.
#[derive(Debug, Default)]
pub struct Differences {
    told: Vec<String>,
    pub count: u64,
    /// Values that are higher than they should be: waiting does not mend that.
    pub above: u64,
    /// Sums over all edges: expected and got.
    pub sums: Option<([u64; NUMBERS], [u64; NUMBERS])>,
}

impl Differences {
    /// Takes note of a value that is not what it should be.
    pub fn add(&mut self, above: bool, what: impl FnOnce() -> String) {
        self.count += 1;
        self.above += u64::from(above);
        if self.told.len() < TOLD {
            self.told.push(what());
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} values differ, {} of them are too high", self.count, self.above)?;
        for line in &self.told {
            writeln!(f, "  {line}")?;
        }
        if self.count > self.told.len() as u64 {
            writeln!(f, "  and {} more", self.count - self.told.len() as u64)?;
        }
        let Some((expected, got)) = &self.sums else { return Ok(()) };
        if expected == got {
            return writeln!(
                f,
                "over all edges every sum is exact: nothing is lost or doubled, it lies on other edges"
            );
        }
        writeln!(f, "over all edges:")?;
        for number in Number::ALL {
            let (expected, got) = (expected[number as usize], got[number as usize]);
            let off = i128::from(got) - i128::from(expected);
            writeln!(f, "  {number:?}: expected {expected}, got {got} ({off:+})")?;
        }
        Ok(())
    }
}
