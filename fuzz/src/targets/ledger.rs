//! What an agent has left beside its pinned programs.

use crate::Target;

/// What the next agent understands it writes anew, and understands the same again.
pub const TARGET: Target = Target {
    name: "ledger",
    about: "ledgers of pinned programs, as an agent finds them that adopts",
    run: node_agent::fuzzing::ledger,
    seeds: node_agent::fuzzing::ledgers,
    longest: 4096,
};
