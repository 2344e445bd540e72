//! The graph: records and `now` in, topology out. No I/O, no clock, no async.
#![forbid(unsafe_code)]

pub mod model;
