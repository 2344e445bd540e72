//! Records of the ring buffer.

use crate::Target;

/// They are hints, or none.
pub const TARGET: Target = Target {
    name: "hints",
    about: "hints from the ring buffer",
    run: node_agent::fuzzing::hints,
    seeds: || (1..=3).map(|kind| [kind, 0, 0, 0].into_iter().chain([9; 12]).collect()).collect(),
    longest: 64,
};
