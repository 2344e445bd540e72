//! What everything else is made of: time, ids, histograms, totals, storage.

pub(crate) mod arena;
mod cells;
pub mod histogram;
pub mod id;
pub mod time;
pub mod totals;
