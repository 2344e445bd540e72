//! Which part of the graph: what a reader may see, what was asked for, and how much of it.

use std::sync::Arc;

use serde::Deserialize;
use topology::{Focus, Grouping, Id, Rank, Selection, Timestamp, View, Window};
use utoipa::IntoParams;

use super::{problem::Problem, restrict::restrict};
use crate::{config::Grant, state::Shared};

/// Most nodes of an answer that is asked for with a limit.
const MAX_LIMIT: usize = 5000;

/// Most edges that a node may be away from the one in focus.
const MAX_DEPTH: usize = 16;

/// Longest text that is looked for, in bytes.
const MAX_TEXT: usize = 256;

/// What part of the graph is asked for. What is not known is ignored: Grafana's plugins add their own.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct PartQuery {
    /// Only services of this namespace, and whom they talk to. Empty: those without one.
    namespace: Option<String>,
    /// Only services that were seen on this host, and whom they talk to.
    #[param(example = "host-1")]
    node: Option<String>,
    /// Only services whose name contains this, in whatever case, and whom they talk to.
    q: Option<String>,
    /// What the nodes of the answer are: services, or all of a `namespace`, `node` (a host) or `zone` as one; or each
    /// `workload` on each host for itself. Hosts and zones are those of the time that is told of; `coverage.history_from`
    /// says how far back that goes. What was asked for above is looked for before, what is below after.
    #[param(inline, value_type = Option<GroupBy>)]
    group_by: Option<String>,
    /// Only edges that moved at least so many payload bytes per second, over the window.
    #[param(value_type = Option<f64>, minimum = 0)]
    min_rate: Option<String>,
    /// Only what is around the node with this id.
    #[param(pattern = "^n[0-9a-z]{26}$")]
    focus: Option<String>,
    /// How many edges away from it, in either direction; 1 unless said.
    #[param(value_type = Option<u8>, minimum = 1, maximum = 16)]
    depth: Option<String>,
    /// What comes first, and stays when there is a limit: `bytes`, `connections`, `failures` or `rtt` (its 99th
    /// percentile).
    #[param(inline, value_type = Option<Sort>)]
    sort: Option<String>,
    /// Keeps so many services, the highest ones, and folds the rest into one of kind `other`; totals stay.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 5000)]
    limit: Option<String>,
}

/// The values of `group_by`, for the description of the API.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "only described")]
enum GroupBy {
    Service,
    Namespace,
    Node,
    Zone,
    Workload,
}

/// The values of `sort`, for the description of the API.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "only described")]
enum Sort {
    Bytes,
    Connections,
    Failures,
    Rtt,
}

impl PartQuery {
    /// Services, without how much of them.
    pub(super) fn selection(&self) -> Result<Selection, Problem> {
        for (name, text) in [("node", &self.node), ("namespace", &self.namespace), ("q", &self.q)] {
            if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
                return Err(Problem::bad_request(format!(
                    "{name} is longer than {MAX_TEXT} bytes"
                )));
            }
        }
        Ok(Selection {
            namespace: self.namespace.clone(),
            host: self.node.clone(),
            name: self.q.clone().filter(|part| !part.is_empty()),
            min_bytes_per_second: number(
                &self.min_rate,
                "min_rate",
                "a number from 0 on",
                |rate| (0.0..f64::INFINITY).contains(rate),
            )?,
            focus: self.focus()?,
        })
    }

    fn focus(&self) -> Result<Option<Focus>, Problem> {
        let expected = format!("a number between 1 and {MAX_DEPTH}");
        let depth = number(&self.depth, "depth", &expected, |n| (1..=MAX_DEPTH).contains(n))?;
        let Some(text) = &self.focus else {
            return match depth {
                None => Ok(None),
                Some(_) => Err(Problem::bad_request("depth goes with focus")),
            };
        };
        let id = Id::parse(text).ok_or_else(|| {
            Problem::bad_request(format!("focus: {text:?} is not the id of a node"))
        })?;
        Ok(Some(Focus { id, depth: depth.unwrap_or(1) }))
    }

    fn rank(&self) -> Result<Option<Rank>, Problem> {
        match self.sort.as_deref() {
            None => Ok(None),
            Some("bytes") => Ok(Some(Rank::Bytes)),
            Some("connections") => Ok(Some(Rank::Connections)),
            Some("failures") => Ok(Some(Rank::Failures)),
            Some("rtt") => Ok(Some(Rank::Rtt)),
            Some(text) => Err(Problem::bad_request(format!(
                "sort: {text:?} is not one of bytes, connections, failures, rtt"
            ))),
        }
    }

    fn grouping(&self) -> Result<Grouping, Problem> {
        match self.group_by.as_deref() {
            None | Some("service") => Ok(Grouping::Service),
            Some("namespace") => Ok(Grouping::Namespace),
            Some("node") => Ok(Grouping::Node),
            Some("zone") => Ok(Grouping::Zone),
            Some("workload") => Ok(Grouping::Workload),
            Some(text) => Err(Problem::bad_request(format!(
                "group_by: {text:?} is not one of service, namespace, node, zone, workload"
            ))),
        }
    }

    /// What of it can be compared over time: a part whose edges do not come and go with their numbers.
    pub(super) fn diffable(&self, grant: Arc<Grant>) -> Result<Part, Problem> {
        for (name, text) in [("min_rate", &self.min_rate), ("sort", &self.sort)] {
            if text.is_some() {
                return Err(Problem::bad_request(format!("{name} does not go with a diff")));
            }
        }
        Ok(Part { limit: None, ..Part::of(self, grant, None)? })
    }

    /// How many, if that was said.
    pub(super) fn limit(&self) -> Result<Option<usize>, Problem> {
        let expected = format!("a number between 1 and {MAX_LIMIT}");
        number(&self.limit, "limit", &expected, |limit| (1..=MAX_LIMIT).contains(limit))
    }
}

