//! The graph: records and `now` in, topology out. No I/O, no clock, no async.
//!
//! [`Graph`] takes in what agents report (nodes, addresses, listeners, halves and what they count),
//! [`Graph::tick`] joins, settles and puts away what was gained, and the rest reads: [`Graph::view`]
//! for a window of time, [`Graph::published`] for the series of `/metrics`, [`Graph::nodes`] for
//! the hosts. `docs/ARCHITECTURE.md` has the rules; the folders follow them:
//!
//! - `base/` time, ids, histograms, totals,
//! - `who/` services, places and the evidence that leads from one to the other,
//! - `count/` halves, links, edges, history,
//! - `graph/` what ties them together,
//! - `show/` what is read.
#![forbid(unsafe_code)]

mod base;
mod config;
mod count;
mod error;
mod graph;
pub mod model;
mod nodes;
mod show;
#[cfg(test)]
mod tests;
mod who;

pub use base::{
    histogram::Histogram,
    id::Id,
    time::{Timestamp, Window},
    totals::{EdgeTotals, MEASURES, Measure},
};
pub use config::Config;
pub use count::{
    edges::{PROTOCOL, Seen},
    half::HalfIx,
    history::Lost,
    packed::{Entry, Packer, Unpacker},
    series::Series,
};
pub use error::{Claim, ConnectError, DefineError};
pub use graph::{
    Graph,
    snapshot::{SNAPSHOT_VERSION, Snapshot},
};
pub use model::{Counter, HistogramKind};
pub use nodes::{AgentFacts, Connection, Incarnation, Node, NodeIx, StreamId};
pub use show::{
    coverage::Coverage,
    older::Older,
    published::Published,
    stats::Stats,
    step::{EndedStep, StepEdge},
    view::{SeenBy, View, ViewEdge, ViewNode},
};
pub use who::services::WorkloadIx;
