//! Ports whose connections the aggregator wants told apart.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

/// For so long after it was last asked for. The aggregator asks each minute as long as the port is used so and it has room
/// for all the halves; one time may be missed.
const KEPT: Duration = Duration::from_secs(150);

/// What there was no room for is not taken again for so long: it would soon be the same.
const REFUSED: Duration = Duration::from_secs(600);

/// So many ports at a time.
const MOST: usize = 4_096;

/// So many connections to a port: links have room for some thousands, and others may be told apart on other hosts.
const MOST_CONNECTIONS: usize = 1_024;

/// What a port is, and until when.
#[derive(Clone, Copy, Debug)]
struct Port {
    until: Instant,
    /// There was no room to tell its connections apart.
    refused: bool,
}

/// Ports of network namespaces that were asked for. Everybody's connections to one are told apart, whoever it was asked for.
#[derive(Debug, Default)]
pub(super) struct Apart {
    ports: HashMap<(u64, u16), Port>,
    /// How often there was no room for a port, or no longer.
    refused: u64,
}

impl Apart {
    pub(super) fn add(&mut self, ports: HashSet<(u64, u16)>, now: Instant) {
        for port in ports {
            match self.ports.get(&port) {
                Some(Port { until, refused: true }) if now < *until => {}
                None if self.ports.len() >= MOST => self.refused += 1,
                _ => {
                    self.ports.insert(port, Port { until: now + KEPT, refused: false });
                }
            }
        }
    }

    /// Those there are now; with a `crowded` kernel, none. `connections` says how many of each are told apart.
    pub(super) fn ports(
        &mut self,
        now: Instant,
        crowded: bool,
        connections: &HashMap<(u64, u16), usize>,
    ) -> HashSet<(u64, u16)> {
        self.ports.retain(|_, port| now < port.until);
        for (ends, port) in self.ports.iter_mut().filter(|(_, port)| !port.refused) {
            if crowded || connections.get(ends).is_some_and(|count| *count > MOST_CONNECTIONS) {
                *port = Port { until: now + REFUSED, refused: true };
                self.refused += 1;
            }
        }
        let ports = self.ports.iter().filter(|(_, port)| !port.refused);
        ports.map(|(port, _)| *port).collect()
    }

    /// What was not told apart, for the status.
    pub(super) fn losses(&self) -> Option<(&'static str, u64)> {
        (self.refused > 0).then_some(("ports_not_split", self.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_told_apart_until_it_is_not_asked_for_or_there_is_no_room() {
        let (mut apart, now, few) = (Apart::default(), Instant::now(), HashMap::new());
        apart.add([(1, 80)].into(), now);
        apart.add([(1, 81)].into(), now + KEPT / 2);
        assert_eq!(apart.ports(now, false, &few).len(), 2);
        assert_eq!(apart.ports(now + KEPT, false, &few), [(1, 81)].into());
        assert_eq!(apart.losses(), None);
        assert!(apart.ports(now + KEPT, true, &few).is_empty());
        assert_eq!(apart.losses(), Some(("ports_not_split", 1)));
        apart.add([(1, 81), (1, 82)].into(), now + KEPT);
        assert_eq!(apart.ports(now + KEPT, false, &few), [(1, 82)].into(), "the other would flap");
        apart.add([(1, 81)].into(), now + KEPT + REFUSED);
        assert_eq!(apart.ports(now + KEPT + REFUSED, false, &few), [(1, 81)].into());
        assert_eq!(apart.losses(), Some(("ports_not_split", 1)));
        let all: HashSet<_> = (2..=MOST as u64 + 1).map(|namespace| (namespace, 80)).collect();
        apart.add(all, now + KEPT + REFUSED);
        assert_eq!(apart.losses(), Some(("ports_not_split", 2)));
    }
    #[test]
    fn a_port_with_very_many_connections_is_left_alone() {
        let (mut apart, now) = (Apart::default(), Instant::now());
        apart.add([(1, 80), (1, 81)].into(), now);
        let connections = [((1, 80), MOST_CONNECTIONS), ((1, 81), MOST_CONNECTIONS + 1)].into();
        assert_eq!(apart.ports(now, false, &connections), [(1, 80)].into());
        assert_eq!(apart.losses(), Some(("ports_not_split", 1)));
    }
}
