//! What changed between two windows.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::view::{View, ViewEdge, ViewNode};
use crate::{
    base::{
        id::Id,
        totals::{EdgeTotals, Measure},
    },
    model::{HistogramKind, WorkloadKind},
};

/// How much has to change to be told. Of windows of different lengths, rates are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Connections, attempts or samples that there must be in both windows to compare shares and quantiles, and in
    /// one of them to compare rates.
    pub min_samples: u64,
    /// Payload bytes that there must be in one of the windows to compare rates of bytes.
    pub min_bytes: u64,
    /// A rate changed when it is so many times as high as before, or as low.
    pub rate_factor: f64,
    /// A share of connections or attempts, between 0 and 1, changed when it differs by as much.
    pub share_difference: f64,
    /// A 99th percentile changed when it is so many times as long as before, or as short. A bucket is 9 % wide.
    pub p99_factor: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            min_samples: 50,
            min_bytes: 1 << 20,
            rate_factor: 2.0,
            share_difference: 0.02,
            p99_factor: 1.5,
        }
    }
}

/// What happened to an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there before.
    New,
    /// It is not there any more.
    Vanished,
    /// Its numbers are others.
    Changed,
}

impl ChangeKind {
    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ChangeKind::New => "new",
            ChangeKind::Vanished => "vanished",
            ChangeKind::Changed => "changed",
        }
    }
}

/// A number that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Share of the attempts to connect that failed.
    FailureShare,
    /// Share of the established connections that ended with a reset.
    ResetShare,
    /// 99th percentile of the round-trip time, in seconds.
    RttP99,
    /// 99th percentile of the time to connect, in seconds.
    ConnectP99,
    /// Connections per second.
    ConnectionRate,
    /// Payload bytes per second.
    ByteRate,
}

impl Subject {
    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Subject::FailureShare => "failure_share",
            Subject::ResetShare => "reset_share",
            Subject::RttP99 => "rtt_p99_seconds",
            Subject::ConnectP99 => "connect_p99_seconds",
            Subject::ConnectionRate => "connections_per_second",
            Subject::ByteRate => "bytes_per_second",
        }
    }
}

/// Why an edge is said to have changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reason {
    /// What changed.
    pub subject: Subject,
    /// What it was.
    pub before: f64,
    /// What it is.
    pub after: f64,
}

/// An edge that is not what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeChange {
    /// What happened to it.
    pub kind: ChangeKind,
    /// The edge before; `None` when it is new.
    pub before: Option<ViewEdge>,
    /// The edge now; `None` when it vanished.
    pub after: Option<ViewEdge>,
    /// Which numbers changed; none of an edge that is new or vanished.
    pub reasons: Vec<Reason>,
    /// It is gone, but none of the hosts that could have seen it reports.
    pub unwatched: bool,
}

/// How important a change is: the first is most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Fails,
    Vanished,
    New,
    Slower,
    Rate,
    Better,
}

/// What changed from one window to another, most important first: what fails more than before, what vanished, what is
/// new, what is slower, what has another rate, and what got better; the busier edge first.
#[must_use]
pub fn diff(before: &View, after: &View, thresholds: &Thresholds) -> Vec<EdgeChange> {
    let spans = [before, after].map(|view| view.window.to.since(view.window.from));
    let old: HashMap<Id, &ViewEdge> = before.edges.iter().map(|edge| (edge.id, edge)).collect();
    let kept: HashSet<Id> = after.edges.iter().map(|edge| edge.id).collect();
    let watch = Watch::of(before, after);
    let mut changes = Vec::new();
    for edge in &after.edges {
        let (kind, reasons) = match old.get(&edge.id) {
            None => (ChangeKind::New, Vec::new()),
            Some(old) => {
                let reasons = compare([&old.totals, &edge.totals], spans, thresholds);
                if reasons.is_empty() {
                    continue;
                }
                (ChangeKind::Changed, reasons)
            }
        };
        changes.push(EdgeChange {
            kind,
            before: old.get(&edge.id).map(|edge| (*edge).clone()),
            after: Some(edge.clone()),
            reasons,
            unwatched: false,
        });
    }
    for edge in before.edges.iter().filter(|edge| !kept.contains(&edge.id)) {
        changes.push(EdgeChange {
            kind: ChangeKind::Vanished,
            before: Some(edge.clone()),
            after: None,
            reasons: Vec::new(),
            unwatched: !watch.looks_at(edge),
        });
    }
    changes.sort_by(|a, b| {
        let [a, b] = [a, b].map(|change| (change.class(thresholds), change.traffic(spans)));
        let rate = |x: f64, y: f64| y.partial_cmp(&x).unwrap_or(Ordering::Equal);
        a.0.cmp(&b.0).then_with(|| rate(a.1.0, b.1.0)).then_with(|| rate(a.1.1, b.1.1))
    });
    changes
}

/// Which hosts report, and which a node was seen on.
struct Watch<'a> {
    silent: HashSet<&'a str>,
    nodes: HashMap<Id, &'a ViewNode>,
}

impl<'a> Watch<'a> {
    fn of(before: &'a View, after: &'a View) -> Self {
        let node = |node: &'a Arc<ViewNode>| (node.id, node.as_ref());
        Self {
            silent: after.coverage.nodes_silent.iter().map(String::as_str).collect(),
            nodes: before.nodes.iter().map(node).collect(),
        }
    }

