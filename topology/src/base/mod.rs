//! What everything else is made of: time, ids, histograms, totals, storage, shares of room.

pub(crate) mod arena;
pub(crate) mod bits;
mod cells;
pub mod hasher;
pub mod histogram;
pub mod id;
pub(crate) mod index;
pub(crate) mod paged;
pub(crate) mod shares;
pub(crate) mod sheet;
pub mod time;
pub mod totals;
