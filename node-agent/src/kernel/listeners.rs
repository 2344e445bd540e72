//! Listening sockets as the programs note them.

use std::{collections::HashSet, time::Duration};

use aya::maps::{Array, HashMap as BpfHashMap, MapData};
use common::kernel::{ListenerKey, PortKey, PortState, sharing};
use nix::time::{ClockId, clock_gettime};

use crate::source::PortSharing;

/// The maps `listeners`, `ports` and `shared_ports`.
pub struct Listeners {
    listeners: BpfHashMap<MapData, ListenerKey, u64>,
    ports: BpfHashMap<MapData, PortKey, PortState>,
    shared_ports: Array<MapData, u64>,
    /// When the last two walks through all namespaces began, in ns since boot.
    walks: [Option<u64>; 2],
}

impl Listeners {
    /// From the three maps.
    pub fn new(
        listeners: BpfHashMap<MapData, ListenerKey, u64>,
        ports: BpfHashMap<MapData, PortKey, PortState>,
        shared_ports: Array<MapData, u64>,
    ) -> Self {
        Self { listeners, ports, shared_ports, walks: [None; 2] }
    }

    /// A walk through all namespaces, begun at `began_ns` since boot, renewed the time of every
    /// listener that is still there.
    pub fn walked(&mut self, began_ns: u64) {
        self.walks = [self.walks[1], Some(began_ns)];
    }

    /// All that listen now. What two walks did not see is forgotten, and so are ports on which
    /// nobody listens any more, except those that are still `served`: the next to listen there
    /// is another one.
    pub fn read(&mut self, served: &HashSet<(u64, u16)>) -> Vec<ListenerKey> {
        // Before the listeners: the programs note a listener first and its port then, so a port of
        // this list without a listener in the next one is closed, not new.
        let ports: Vec<PortKey> = self.ports.keys().filter_map(Result::ok).collect();
        let oldest = self.walks[0];
        let (live, gone): (Vec<_>, Vec<_>) = self
            .listeners
            .iter()
            .filter_map(Result::ok)
            .partition(|(_, seen)| oldest.is_none_or(|oldest| *seen >= oldest));
        for (key, _) in gone {
            let _ = self.listeners.remove(&key);
        }
        let live: Vec<ListenerKey> = live.into_iter().map(|(key, _)| key).collect();
        let open: HashSet<(u64, u16)> =
            live.iter().map(|key| (key.netns_cookie, key.port)).collect();
        for key in ports {
            let port = (key.netns_cookie, key.port);
            if !open.contains(&port) && !served.contains(&port) {
                let _ = self.ports.remove(&key);
            }
        }
        live
    }

    /// Tells the programs who listens on a port. Should they note another owner in between, the
    /// hint that comes with it leads here again.
    pub fn set_sharing(&mut self, netns_cookie: u64, port: u16, now: PortSharing) {
        let key = PortKey { netns_cookie, port, reserved: [0; 6] };
        let Ok(known) = self.ports.get(&key, 0) else {
            return;
        };
        let wanted = match now {
            PortSharing::One(owner) => PortState { owner, sharing: sharing::SINGLE, ..known },
            PortSharing::OneWorkload => PortState { sharing: sharing::ONE_WORKLOAD, ..known },
            PortSharing::Several => PortState { sharing: sharing::SHARED, ..known },
        };
        if wanted == known {
            return;
        }
        let mut noted = self.ports.insert(key, wanted, 0);
        if wanted.sharing == sharing::SHARED {
            // The programs look into `ports` only when this is not 0.
            noted = noted.and_then(|()| {
                let count = self.shared_ports.get(&0, 0)?;
                self.shared_ports.set(0, count.saturating_add(1), 0)
            });
        }
        if let Err(error) = noted {
            tracing::warn!(%error, port, "cannot note who listens");
        }
    }
}

/// The clock of `bpf_ktime_get_ns`.
pub fn now_ns() -> Option<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
    u64::try_from(Duration::from(now).as_nanos()).ok()
}
