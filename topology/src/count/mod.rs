//! What is counted: halves meet in links, links feed edges, edges make history.

pub(crate) mod agreement;
pub(crate) mod edges;
pub(crate) mod externals;
pub(crate) mod gains;
pub mod half;
pub(crate) mod history;
pub(crate) mod late;
pub(crate) mod link;
pub(crate) mod packed;
pub(crate) mod pairing;
pub(crate) mod parts;
pub mod series;
pub(crate) mod split;
pub(crate) mod witness;
