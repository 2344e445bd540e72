//! Listening sockets as the programs note them.

use std::{collections::HashSet, time::Duration};

use aya::maps::{HashMap as BpfHashMap, MapData};
use common::kernel::{ListenerKey, PortKey, PortState, sharing};
use nix::time::{ClockId, clock_gettime};

/// A listener that the walks no longer see is gone. Twice what lies between two walks of a quiet namespace
/// at the default interval, and some.
const UNSEEN: Duration = Duration::from_secs(25);

/// The maps `listeners` and `ports`.
pub struct Listeners {
    listeners: BpfHashMap<MapData, ListenerKey, u64>,
    ports: BpfHashMap<MapData, PortKey, PortState>,
    /// Whether walks renew the time that a listener was last seen.
    walked: bool,
}

impl Listeners {
    /// From the two maps.
    pub fn new(
        listeners: BpfHashMap<MapData, ListenerKey, u64>,
        ports: BpfHashMap<MapData, PortKey, PortState>,
        walked: bool,
    ) -> Self {
        Self { listeners, ports, walked }
    }

    /// All that listen now. What was not seen for long is forgotten, and so are ports on which nobody
    /// listens any more.
    pub fn read(&mut self) -> Vec<ListenerKey> {
        // Before the listeners: the programs note a listener first and its port then, so a port of this list
        // without a listener in the next one is closed, not new.
        let ports: Vec<PortKey> = self.ports.keys().filter_map(Result::ok).collect();
        let oldest =
            self.walked.then(now_ns).flatten().map(|now| {
                now.saturating_sub(u64::try_from(UNSEEN.as_nanos()).unwrap_or(u64::MAX))
            });
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
            if !open.contains(&(key.netns_cookie, key.port)) {
                let _ = self.ports.remove(&key);
            }
        }
        live
    }

    /// Several owners listen on a port, but they are one workload: connections need not be told apart.
    pub fn one_workload(&mut self, netns_cookie: u64, port: u16) {
        let key = PortKey { netns_cookie, port, reserved: [0; 6] };
        if let Ok(state) = self.ports.get(&key, 0)
            && state.sharing == sharing::SHARED
        {
            let state = PortState { sharing: sharing::ONE_WORKLOAD, ..state };
            if let Err(error) = self.ports.insert(key, state, 0) {
                tracing::warn!(%error, port, "cannot note that one workload listens");
            }
        }
    }
}

/// The clock of `bpf_ktime_get_ns`.
fn now_ns() -> Option<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
    u64::try_from(Duration::from(now).as_nanos()).ok()
}
