//! What everything else is made of: time, ids, histograms, totals, storage.

pub(crate) mod arena;
pub mod histogram;
pub mod id;
pub mod time;
pub mod totals;
