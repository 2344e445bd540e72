//! What is read from the graph.

mod abreast;
mod adding;
pub mod coverage;
pub mod diff;
pub mod explain;
mod finer;
mod fold;
mod folded;
pub mod group;
pub mod older;
mod pending;
pub mod published;
pub mod rank;
pub mod rows;
pub mod select;
pub mod slice;
pub mod stats;
pub mod step;
pub mod sums;
pub mod view;
