//! Steps that are over, for longer than memory has room: `history.redb` in the data directory.
//!
//! Steps of 10 s are merged into steps of a minute, and those into steps of ten; each tier has its share of the
//! bytes there may be, and its oldest steps go first. `tiers` has the rules, `table` the layout, `database` and `steps`
//! write and read, `names` has the numbers of services and edges, `late` adds to what is written, `merge` makes
//! one step of several, `keeper` is the thread that does the writing.
//!
//! What the state gives out follows from the state alone and is numbered; the number of the last that was written is
//! written with it, and what a restart makes again up to that number is passed over. So what comes late can be
//! added to steps that are there.

mod bench;
mod database;
pub(crate) mod fuzzing;
mod keeper;
mod late;
mod merge;
mod names;
mod steps;
mod table;
mod tiers;

#[cfg(test)]
mod tests;

pub use bench::InMemory;
pub(crate) use database::{Database, HistoryError};
pub(crate) use keeper::Keeper;
