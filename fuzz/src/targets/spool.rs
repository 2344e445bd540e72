//! Files of the agent's spool.

use crate::{Target, link, place};

/// What is read of a damaged file is how it began.
pub const TARGET: Target = Target {
    name: "spool",
    about: "files of the agent's spool, whole and damaged",
    run: |data| node_agent::fuzzing::spool(place(), data),
    seeds: || node_agent::fuzzing::spool_files(place(), &link::batches(0)),
    longest: 4096,
};
