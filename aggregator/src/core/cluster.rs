//! What Kubernetes says: only what is new of it is an entry of the journal.

use std::collections::BTreeSet;

use postcard::ser_flavors::Size;
use topology::{ClusterChange, ClusterKind, ClusterNews, ObjectName, Timestamp};

use super::{Core, Entry};

/// Bytes of one entry's objects. The largest object that there is has an entry of its own, which is still shorter than
/// what the journal takes.
const AT_ONCE: usize = 1 << 20;

impl Core {
    /// These are all objects of a kind; what else is known is gone.
    pub(crate) fn cluster_listed(
        &mut self,
        kind: ClusterKind,
        objects: Vec<ClusterChange>,
        at: Timestamp,
    ) {
        let listed: BTreeSet<ObjectName> =
            objects.iter().map(|object| object.name().clone()).collect();
        let known = self.graph.cluster_names(kind).into_iter();
        let gone = known.filter(|name| !listed.contains(name));
        let mut changes: Vec<_> = gone.map(|name| ClusterChange::gone(kind, name)).collect();
        changes.extend(objects);
        self.cluster_changed(changes, at);
    }

    /// Objects are as these now.
    pub(crate) fn cluster_changed(&mut self, changes: Vec<ClusterChange>, at: Timestamp) {
        let (mut together, mut bytes) = (Vec::new(), 0);
        for change in self.graph.new_of_cluster(changes) {
            let length = length(&change);
            if bytes + length > AT_ONCE && !together.is_empty() {
                self.cluster_news(ClusterNews::Changed(std::mem::take(&mut together)), at);
                bytes = 0;
            }
            bytes += length;
            together.push(change);
        }
        if !together.is_empty() {
            self.cluster_news(ClusterNews::Changed(together), at);
        }
    }

    /// From then on it is not known what becomes of objects of a kind.
    pub(crate) fn cluster_lost(&mut self, kind: ClusterKind, since: Timestamp, at: Timestamp) {
        if self.graph.cluster_state(kind).1.is_none() {
            self.cluster_news(ClusterNews::Lost(kind, since), at);
        }
    }

    /// It is known again.
    pub(crate) fn cluster_watched(&mut self, kind: ClusterKind, at: Timestamp) {
        if !self.graph.is_cluster_heard(kind) {
            self.cluster_news(ClusterNews::Watched(kind), at);
        }
    }

    /// Nobody watches any more: what was known would hold for good.
    pub(crate) fn forget_cluster(&mut self, at: Timestamp) {
        for kind in ClusterKind::ALL {
            self.cluster_listed(kind, Vec::new(), at);
            if self.graph.cluster_state(kind).1.is_some() {
                self.cluster_watched(kind, at);
            }
        }
    }

    pub(super) fn cluster_news(&mut self, news: ClusterNews, at: Timestamp) {
        self.record(&Entry::Cluster(news.clone()), &[], at);
        self.graph.take_cluster_news(news, at);
    }
}

/// Bytes of an object in the journal.
fn length(change: &ClusterChange) -> usize {
    postcard::serialize_with_flavor(change, Size::default()).unwrap_or_default()
}
