//! Batches of agents.

use crate::{Target, link, place};

/// Two agents; what comes twice counts once.
pub const TARGET: Target = Target {
    name: "batches",
    about: "batches of two agents, delivered once and twice",
    run: |data| aggregator::fuzzing::batches(place(), data),
    seeds: || (1..=4).map(link::stream).collect(),
    longest: 4096,
};
