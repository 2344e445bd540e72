//! The graph: records and `now` in, topology out. No I/O, no clock, no async.
//!
//! [`Graph`] takes in what agents report (nodes, addresses, listeners, halves and what they count),
//! [`Graph::tick`] joins, settles and puts away what was gained, and the rest reads: [`Graph::view`], or
//! [`Graph::slice`] where the graph must not wait, for a window of time, [`Graph::published`] for the series of `/metrics`, [`Graph::nodes`] for
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
    hasher::NumberHasher,
    histogram::Histogram,
    id::Id,
    time::{Timestamp, Window},
    totals::{EdgeTotals, MEASURES, Measure},
};
pub use config::Config;
pub use count::{
    edges::{PROTOCOL, Seen},
    half::{Gained, HalfIx},
    history::Lost,
    packed::{Entry, Packer, Raw, Unpacker},
    series::Series,
};
pub use error::{Claim, ConnectError, DefineError};
pub use graph::{
    Graph,
    late::LateBatch,
    room::Telling,
    snapshot::{SNAPSHOT_VERSION, Snapshot},
};
pub use model::{Counter, HistogramKind};
pub use nodes::{
    AgentFacts, Connection, Folded, Incarnation, Node, NodeIx, StreamId,
    told::{Hole, HoleReason, Stretch},
};
pub use show::{
    coverage::Coverage,
    diff::{ChangeKind, EdgeChange, Reason, Subject, Thresholds, diff, nodes_of},
    explain::{Difference, Explanation, Meeting, SeenOn, Spot},
    group::Grouping,
    older::Older,
    published::Published,
    rank::Rank,
    rows::StepRows,
    select::{Focus, Selection},
    slice::Slice,
    stats::Stats,
    step::{EndedStep, Given, GivenSteps, StepEdge, StepEdges, StepRow, StepTotals},
    sums::Sums,
    view::{SeenBy, View, ViewEdge, ViewNode},
};
pub use who::basis::Basis;
pub use who::cluster::facts::{
    ClusterChange, ClusterEndpoint, ClusterKind, ClusterNews, ClusterNode, ClusterService,
    ClusterSlice, ObjectName, ServicePort,
};
pub use who::rules::{Network, Rules, ServiceRule};
pub use who::services::{WORKLOAD_BYTES, WorkloadIx};
pub use who::zones::Zones;
