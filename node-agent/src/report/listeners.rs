//! Which listeners the stream knows of, and what it has to be told.

use std::collections::{HashSet, VecDeque};

use proto::convert::ListenerChange;
use topology::model::Listener;

/// The listeners of the node; their workloads by id, one reference held for each.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    current: HashSet<Listener<u32>>,
    untold: VecDeque<ListenerChange>,
    /// The next section holds all listeners.
    complete: bool,
}

impl Listeners {
    /// These are all listeners now. Returns the workloads whose references are no longer needed.
    pub(super) fn set(&mut self, now: HashSet<Listener<u32>>, streaming: bool) -> Vec<u32> {
        let before = std::mem::replace(&mut self.current, now);
        if !streaming {
            return before.iter().map(|listener| listener.workload).collect();
        }
        let mut released = Vec::new();
        for listener in &before {
            if self.current.contains(listener) {
                // Both sets hold a reference.
                released.push(listener.workload);
            } else {
                // Its reference goes when the stream has been told.
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

    /// What to tell next: whether it is all there is, and at most so many changes.
    pub(super) fn take(&mut self, most: usize) -> (bool, Vec<ListenerChange>) {
        let count = self.untold.len().min(most);
        (std::mem::take(&mut self.complete), self.untold.drain(..count).collect())
    }

    /// A new stream knows no listener. Returns the workloads of those that are gone by now.
    pub(super) fn restart(&mut self) -> Vec<u32> {
        let gone = self.stop();
        let all = self.current.iter();
        self.untold = all.map(|l| ListenerChange { listener: *l, closed: false }).collect();
        self.complete = true;
        gone
    }

    /// There is no stream to tell.
    pub(super) fn stop(&mut self) -> Vec<u32> {
        self.complete = false;
        let gone = self.untold.drain(..).filter(|change| change.closed);
        gone.map(|change| change.listener.workload).collect()
    }
}
