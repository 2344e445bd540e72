//! What may happen in a world.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// Something that makes a graph hard to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// Servers that only their own network namespace reaches, at ports that others have as well.
    Loopback,
    /// Several servers behind one address and port.
    Shared,
    /// Addresses and ports that go from one workload to another, and services that start again.
    Reuse,
    /// Containers that live for some tenths of a second.
    Short,
    /// A host without an agent, both ways.
    External,
    /// Attempts that fail.
    Failures,
    /// Connections that stay open while other things happen.
    Kept,
    /// Containers behind bridges that have the same addresses on several hosts.
    Bridges,
    /// Addresses of services that hosts translate, and ports that are published for a container.
    Dnat,
    /// Containers that hosts hide behind their own address.
    Snat,
}

/// A set of features.
pub type Features = BTreeSet<Feature>;

impl Feature {
    /// Every feature.
    pub const ALL: [Feature; 10] = [
        Feature::Loopback,
        Feature::Shared,
        Feature::Reuse,
        Feature::Short,
        Feature::External,
        Feature::Failures,
        Feature::Kept,
        Feature::Bridges,
        Feature::Dnat,
        Feature::Snat,
    ];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Feature::Loopback => "loopback",
            Feature::Shared => "shared",
            Feature::Reuse => "reuse",
            Feature::Short => "short",
            Feature::External => "external",
            Feature::Failures => "failures",
            Feature::Kept => "kept",
            Feature::Bridges => "bridges",
            Feature::Dnat => "dnat",
            Feature::Snat => "snat",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Feature {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|feature| feature.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.map(Self::name).to_vec();
            format!("`{text}` is none of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_known_by_their_names() {
        for feature in Feature::ALL {
            assert_eq!(feature.to_string().parse(), Ok(feature));
        }
        assert!("nat".parse::<Feature>().is_err());
    }
}
