//! What is counted: halves meet in links, links feed edges, edges make history.

mod addresses;
pub(crate) mod agreement;
pub(crate) mod edges;
pub(crate) mod externals;
pub(crate) mod former;
pub(crate) mod fronts;
pub(crate) mod gains;
pub mod half;
pub(crate) mod history;
mod known;
pub(crate) mod late;
pub(crate) mod link;
pub(crate) mod most;
pub(crate) mod packed;
pub(crate) mod pairing;
pub(crate) mod parts;
pub(crate) mod reach;
pub(crate) mod scoped;
pub mod series;
pub(crate) mod split;
pub(crate) mod tied;
pub(crate) mod witness;
