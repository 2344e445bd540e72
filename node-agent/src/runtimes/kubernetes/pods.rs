//! The pods of the node, and whose a container is.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use kubernetes::Event;
use proto::convert::ContainerName;

use super::{
    super::{Labels, News},
    pod::{Known, Pod},
};

/// Pods known at a time; a kubelet runs 110 unless it is told otherwise, and no cluster is known with more than 500 to a
/// node.
pub(super) const MOST_PODS: usize = 2_048;

/// Containers whose pod is not known yet.
const MOST_WAITING: usize = 2_048;

/// A pod that is gone is known for so long: of what one of its containers did last, the kernel may tell late. So is it
/// waited for a pod.
const KEPT: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Held {
    pod: Known,
    /// Containers in its cgroup of which its status says nothing yet.
    asked: BTreeSet<String>,
    gone: Option<Instant>,
}

impl Held {
    fn name(&self, container: &str) -> ContainerName {
        ContainerName { container: container.to_owned(), called: self.pod.called(container) }
    }

    fn news(&self, container: &str, has_ended: bool) -> News {
        let name = self.name(container);
        if has_ended { News::Ended(name) } else { News::Called(name) }
    }

    /// Its containers, and whether each has ended.
    fn containers(&self) -> impl Iterator<Item = (&str, bool)> {
        let gone = self.gone.is_some();
        let told = self.pod.containers.iter();
        let told = told.map(move |(id, container)| (id.as_str(), gone || container.has_ended));
        told.chain(self.asked.iter().map(move |id| (id.as_str(), gone)))
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Pods {
    labels: Labels,
    /// By what cgroups' paths know them.
    pods: HashMap<String, Held>,
    /// By container: the pod that it is said to be of, and since when that is waited for.
    waiting: HashMap<String, (String, Instant)>,
    refused: u64,
}

impl Pods {
    pub(super) fn new(labels: Labels) -> Self {
        Self { labels, pods: HashMap::new(), waiting: HashMap::new(), refused: 0 }
    }

    /// Those that are there.
    pub(super) fn len(&self) -> usize {
        self.pods.values().filter(|held| held.gone.is_none()).count()
    }

    /// How often there was no room for one, or it had no name.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// What follows from what the server says.
    pub(super) fn take(&mut self, event: Event<Pod>, now: Instant) -> Vec<News> {
        match event {
            Event::Restarted(pods) => {
                let there: BTreeSet<&str> = pods.iter().map(Pod::uid).collect();
                for (uid, held) in &mut self.pods {
                    if !there.contains(uid.as_str()) {
                        held.gone.get_or_insert(now);
                    }
                }
                let mut news = vec![News::Running(Vec::new())];
                for pod in &pods {
                    news.extend(self.apply(pod, false, now));
                }
                self.running(news)
            }
            Event::Applied(pod) => self.apply(&pod, false, now),
            Event::Deleted(pod) => self.apply(&pod, true, now),
            Event::Watching | Event::Bookmark => Vec::new(),
        }
    }

    /// All that run first, whatever else there is to be told behind it.
    fn running(&self, mut news: Vec<News>) -> Vec<News> {
        let held = self.pods.values();
        let running = held.flat_map(|held| {
            let running = held.containers().filter(|(_, has_ended)| !has_ended);
            running.map(|(container, _)| held.name(container))
        });
        news[0] = News::Running(running.collect());
        news.retain(|news| !matches!(news, News::Called(_)));
        news
    }

    fn apply(&mut self, pod: &Pod, is_gone: bool, now: Instant) -> Vec<News> {
        let uid = pod.uid();
        let known = pod.known(&self.labels).filter(|_| !uid.is_empty());
        let Some(known) = known.filter(|_| self.pods.contains_key(uid) || self.make_room()) else {
            self.refused += 1;
            return Vec::new();
        };
        let uid = uid.to_owned();
        self.settle(&known);
        let before = self.pods.remove(&uid);
        let gone = before.as_ref().and_then(|held| held.gone);
        let gone = is_gone.then(|| gone.unwrap_or(now));
        let mut asked = before.as_ref().map(|held| held.asked.clone()).unwrap_or_default();
        self.waiting.retain(|container, (of, _)| {
            let is_other = *of != uid;
            if !is_other {
                asked.insert(container.clone());
            }
            is_other
        });
        asked.retain(|container| !known.containers.contains_key(container));
        let held = Held { pod: known, asked, gone };
        let mut news: Vec<_> =
            held.containers().map(|(container, ended)| held.news(container, ended)).collect();
        // What its status does not speak of any more has ended.
        let forgotten = before.iter().flat_map(|held| held.pod.containers.keys());
        let forgotten = forgotten.filter(|container| !held.pod.containers.contains_key(*container));
        news.extend(forgotten.map(|container| held.news(container, true)));
        self.pods.insert(uid, held);
        news
    }

    /// Containers that the status of a pod names are in no other, whatever the path of a cgroup says.
    fn settle(&mut self, known: &Known) {
        let is_named = |container: &String| known.containers.contains_key(container);
        self.waiting.retain(|container, _| !is_named(container));
        for held in self.pods.values_mut() {
            held.asked.retain(|container| !is_named(container));
        }
    }

    /// A container runs in the cgroup of this pod, or of the one whose status names it.
    pub(super) fn ask(&mut self, container: String, uid: String, now: Instant) -> Option<News> {
        let named = self.pods.values().find_map(|held| {
            let status = held.pod.containers.get(&container)?;
            Some(held.news(&container, held.gone.is_some() || status.has_ended))
        });
        if named.is_some() {
            return named;
        }
        let Some(held) = self.pods.get_mut(&uid) else {
            if self.waiting.len() < MOST_WAITING {
                self.waiting.insert(container, (uid, now));
            }
            return None;
        };
        let news = held.news(&container, held.gone.is_some());
        if held.asked.len() < MOST_WAITING {
            held.asked.insert(container);
        }
        Some(news)
    }

    fn make_room(&mut self) -> bool {
        if self.pods.len() < MOST_PODS {
            return true;
        }
        let gone = self.pods.iter().filter_map(|(uid, held)| Some((held.gone?, uid)));
        let Some(oldest) = gone.min().map(|(_, uid)| uid.clone()) else { return false };
        self.pods.remove(&oldest).is_some()
    }

    /// Lets go who has been gone, or waited for, for long.
    pub(super) fn forget(&mut self, now: Instant) {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= KEPT;
        self.pods.retain(|_, held| !held.gone.is_some_and(is_over));
        self.waiting.retain(|_, (_, since)| !is_over(*since));
    }
}

#[cfg(test)]
mod tests;
