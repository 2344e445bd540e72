//! Random worlds: hosts, workloads and what they say to each other, drawn from a seed, played with real traffic under real
//! agents, and compared with the graph that is served in the end. It has to be the truth: every edge, no other, every
//! count.
//!
//! - `plan` is what a world is, `check` when it makes sense.
//! - `draw` makes one of a seed.
//! - `ground` makes its hosts, `nat` has what those translate, and `play` lets it happen.
//! - `ports` finds what nobody can tell apart, `verdict` compares; `run` does it all.

mod check;
mod draw;
mod feature;
mod ground;
mod nat;
mod plan;
mod play;
mod ports;
mod run;
mod verdict;

pub use self::{
    feature::{Feature, Features},
    run::{Options, Outcome, run},
    verdict::Verdict,
};
