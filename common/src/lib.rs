//! What the kernel programs, the agent and the aggregator must agree on, in one
//! `no_std` crate without dependencies: the counters of a half, the buckets of
//! a histogram, and the layout of the kernel maps.
#![cfg_attr(not(any(test, feature = "std")), no_std)]

pub mod address;
pub mod counter;
pub mod histogram;
pub mod kernel;

pub use counter::{COUNTERS, Counter};
pub use histogram::{BUCKETS, HISTOGRAMS, HistogramKind};
