//! `weft-agent`: reads what the kernel programs count, names who it belongs to, and streams it to
//! the aggregator.
#![deny(unsafe_code)]

pub mod addresses;
pub mod app;
pub mod cgroup_fs;
pub mod cli;
pub mod clock;
pub mod collector;
pub mod config;
pub mod doctor;
pub mod former;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod kernel;
pub mod ledger;
mod memory;
pub mod metrics;
pub mod nat;
mod netlink;
mod netns;
pub mod owners;
pub mod privileges;
pub mod queue;
pub mod report;
pub mod runtimes;
pub mod source;
pub mod uplink;

#[cfg(test)]
mod testing;
