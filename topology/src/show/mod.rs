//! What is read from the graph.

pub mod coverage;
pub mod diff;
pub mod explain;
mod finer;
mod fold;
pub mod group;
pub mod older;
pub mod published;
pub mod rank;
pub mod select;
pub mod stats;
pub mod step;
pub mod view;
