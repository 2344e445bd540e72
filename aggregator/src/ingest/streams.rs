//! The open streams of each node.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::sync::Notify;

/// The open stream of each node. Names are those of certificates, so there are as many as the CA has issued.
#[derive(Default)]
pub struct Streams {
    by_node: DashMap<String, Arc<Notify>>,
    /// How long streams of a node were held up because they brought too much.
    held_up: DashMap<String, Duration>,
}

impl Streams {
    /// A stream begins and takes the place of the one before. Returns what is told when a later one takes its own
    /// place.
    pub(super) fn begin(&self, node: &str) -> Arc<Notify> {
        let replaced = Arc::new(Notify::new());
        if let Some(before) = self.by_node.insert(node.to_owned(), Arc::clone(&replaced)) {
            // It is remembered if the other stream is busy just now.
            before.notify_one();
        }
        replaced
    }

    /// A node's stream is held up.
    pub(super) fn hold_up(&self, node: &str, time: Duration) {
        *self.held_up.entry(node.to_owned()).or_default() += time;
    }

    /// How long a node's streams were held up since the aggregator started.
    pub(crate) fn held_up(&self, node: &str) -> Duration {
        self.held_up.get(node).map(|time| *time).unwrap_or_default()
    }

    /// A stream has ended.
    pub(super) fn end(&self, node: &str, replaced: &Arc<Notify>) {
        self.by_node.remove_if(node, |_, open| Arc::ptr_eq(open, replaced));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_later_stream_takes_the_place_of_the_one_before() {
        let streams = Streams::default();
        let first = streams.begin("a");
        let second = streams.begin("a");
        first.notified().await;
        // The end of the first one leaves the second where it is.
        streams.end("a", &first);
        let _third = streams.begin("a");
        second.notified().await;
    }
}
