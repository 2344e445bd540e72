//! `/api/v1/topology/diff`.

use std::sync::Arc;

use axum::{
    extract::{Extension, Query, State},
    response::Response,
};
use serde::{Deserialize, Serialize};
use topology::{EdgeChange, Reason, Thresholds, View, Window, diff, nodes_of};
use utoipa::{IntoParams, ToSchema};

use super::{
    answer,
    part::{PartQuery, number},
    problem::Problem,
    shapes::{CoverageJson, EdgeJson, NodeJson, WindowJson},
    window::{self, WindowQuery},
};
use crate::{config::Grant, state::Shared};

/// Changes told unless asked otherwise.
const DEFAULT_LIMIT: usize = 100;

/// With what to compare, and how much has to differ.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct DiffQuery {
    /// Begin of the window to compare with; as long before `base_to` as the other window is long, unless said.
    #[param(example = "-65m")]
    base_from: Option<String>,
    /// End of the window to compare with; `from` unless said.
    #[param(example = "-60m")]
    base_to: Option<String>,
    /// Connections, attempts or samples without which nothing is compared; 50 unless said.
    #[param(value_type = Option<u64>, minimum = 1)]
    min_samples: Option<String>,
    /// A rate changed when it is so many times as high, or as low; 2 unless said.
    #[param(value_type = Option<f64>, minimum = 1)]
    rate_factor: Option<String>,
    /// A share of failed attempts or of resets, between 0 and 1, changed when it differs by as much; 0.02 unless said.
    #[param(value_type = Option<f64>, minimum = 0, maximum = 1)]
    share_difference: Option<String>,
    /// A 99th percentile changed when it is so many times as long, or as short; 1.5 unless said.
    #[param(value_type = Option<f64>, minimum = 1)]
    p99_factor: Option<String>,
}

/// What changed from one window to another.
#[derive(Serialize, ToSchema)]
pub(super) struct Diff {
    window: WindowJson,
    base_window: WindowJson,
    coverage: CoverageJson,
    base_coverage: CoverageJson,
    thresholds: ThresholdsJson,
    /// The ends of all edges below.
    nodes: Vec<NodeJson>,
    /// Most important first: what fails more, what vanished, what is new, what is slower, what has another rate, what
    /// got better; the busier edge first.
    changes: Vec<ChangeJson>,
    /// How many changes there are, whatever the limit.
    changes_total: usize,
}

/// How much had to change to be told.
#[derive(Serialize, ToSchema)]
#[schema(as = Thresholds)]
struct ThresholdsJson {
    min_samples: u64,
    min_bytes: u64,
    rate_factor: f64,
    share_difference: f64,
    p99_factor: f64,
}

/// An edge that is not what it was.
#[derive(Serialize, ToSchema)]
#[schema(as = Change)]
struct ChangeJson {
    /// `new`, `vanished` or `changed`.
    change: &'static str,
    /// The edge in the base window; null when it is new.
    before: Option<EdgeJson>,
    /// The edge in the window; null when it vanished.
    after: Option<EdgeJson>,
    /// Which numbers changed; none when it is new or vanished.
    reasons: Vec<ReasonJson>,
    /// It is gone, but no host that could have seen it reports.
    unwatched: bool,
}

/// A number that changed.
#[derive(Serialize, ToSchema)]
#[schema(as = Reason)]
struct ReasonJson {
    /// `failure_share`, `reset_share`, `rtt_p99_seconds`, `connect_p99_seconds`, `connections_per_second` or
    /// `bytes_per_second`.
    what: &'static str,
    before: f64,
    after: f64,
}

/// What changed from one window to another: edges that are new, vanished, or have other numbers.
#[utoipa::path(
    get,
    path = "/api/v1/topology/diff",
    params(WindowQuery, DiffQuery, PartQuery),
    responses(
        (status = 200, description = "what changed", body = Diff),
        (status = "4XX", response = Problem),
        (status = "5XX", response = Problem),
    ),
)]
pub(super) async fn topology_diff(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Query(window): Query<WindowQuery>,
    Query(query): Query<DiffQuery>,
    Query(part): Query<PartQuery>,
) -> Result<Response, Problem> {
    let now = shared.now();
    let window = window.window(now)?;
    let base = query.base(window, now)?;
    let thresholds = query.thresholds()?;
    let limit = part.limit()?.unwrap_or(DEFAULT_LIMIT);
    let part = part.diffable(grant)?;
    answer::json(shared, move |shared| {
        let [before, after] = [base, window].map(|window| part.view_at(shared, window, now));
        Diff::of(before, after, thresholds, limit)
    })
    .await
}

impl DiffQuery {
    fn base(&self, window: Window, now: topology::Timestamp) -> Result<Window, Problem> {
        let to = window::read("base_to", &self.base_to, now)?.unwrap_or(window.from);
        let span = window.to.since(window.from);
        window::window(("base_from", &self.base_from), to, span, now)
    }

    fn thresholds(&self) -> Result<Thresholds, Problem> {
        let factor = |text, name, default| {
            let factor =
                number(text, name, "a number from 1 on", |n| (1.0..f64::INFINITY).contains(n))?;
            Ok::<_, Problem>(factor.unwrap_or(default))
        };
        let known = Thresholds::default();
        let samples = number(&self.min_samples, "min_samples", "a number from 1 on", |n| *n > 0)?;
        let share = "a number between 0 and 1";
        let share =
            number(&self.share_difference, "share_difference", share, |n| (0.0..=1.0).contains(n))?;
        Ok(Thresholds {
            min_samples: samples.unwrap_or(known.min_samples),
            rate_factor: factor(&self.rate_factor, "rate_factor", known.rate_factor)?,
            share_difference: share.unwrap_or(known.share_difference),
            p99_factor: factor(&self.p99_factor, "p99_factor", known.p99_factor)?,
            ..known
        })
    }
}

impl Diff {
    fn of(before: View, after: View, thresholds: Thresholds, limit: usize) -> Self {
        let mut changes = diff(&before, &after, &thresholds);
        let changes_total = changes.len();
        changes.truncate(limit);
        let nodes = nodes_of(&changes, &before, &after);
        Self {
            window: after.window.into(),
            base_window: before.window.into(),
            coverage: after.coverage.into(),
            base_coverage: before.coverage.into(),
            thresholds: thresholds.into(),
            nodes: nodes.iter().map(|node| NodeJson::from(node.as_ref())).collect(),
            changes: changes.iter().map(ChangeJson::from).collect(),
            changes_total,
        }
    }
}

impl From<Thresholds> for ThresholdsJson {
    fn from(thresholds: Thresholds) -> Self {
        Self {
            min_samples: thresholds.min_samples,
            min_bytes: thresholds.min_bytes,
            rate_factor: thresholds.rate_factor,
            share_difference: thresholds.share_difference,
            p99_factor: thresholds.p99_factor,
        }
    }
}

impl From<&EdgeChange> for ChangeJson {
    fn from(change: &EdgeChange) -> Self {
        Self {
            change: change.kind.name(),
            before: change.before.as_ref().map(EdgeJson::from),
            after: change.after.as_ref().map(EdgeJson::from),
            reasons: change.reasons.iter().map(ReasonJson::from).collect(),
            unwatched: change.unwatched,
        }
    }
}

impl From<&Reason> for ReasonJson {
    fn from(reason: &Reason) -> Self {
        Self { what: reason.subject.name(), before: reason.before, after: reason.after }
    }
}
