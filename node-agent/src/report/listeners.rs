//! Which listeners batches have told of, and what is to be told.

use std::collections::{HashMap, HashSet, VecDeque};

use proto::convert::ListenerChange;
use topology::model::{Endpoint, Listener};

use super::Report;

impl Report {
    /// The network namespaces and ports at which servers are reached so.
    #[must_use]
    pub fn ports_of(&self, endpoints: &[Endpoint]) -> HashSet<(u64, u16)> {
        let wanted: HashSet<&Endpoint> = endpoints.iter().collect();
        let is_wanted = |half: u32| {
            let key = self.halves.get(half).map(|half| half.key)?;
            let endpoint = Endpoint { address: key.local, port: key.server_port };
            (!key.is_folded() && wanted.contains(&endpoint)).then_some(())
        };
        let servers = self.slots.servers().filter(|(_, half)| is_wanted(*half).is_some());
        servers.map(|(key, _)| (key.netns_cookie, key.server_port)).collect()
    }

    /// How many connections to a port have a slot each, with the network namespace.
    #[must_use]
    pub fn single_connections(&self) -> HashMap<(u64, u16), usize> {
        let mut ports = HashMap::new();
        for (key, _) in self.slots.servers().filter(|(key, _)| key.client_port != 0) {
            *ports.entry((key.netns_cookie, key.server_port)).or_default() += 1;
        }
        ports
    }
}

/// The listeners of the node; their workloads by id, one reference held for each.
#[derive(Debug)]
pub(super) struct Listeners {
    current: HashSet<Listener<u32>>,
    untold: VecDeque<ListenerChange>,
    /// The next section holds all listeners: the first of the session does.
    complete: bool,
}

impl Default for Listeners {
    fn default() -> Self {
        Self { current: HashSet::new(), untold: VecDeque::new(), complete: true }
    }
}

impl Listeners {
    /// These are all listeners now. Returns the workloads whose references are no longer needed.
    pub(super) fn set(&mut self, now: HashSet<Listener<u32>>) -> Vec<u32> {
        let before = std::mem::replace(&mut self.current, now);
        let mut released = Vec::new();
        for listener in &before {
            if self.current.contains(listener) {
                // Both sets hold a reference.
                released.push(listener.workload);
            } else {
                // Its reference goes when a batch has told.
                self.untold.push_back(ListenerChange { listener: *listener, closed: true });
            }
        }
        let opened = self.current.difference(&before);
        let opened = opened.map(|listener| ListenerChange { listener: *listener, closed: false });
        self.untold.extend(opened);
        released
    }

    pub(super) fn is_clean(&self) -> bool {
        self.untold.is_empty() && !self.complete
    }

    /// Whether what is told next is all there is.
    pub(super) fn take_complete(&mut self) -> bool {
        std::mem::take(&mut self.complete)
    }

    /// What to tell next.
    pub(super) fn take_untold(&mut self) -> Option<ListenerChange> {
        self.untold.pop_front()
    }

    /// All there are now.
    pub(super) fn current(&self) -> impl Iterator<Item = ListenerChange> {
        self.current.iter().map(|listener| ListenerChange { listener: *listener, closed: false })
    }
}
