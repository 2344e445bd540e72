//! Files of the aggregator's journal.

use crate::{Target, link, place};

/// What is read of a damaged file is how it began; a state does any entries again.
pub const TARGET: Target = Target {
    name: "journal",
    about: "files of the journal, whole and damaged, and the entries in them",
    run: |data| aggregator::fuzzing::journal(place(), data),
    seeds: || aggregator::fuzzing::journal_files(place(), &link::stream(4)),
    longest: 8192,
};