/// A number that fits, if there is one.
pub(super) fn number<T: std::str::FromStr>(
    text: &Option<String>,
    name: &str,
    expected: &str,
    fits: impl FnOnce(&T) -> bool,
) -> Result<Option<T>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let value = text.parse().ok().filter(fits);
    value
        .ok_or_else(|| Problem::bad_request(format!("{name}: {text:?} is not {expected}")))
        .map(Some)
}

/// A part of the graph.
pub(super) struct Part {
    grant: Arc<Grant>,
    /// Of services.
    selection: Selection,
    grouping: Grouping,
    /// Of what is shown.
    shown: Selection,
    rank: Option<Rank>,
    limit: Option<usize>,
}

impl Part {
    /// What was asked for; of how many when that was not said.
    pub(super) fn of(
        query: &PartQuery,
        grant: Arc<Grant>,
        limit: Option<usize>,
    ) -> Result<Self, Problem> {
        let (mut selection, grouping) = (query.selection()?, query.grouping()?);
        let mut shown = Selection::default();
        if grouping != Grouping::Service {
            shown.min_bytes_per_second = selection.min_bytes_per_second.take();
            shown.focus = selection.focus.take();
        }
        Ok(Self {
            grant,
            selection,
            grouping,
            shown,
            rank: query.rank()?,
            limit: query.limit()?.or(limit),
        })
    }

    /// What the nodes of the answer are.
    pub(super) const fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// The part of the graph over a window, as of now.
    pub(super) fn view(&self, shared: &Shared, window: Window) -> View {
        self.view_at(shared, window, shared.now())
    }

    /// The same as of a moment that was now.
    pub(super) fn view_at(&self, shared: &Shared, window: Window, now: Timestamp) -> View {
        if let Some(limit) = self.limit.filter(|_| self.is_of_all()) {
            let view = shared.folded(window, limit, self.rank.unwrap_or_default(), now);
            return self.in_order(view);
        }
        self.take(shared.view(window, self.grouping, now))
    }

    /// Leaves out the rest.
    pub(super) fn take(&self, view: View) -> View {
        let view = restrict(view, &self.grant).select(&self.selection);
        let mut view = view.group(self.grouping).select(&self.shown);
        if let Some(limit) = self.limit {
            view = view.fold(limit, self.rank.unwrap_or_default());
        }
        self.in_order(view)
    }

    /// Whether nothing is left out or put together before it is folded.
    fn is_of_all(&self) -> bool {
        self.grant.namespaces.is_none()
            && self.selection.is_all()
            && self.shown.is_all()
            && self.grouping == Grouping::Service
    }

    fn in_order(&self, view: View) -> View {
        match self.rank {
            Some(rank) => view.sorted(rank),
            None => view,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use proptest::prelude::*;

    fn everything() -> Arc<Grant> {
        Arc::new(Grant { name: String::new(), role: Role::Read, namespaces: None })
    }

    fn query(name: &str, text: &str) -> PartQuery {
        serde_json::from_value(serde_json::json!({ name: text })).unwrap()
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (name, text) in [
            ("min_rate", "-1"),
            ("min_rate", "inf"),
            ("min_rate", "NaN"),
            ("min_rate", ""),
            ("focus", "shop"),
            ("depth", "1"),
            ("sort", "name"),
            ("group_by", "port"),
            ("group_by", ""),
            ("limit", "0"),
            ("limit", "5001"),
            ("limit", "many"),
        ] {
            assert!(Part::of(&query(name, text), everything(), None).is_err(), "{name}={text}");
        }
        let long = "x".repeat(MAX_TEXT + 1);
        assert!(query("q", &long).selection().is_err());
        let focus = "n623fzhx8ptxkqej8ryfsgyqsjn";
        for depth in ["0", "17", "x"] {
            let query = PartQuery { depth: Some(depth.to_owned()), ..query("focus", focus) };
            assert!(query.selection().is_err(), "{depth}");
        }
        assert_eq!(query("focus", focus).selection().unwrap().focus.unwrap().depth, 1);
    }

    proptest! {
        #[test]
        fn any_text_is_a_part_or_an_error(
            name in "namespace|node|q|group_by|min_rate|focus|depth|sort|limit",
            text: String,
        ) {
            let _ = Part::of(&query(&name, &text), everything(), None);
        }
    }
}
