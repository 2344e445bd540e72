//! What is read from the graph.

pub mod coverage;
mod fold;
pub mod stats;
pub mod view;
