//! Which zone a host is in, by what the user says.

use super::rules::matches;

/// Zones of hosts: the first that fits counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones(Vec<(String, String)>);

impl Zones {
    /// Patterns of hosts' names (`*` stands for any text, `?` for any character), each with its zone.
    #[must_use]
    pub const fn new(zones: Vec<(String, String)>) -> Self {
        Self(zones)
    }

    /// The zone of a host.
    #[must_use]
    pub fn of(&self, host: &str) -> Option<&str> {
        let fits = |(pattern, _): &&(String, String)| matches(pattern, host);
        self.0.iter().find(fits).map(|(_, zone)| zone.as_str())
    }
}
