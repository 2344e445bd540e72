//! The rules of `docs/ARCHITECTURE.md`, one by one, and what holds whatever arrives.

mod apart;
mod asking;
mod behind;
mod cluster;
mod explaining;
mod externals;
mod finer;
mod folding;
mod founded;
mod holders;
mod joining;
mod late;
mod lives;
mod naming;
mod pairs;
mod properties;
mod renaming;
mod restarts;
mod room;
mod settling;
mod sharing;
mod slicing;
mod splitting;
mod translated;
mod windows;
mod world;
