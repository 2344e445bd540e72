//! Workloads with names, places and ports.

use super::{Draw, Place};
use crate::worlds::plan::{Ear, On, Workload};

/// What services are called; a number follows.
const WORDS: [&str; 24] = [
    "web", "cart", "catalog", "search", "auth", "mail", "stock", "price", "image", "video",
    "queue", "cache", "store", "report", "audit", "batch", "proxy", "feed", "chat", "geo", "tax",
    "ship", "pay", "vote",
];

/// Ports that services have everywhere.
const PORTS: [u16; 16] = [
    80, 443, 3_000, 3_306, 5_000, 5_432, 6_379, 7_000, 8_000, 8_080, 8_081, 8_443, 9_000, 9_090,
    9_200, 27_017,
];

/// Where containers' cgroups are; ID stands for the 64 digits.
const LEAVES: [&str; 4] =
    ["docker/ID", "ID", "system.slice/docker-ID.scope", "machine.slice/libpod-ID.scope/container"];

/// What kind of thing a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Process,
    Unit,
    Container,
}

impl Draw<'_> {
    /// A name that nobody has.
    pub(super) fn name(&mut self) -> String {
        self.names += 1;
        let word = self.random.pick(&WORDS).copied().unwrap_or_default();
        format!("{word}-{}", self.names)
    }

    /// A process, a unit or a container at a place, as is usual there.
    pub(super) fn workload(&mut self, place: Place, ears: Vec<Ear>) -> usize {
        let outside = self.world.hosts.get(place.host()).is_some_and(|host| !host.agent);
        let kind = match (place, self.random.below(10)) {
            (Place::Host(_), _) if outside => Kind::Process,
            (Place::Host(_), 0..=4) => Kind::Process,
            (Place::Host(_), 5..=7) => Kind::Unit,
            _ => Kind::Container,
        };
        let name = self.name();
        self.named(kind, name, place, ears)
    }

    /// A workload of a kind, with a name of its own.
    pub(super) fn named(
        &mut self,
        kind: Kind,
        program: String,
        place: Place,
        ears: Vec<Ear>,
    ) -> usize {
        let (leaf, shown, word) = match kind {
            Kind::Process => (None, program.clone(), "process"),
            Kind::Unit => {
                let unit = format!("{program}.service");
                (Some(format!("system.slice/{unit}")), unit, "systemd")
            }
            Kind::Container => {
                let id: String = (0..4).map(|_| format!("{:016x}", self.random.any())).collect();
                let leaf = self.random.pick(&LEAVES).map(|leaf| leaf.replace("ID", &id));
                (leaf, id[..12].to_owned(), "container")
            }
        };
        self.world.workloads.push(Workload { program, leaf, shown, kind: word, place, ears });
        self.world.workloads.len() - 1
    }

    /// A network namespace on a host with an agent: the host's, or one of its own behind its bridge.
    pub(super) fn place(&mut self, pods: u64) -> Place {
        let covered = self.covered();
        let host = self.random.pick(&covered).copied().unwrap_or_default();
        if self.random.percent(pods) {
            Place::Pod(host, self.number(host))
        } else {
            Place::Host(host)
        }
    }

    /// An address behind a host's bridge that nobody had before.
    pub(super) fn number(&mut self, host: usize) -> u8 {
        // The first one is the host's.
        let number = self.numbers.entry(host).or_insert(1);
        *number += 1;
        *number
    }

    /// A port that nobody has at a place, ever.
    pub(super) fn port(&mut self, place: Place) -> u16 {
        let used = self.ports.entry(place).or_default();
        let free: Vec<u16> = PORTS.into_iter().filter(|port| !used.contains(port)).collect();
        let port = match self.random.pick(&free) {
            Some(port) => *port,
            None => 20_000 + used.len() as u16,
        };
        used.insert(port);
        port
    }

    /// Where a server listens that others can reach.
    pub(super) fn ear(&mut self, place: Place) -> Ear {
        let on = match (place, self.random.below(3)) {
            (_, 0) => On::Own,
            (Place::Host(_), 1) => On::Both,
            _ => On::Any,
        };
        Ear { on, port: self.port(place), shared: false }
    }
}
