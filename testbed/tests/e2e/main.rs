//! One aggregator, three hosts with an agent each, and peers that know the truth: what the
//! API serves must be exactly that.
//!
//! Needs root, BPF and the built programs. Without them every test here says so and is
//! skipped; in CI it fails.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../support/mod.rs"]
mod support;

mod cut;
mod descriptors;
mod docker;
mod ending;
mod failures;
mod flood;
mod handover;
mod hints;
mod interfaces;
mod kubernetes;
mod nat;
mod older;
mod payload;
mod pinned;
mod privileges;
mod prometheus;
mod replaced;
mod resets;
mod sharing;
mod timing;
mod truth;
mod vanish;
mod world;