    /// Whether somebody would see the edge if it were there.
    fn looks_at(&self, edge: &ViewEdge) -> bool {
        let ends = [edge.source, edge.target].into_iter().filter_map(|end| self.nodes.get(&end));
        let mut hosts = ends
            .filter(|node| node.kind != WorkloadKind::External)
            .flat_map(|node| &node.hosts)
            .peekable();
        hosts.peek().is_none() || hosts.any(|host| !self.silent.contains(host.as_str()))
    }
}

impl EdgeChange {
    fn class(&self, thresholds: &Thresholds) -> Class {
        let class = |reason: &Reason| {
            let more = reason.after > reason.before;
            match reason.subject {
                Subject::FailureShare | Subject::ResetShare if more => Class::Fails,
                Subject::RttP99 | Subject::ConnectP99 if more => Class::Slower,
                Subject::ConnectionRate | Subject::ByteRate => Class::Rate,
                _ => Class::Better,
            }
        };
        match self.kind {
            ChangeKind::Vanished => Class::Vanished,
            // An edge that is new and does not work is above all one that does not work.
            ChangeKind::New if self.after.as_ref().is_some_and(|edge| fails(edge, thresholds)) => {
                Class::Fails
            }
            ChangeKind::New => Class::New,
            ChangeKind::Changed => self.reasons.iter().map(class).min().unwrap_or(Class::Better),
        }
    }

    /// Attempts and bytes per second, of the edge as it is, or was.
    fn traffic(&self, [before, after]: [Duration; 2]) -> (f64, f64) {
        let now = self.after.as_ref().map(|edge| (edge, after));
        let Some((edge, span)) = now.or(self.before.as_ref().map(|edge| (edge, before))) else {
            return (0.0, 0.0);
        };
        (rate(attempts(&edge.totals), span), rate(edge.totals.bytes(), span))
    }
}

fn fails(edge: &ViewEdge, thresholds: &Thresholds) -> bool {
    let share = share(edge.totals.failures(), attempts(&edge.totals), 1);
    share.is_some_and(|share| share >= thresholds.share_difference)
}

fn attempts(totals: &EdgeTotals) -> u64 {
    totals.get(Measure::Connections).saturating_add(totals.failures())
}

fn rate(count: u64, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64().max(1e-9)
}

/// What share of `all` is, when there are enough of them.
fn share(part: u64, all: u64, min: u64) -> Option<f64> {
    (all >= min.max(1)).then(|| part as f64 / all as f64)
}

fn compare(totals: [&EdgeTotals; 2], spans: [Duration; 2], least: &Thresholds) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut tell = |subject, [before, after]: [f64; 2]| {
        reasons.push(Reason { subject, before, after });
    };
    let resets = |totals: &EdgeTotals| {
        let by_server = totals.get(Measure::ResetsByServer);
        totals.get(Measure::ResetsByClient).saturating_add(by_server)
    };
    let connections = |totals: &EdgeTotals| totals.get(Measure::Connections);
    for (subject, [before, after]) in [
        (
            Subject::FailureShare,
            totals.map(|t| share(t.failures(), attempts(t), least.min_samples)),
        ),
        (Subject::ResetShare, totals.map(|t| share(resets(t), connections(t), least.min_samples))),
    ] {
        if let (Some(before), Some(after)) = (before, after)
            && (after - before).abs() >= least.share_difference
        {
            tell(subject, [before, after]);
        }
    }
    for (subject, kind) in
        [(Subject::RttP99, HistogramKind::Rtt), (Subject::ConnectP99, HistogramKind::Connect)]
    {
        let histograms = totals.map(|totals| totals.histogram(kind));
        let enough = histograms.iter().all(|histogram| histogram.count() >= least.min_samples);
        if let [Some(before), Some(after)] = histograms.map(|histogram| histogram.quantile(0.99))
            && enough
            && differs(before, after, least.p99_factor)
        {
            tell(subject, [before, after]);
        }
    }
    for (subject, counts, min) in [
        (Subject::ConnectionRate, totals.map(connections), least.min_samples),
        (Subject::ByteRate, totals.map(EdgeTotals::bytes), least.min_bytes),
    ] {
        let rates = [rate(counts[0], spans[0]), rate(counts[1], spans[1])];
        let enough = counts.iter().any(|count| *count >= min.max(1));
        if enough && differs(rates[0], rates[1], least.rate_factor) {
            tell(subject, rates);
        }
    }
    reasons
}

/// Whether one of two is `factor` times the other, or more.
fn differs(before: f64, after: f64, factor: f64) -> bool {
    before.max(after) >= factor * before.min(after)
}

/// The ends of the edges that changed, by id; as they were later, where they are in both views.
#[must_use]
pub fn nodes_of(changes: &[EdgeChange], before: &View, after: &View) -> Vec<Arc<ViewNode>> {
    let edges = changes.iter().flat_map(|change| [&change.before, &change.after]).flatten();
    let ends: HashSet<Id> = edges.flat_map(|edge| [edge.source, edge.target]).collect();
    let nodes = after.nodes.iter().chain(&before.nodes).filter(|node| ends.contains(&node.id));
    let mut nodes: Vec<_> = nodes.map(Arc::clone).collect();
    nodes.sort_by_key(|node| node.id);
    nodes.dedup_by_key(|node| node.id);
    nodes
}
