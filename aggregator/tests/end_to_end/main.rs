//! The aggregator as agents and readers meet it: real mTLS on loopback, real HTTP.

// Helpers of tests may panic as the tests may.
#![allow(clippy::unwrap_used, clippy::panic)]

mod access;
mod agent;
mod asking;
mod attack;
mod binary;
mod certificates;
mod cluster;
mod described;
mod disks;
mod doors;
mod faults;
mod fleet;
mod grafana;
mod ingest;
mod memory;
mod naming;
mod questions;
mod readers;
mod reports;
mod restarts;
mod scraped;
mod security;
mod silence;
mod skew;
mod slow;
mod tools;
