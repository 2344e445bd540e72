//! Ports whose connections the aggregator wants told apart.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

/// For so long after it was last asked for. The aggregator asks each minute as long as the port is used so and it has room
/// for all the halves; one time may be missed.
const KEPT: Duration = Duration::from_secs(150);

/// So many ports at a time.
const MOST: usize = 4_096;

/// Network namespaces and ports, and until when.
#[derive(Debug, Default)]
pub(super) struct Apart {
    until: HashMap<(u64, u16), Instant>,
    /// Ports that were not, or no longer, told apart for lack of room.
    refused: u64,
}

impl Apart {
    pub(super) fn add(&mut self, ports: HashSet<(u64, u16)>, now: Instant) {
        for port in ports {
            if self.until.len() >= MOST && !self.until.contains_key(&port) {
                self.refused += 1;
            } else {
                self.until.insert(port, now + KEPT);
            }
        }
    }

    /// Those there are now; with a `crowded` kernel, none.
    pub(super) fn ports(&mut self, now: Instant, crowded: bool) -> HashSet<(u64, u16)> {
        if crowded {
            self.refused += self.until.len() as u64;
            self.until.clear();
        }
        self.until.retain(|_, until| now < *until);
        self.until.keys().copied().collect()
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
        let (mut apart, now) = (Apart::default(), Instant::now());
        apart.add([(1, 80)].into(), now);
        apart.add([(1, 81)].into(), now + KEPT / 2);
        assert_eq!(apart.ports(now, false).len(), 2);
        assert_eq!(apart.ports(now + KEPT, false), [(1, 81)].into());
        assert_eq!(apart.losses(), None);
        assert!(apart.ports(now + KEPT, true).is_empty());
        assert_eq!(apart.losses(), Some(("ports_not_split", 1)));
        apart.add((0..=MOST as u64).map(|namespace| (namespace, 80)).collect(), now);
        assert_eq!(apart.losses(), Some(("ports_not_split", 2)));
    }
}
