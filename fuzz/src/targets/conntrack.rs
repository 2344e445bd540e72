//! Answers of the kernel's connection tracking.

use crate::Target;

/// They are read to where they make sense; what is a translated connection has two views that differ.
pub const TARGET: Target = Target {
    name: "conntrack",
    about: "connections and interfaces, as netlink lists them",
    run: node_agent::fuzzing::connections,
    seeds: || vec![node_agent::fuzzing::answer()],
    longest: 1024,
};
