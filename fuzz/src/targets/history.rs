//! Rows of the history's tables.

use crate::{Target, place};

/// What is read of a step is written the same.
pub const TARGET: Target = Target {
    name: "history",
    about: "rows of the history's tables",
    run: |data| aggregator::fuzzing::history(place(), data),
    seeds: || aggregator::fuzzing::history_rows(),
    longest: 4096,
};
