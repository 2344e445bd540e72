//! How far each agent has come.

use std::sync::Arc;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// How far the current session of each node has come. Names are those of certificates, so there
/// are as many as the CA has issued.
#[derive(Default)]
pub struct Sessions {
    by_node: DashMap<String, Known>,
}

/// How far a node has come, to be stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    node: String,
    session: u64,
    applied: u64,
}

struct Known {
    session: u64,
    applied: u64,
    replaced: Arc<Notify>,
}

impl Sessions {
    /// Goes on from what was stored.
    #[must_use]
    pub fn resume(stored: Vec<Progress>) -> Self {
        let known = |Progress { node, session, applied }| {
            (node, Known { session, applied, replaced: Arc::new(Notify::new()) })
        };
        Self { by_node: stored.into_iter().map(known).collect() }
    }

    /// How far every node has come. To be asked while the graph is held, so that it fits.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        let progress = |known: dashmap::mapref::multiple::RefMulti<'_, String, Known>| {
            let (session, applied) = (known.session, known.applied);
            Progress { node: known.key().clone(), session, applied }
        };
        self.by_node.iter().map(progress).collect()
    }

    /// A stream of a session begins and takes the place of the one before. Returns what is told
    /// when a later one takes its own place.
    pub(super) fn begin(&self, node: &str, session: u64) -> Arc<Notify> {
        let replaced = Arc::new(Notify::new());
        let new = || Known { session, applied: 0, replaced: Arc::clone(&replaced) };
        let mut known = self.by_node.entry(node.to_owned()).or_insert_with(new);
        if !Arc::ptr_eq(&known.replaced, &replaced) {
            // `notify_one` is remembered if the other stream is busy just now.
            known.replaced.notify_one();
            known.replaced = Arc::clone(&replaced);
        }
        if known.session != session {
            (known.session, known.applied) = (session, 0);
        }
        replaced
    }

    /// The last batch of a session that was taken over; 0 when another one has begun.
    pub(super) fn applied(&self, node: &str, session: u64) -> u64 {
        let known = self.by_node.get(node).filter(|known| known.session == session);
        known.map_or(0, |known| known.applied)
    }

    /// A batch was taken over.
    pub(super) fn set_applied(&self, node: &str, session: u64, seq: u64) {
        if let Some(mut known) = self.by_node.get_mut(node)
            && known.session == session
        {
            known.applied = known.applied.max(seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_goes_on_where_it_was_and_a_new_one_from_zero() {
        let sessions = Sessions::default();
        let first = sessions.begin("a", 1);
        assert_eq!(sessions.applied("a", 1), 0);
        sessions.set_applied("a", 1, 7);
        sessions.set_applied("a", 1, 5);
        let _second = sessions.begin("a", 1);
        assert_eq!(sessions.applied("a", 1), 7);
        first.notified().await;
        let _third = sessions.begin("a", 2);
        sessions.set_applied("a", 1, 9);
        assert_eq!(sessions.applied("a", 1), 0);
        assert_eq!(sessions.applied("a", 2), 0);
    }
}
