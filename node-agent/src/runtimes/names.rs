//! All names that are known, and which of them are to be told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use proto::convert::ContainerName;
use topology::model::Workload;

use super::{News, Source, Told};

/// Containers named at a time, as many as an aggregator remembers of a node; a host runs a few hundred at most. Those
/// that have ended make room for others.
const MOST: usize = 2_048;

/// The name of one that has ended is kept for so long at least: what it did last may not have been looked at yet.
const KEPT: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Known {
    /// What each source calls it.
    by: BTreeMap<Source, Workload>,
    ended: Option<Instant>,
}

impl Known {
    /// What it is called by whom is believed.
    fn called(&self) -> Option<&Workload> {
        self.by.last_key_value().map(|(_, called)| called)
    }
}

/// What the containers of the node are called.
#[derive(Debug, Default)]
pub struct Names {
    containers: HashMap<String, Known>,
    untold: BTreeSet<String>,
    refused: u64,
}

impl Names {
    /// Takes in what a source has learned.
    pub fn take(&mut self, told: Told, now: Instant) {
        let Told { source, news } = told;
        match news {
            News::Called(name) => self.call(source, name, None),
            News::Ended(name) => self.call(source, name, Some(now)),
            News::Running(names) => {
                let running: HashSet<&str> =
                    names.iter().map(|name| name.container.as_str()).collect();
                for (container, known) in &mut self.containers {
                    if known.by.contains_key(&source) && !running.contains(container.as_str()) {
                        known.ended.get_or_insert(now);
                    }
                }
                for name in names {
                    self.call(source, name, None);
                }
            }
        }
    }

    fn call(&mut self, source: Source, name: ContainerName, ended: Option<Instant>) {
        let ContainerName { container, called } = name;
        if !self.containers.contains_key(&container) && !self.make_room() {
            self.refused = self.refused.saturating_add(1);
            return;
        }
        let known = self.containers.entry(container.clone()).or_default();
        known.ended = ended;
        let before = known.called().cloned();
        known.by.insert(source, called);
        if known.called() != before.as_ref() {
            self.untold.insert(container);
        }
    }

    fn make_room(&mut self) -> bool {
        if self.containers.len() < MOST {
            return true;
        }
        let ended = self.containers.iter().filter_map(|(name, known)| Some((known.ended?, name)));
        let Some(oldest) = ended.min().map(|(_, name)| name.clone()) else { return false };
        self.drop_name(&oldest);
        true
    }

    fn drop_name(&mut self, container: &str) {
        self.containers.remove(container);
        self.untold.remove(container);
    }

    /// Forgets those that have ended and that nothing speaks of any more.
    pub fn forget(&mut self, now: Instant, mut spoken_of: impl FnMut(&str) -> bool) {
        let over = |known: &Known| {
            known.ended.is_some_and(|ended| now.saturating_duration_since(ended) >= KEPT)
        };
        let untold = &mut self.untold;
        self.containers.retain(|container, known| {
            let stays = !over(known) || spoken_of(container);
            if !stays {
                untold.remove(container);
            }
            stays
        });
    }

