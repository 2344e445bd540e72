//! A step that is over, for whoever keeps it longer than the graph does.

use std::sync::Arc;

use super::view::ViewNode;
use crate::{
    base::{id::Id, time::Window, totals::EdgeTotals},
    count::{edges::Seen, history::Lost},
};

/// Steps that are given out, in order.
#[derive(Clone, Debug)]
pub struct Given {
    /// One more than that of what was given out before. What is done again after a restart has the number that it
    /// had the first time.
    pub number: u64,
    /// What.
    pub steps: GivenSteps,
}

/// What is given out.
#[derive(Clone, Debug)]
pub enum GivenSteps {
    /// A step is over.
    Ended(EndedStep),
    /// More of steps that are over: what came late. Nothing in them says which connections were open.
    Late(Vec<EndedStep>),
}

/// A step that is over.
#[derive(Clone, Debug)]
pub struct EndedStep {
    /// From when to when.
    pub window: Window,
    /// What was lost in it.
    pub lost: Lost,
    /// Every edge that gained something in it or has a connection open at its end.
    pub edges: Vec<StepEdge>,
}

/// What an edge had in a step.
#[derive(Clone, Debug)]
pub struct StepEdge {
    /// Stable id.
    pub id: Id,
    /// The client.
    pub source: Arc<ViewNode>,
    /// The server.
    pub target: Arc<ViewNode>,
    /// The port the server listens on.
    pub server_port: u16,
    /// Who reported it.
    pub seen: Seen,
    /// Connections open at the end of the step.
    pub connections_open: u64,
    /// What it gained.
    pub totals: EdgeTotals,
}
