//! Steps that are over, for longer than memory has room: `history.redb` in the data directory.
//!
//! Steps of 10 s are merged into steps of a minute, and those into steps of ten; each tier has its share of the
//! bytes there may be, and its oldest steps go first. `tiers` has the rules, `table` the layout, `database` writes
//! and reads, `keeper` is the thread that does the writing.
//!
//! A step is a pure function of the state when it ends, and its begin is its key: one that is made again after a
//! crash takes the place of the first.

mod database;
pub(crate) mod fuzzing;
mod keeper;
mod table;
mod tiers;

#[cfg(test)]
mod tests;

pub(crate) use database::{Database, HistoryError};
pub(crate) use keeper::Keeper;