    /// Whether everything has been told.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.untold.is_empty()
    }

    /// What to tell next, at most so many.
    pub fn take_untold(&mut self, most: usize) -> Vec<ContainerName> {
        let mut told = Vec::new();
        while told.len() < most
            && let Some(container) = self.untold.pop_first()
        {
            told.extend(self.name(&container));
        }
        told
    }

    /// All there are, in no order.
    pub fn all(&self) -> impl Iterator<Item = ContainerName> {
        self.containers.keys().filter_map(|container| self.name(container))
    }

    fn name(&self, container: &str) -> Option<ContainerName> {
        let called = self.containers.get(container)?.called()?.clone();
        Some(ContainerName { container: container.to_owned(), called })
    }

    /// Whether anything is known of a container.
    #[must_use]
    pub fn knows(&self, container: &str) -> bool {
        self.containers.contains_key(container)
    }

    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.containers.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty()
    }

    /// How often there was no room for one.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use topology::model::WorkloadKind;

    use super::*;

    fn name(container: &str, name: &str) -> ContainerName {
        let called = Workload {
            kind: WorkloadKind::Container,
            name: name.to_owned(),
            namespace: String::new(),
            labels: BTreeMap::new(),
        };
        ContainerName { container: container.to_owned(), called }
    }

    fn told(source: usize, news: News) -> Told {
        Told { source: Source::Engine(source), news }
    }

    fn names(of: Vec<ContainerName>) -> Vec<(String, String)> {
        let mut names: Vec<_> =
            of.into_iter().map(|name| (name.container, name.called.name)).collect();
        names.sort();
        names
    }

    fn pair(container: &str, name: &str) -> (String, String) {
        (container.to_owned(), name.to_owned())
    }

    #[test]
    fn what_is_new_or_has_changed_is_told_once() {
        let (mut known, now) = (Names::default(), Instant::now());
        known.take(told(0, News::Called(name("a", "web"))), now);
        known.take(told(0, News::Running(vec![name("a", "web"), name("b", "db")])), now);
        assert_eq!(names(known.take_untold(1)), [pair("a", "web")]);
        assert!(!known.is_clean());
        assert_eq!(names(known.take_untold(9)), [pair("b", "db")]);
        known.take(told(0, News::Ended(name("a", "web"))), now);
        assert!(known.is_clean());
        known.take(told(0, News::Called(name("a", "shop"))), now);
        assert_eq!(names(known.take_untold(9)), [pair("a", "shop")]);
        assert_eq!(names(known.all().collect()), [pair("a", "shop"), pair("b", "db")]);
    }

    #[test]
    fn of_several_sources_the_greatest_is_believed() {
        let (mut known, now) = (Names::default(), Instant::now());
        known.take(told(1, News::Called(name("a", "pod"))), now);
        known.take(told(0, News::Called(name("a", "k8s_web"))), now);
        assert_eq!(names(known.take_untold(9)), [pair("a", "pod")]);
        // What one does not list has not ended for the other.
        known.take(told(2, News::Running(Vec::new())), now);
        known.forget(now + KEPT, |_| false);
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn what_has_ended_is_known_as_long_as_something_speaks_of_it() {
        let (mut known, now) = (Names::default(), Instant::now());
        known.take(told(0, News::Ended(name("a", "short"))), now);
        known.take(told(0, News::Called(name("b", "long"))), now);
        known.forget(now + KEPT / 2, |_| false);
        assert_eq!(names(known.take_untold(9)), [pair("a", "short"), pair("b", "long")]);
        known.forget(now + KEPT, |container| container == "a");
        assert_eq!(known.len(), 2);
        known.take(told(0, News::Running(Vec::new())), now + KEPT);
        known.forget(now + KEPT, |_| false);
        assert_eq!(names(known.all().collect()), [pair("b", "long")]);
        known.forget(now + 2 * KEPT, |_| false);
        assert!(known.is_empty());
    }

    #[test]
    fn who_has_ended_makes_room() {
        let (mut known, now) = (Names::default(), Instant::now());
        let all: Vec<_> = (0..MOST).map(|number| name(&number.to_string(), "x")).collect();
        known.take(told(0, News::Running(all)), now);
        known.take(told(0, News::Called(name("more", "y"))), now);
        assert_eq!((known.len(), known.refused()), (MOST, 1));
        known.take(told(0, News::Ended(name("7", "x"))), now);
        known.take(told(0, News::Called(name("more", "y"))), now);
        assert_eq!((known.len(), known.refused()), (MOST, 1));
        let now = names(known.all().collect());
        assert!(now.contains(&pair("more", "y")) && !now.contains(&pair("7", "x")));
    }

    proptest! {
        /// Whoever reads what is told, in order, knows what is known, less what has been forgotten.
        #[test]
        fn what_is_told_is_what_is_known(
            steps in prop::collection::vec((0_usize..3, 0_u8..4, 0_u8..3, 0_u8..5), 0..60),
        ) {
            let (mut known, start) = (Names::default(), Instant::now());
            let mut reader = BTreeMap::new();
            for (number, (source, container, called, what)) in steps.into_iter().enumerate() {
                let now = start + KEPT / 4 * number as u32;
                let name = name(&container.to_string(), &called.to_string());
                match what {
                    0 => known.take(told(source, News::Called(name)), now),
                    1 => known.take(told(source, News::Ended(name)), now),
                    2 => known.take(told(source, News::Running(vec![name])), now),
                    3 => known.forget(now, |container| container == "1"),
                    _ => reader.extend(names(known.take_untold(1))),
                }
            }
            while !known.is_clean() {
                reader.extend(names(known.take_untold(1)));
            }
            for (container, called) in names(known.all().collect()) {
                prop_assert_eq!(reader.get(&container), Some(&called));
            }
        }
    }
}
