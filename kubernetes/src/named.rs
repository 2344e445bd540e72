//! An object for tests, of which only the name is read.

use serde::Deserialize;

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Named {
    metadata: Name,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Name {
    name: String,
}

impl Named {
    pub(crate) fn name(&self) -> &str {
        &self.metadata.name
    }
}

pub(crate) fn named(name: &str) -> Named {
    Named { metadata: Name { name: name.to_owned() } }
}
