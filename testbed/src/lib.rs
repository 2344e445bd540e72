//! Hosts made of network namespaces and cgroups, traffic that knows its own truth,
//! and fleets of real agents and aggregators on top: what the end-to-end tests and the
//! demo are written with.
//!
//! Nothing here touches the machine's own network, and whatever a lab makes goes when the
//! lab is dropped. What a killed test left behind, the next lab removes.
#![deny(unsafe_code)]

pub mod apiserver;
pub mod binaries;
pub mod disk;
pub mod environment;
pub mod error;
pub mod fleet;
pub mod lab;
pub mod random;
pub mod traffic;
pub mod truth;
pub mod worlds;

pub use error::{Error, Result};
