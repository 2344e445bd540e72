//! What is read from the graph.

pub mod coverage;
mod fold;
pub mod older;
pub mod published;
pub mod stats;
pub mod step;
pub mod view;
