//! The aggregator's snapshots.

use crate::{Target, link, place};

/// What is read is written the same.
pub const TARGET: Target = Target {
    name: "snapshot",
    about: "snapshots of the aggregator's state",
    run: |data| aggregator::fuzzing::snapshot(place(), data),
    seeds: || aggregator::fuzzing::snapshots(place(), &link::stream(4)),
    longest: 8192,
};
