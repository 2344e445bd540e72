//! Which zone a host is in, by what the user says, else Kubernetes.

use std::{collections::BTreeMap, sync::Arc};

use super::rules::matches;

/// Zones of hosts: the first that fits counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones {
    /// By pattern, as the user says.
    said: Arc<Vec<(String, String)>>,
    /// By name, where the user says nothing.
    known: BTreeMap<String, String>,
}

impl Zones {
    /// Patterns of hosts' names (`*` stands for any text, `?` for any character), each with its zone.
    #[must_use]
    pub fn new(zones: Vec<(String, String)>) -> Self {
        Self { said: Arc::new(zones), known: BTreeMap::new() }
    }

    /// The same with the zones of hosts by their names, for hosts that no pattern fits.
    #[must_use]
    pub fn or(mut self, known: BTreeMap<String, String>) -> Self {
        self.known = known;
        self
    }

    /// The zone of a host.
    #[must_use]
    pub fn of(&self, host: &str) -> Option<&str> {
        let fits = |(pattern, _): &&(String, String)| matches(pattern, host);
        let said = self.said.iter().find(fits).map(|(_, zone)| zone);
        said.or_else(|| self.known.get(host)).map(String::as_str)
    }
}
