//! Parts of a view, their order, and what changed between two.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::{model::WorkloadKind, *};

/// A chain of services: `web` of namespace `shop` on host `h1` -> `api` on `h2` -> `db` on `h2`, and `job` -> `db`.
fn chain() -> View {
    let edges = [("web", "api", 80, 1000), ("api", "db", 5432, 100), ("job", "db", 5432, 10)];
    view(&edges)
}

fn id(name: &str) -> Id {
    Id::of_node(WorkloadKind::Process, namespace(name), name)
}

fn namespace(name: &str) -> &'static str {
    if name == "web" { "shop" } else { "" }
}

fn view(edges: &[(&str, &str, u16, u64)]) -> View {
    let host = |name: &str| if name == "web" { "h1" } else { "h2" };
    let names: BTreeSet<_> = edges.iter().flat_map(|edge| [edge.0, edge.1]).collect();
    let node = |name: &&str| {
        ViewNode {
            id: id(name),
            kind: WorkloadKind::Process,
            namespace: namespace(name).to_owned(),
            name: (*name).to_owned(),
            hosts: vec![host(name).to_owned()],
            zone: String::new(),
            labels: BTreeMap::new(),
        }
        .into()
    };
    let edge = |(source, target, server_port, bytes): &(&str, &str, u16, u64)| {
        let (source, target) = (id(source), id(target));
        let mut totals = EdgeTotals::default();
        totals.add(Measure::BytesToServer, *bytes);
        totals.add(Measure::Connections, *bytes / 10);
        ViewEdge {
            id: Id::of_edge(source, target, *server_port, PROTOCOL),
            source,
            target,
            server_port: *server_port,
            protocol: PROTOCOL,
            seen_by: SeenBy::Both,
            resolved_by: Basis::BothHalves,
            pending: false,
            connections_open: 0,
            totals,
        }
    };
    let to = Timestamp::from_unix_ns(100_000_000_000);
    View {
        window: Window { from: to.minus(std::time::Duration::from_secs(10)), to },
        coverage: Coverage::default(),
        nodes: names.iter().map(node).collect(),
        edges: edges.iter().map(edge).collect(),
    }
}

fn names(view: &View) -> Vec<&str> {
    let mut names: Vec<_> = view.nodes.iter().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    names
}

fn selected(selection: Selection) -> View {
    chain().select(&selection)
}

#[test]
fn a_part_has_the_nodes_asked_for_and_whom_they_talk_to() {
    assert_eq!(selected(Selection::default()), chain());
    let namespace = |name: &str| Selection { namespace: Some(name.into()), ..Default::default() };
    assert_eq!(names(&selected(namespace("shop"))), ["api", "web"]);
    assert_eq!(names(&selected(namespace("none"))), [""; 0]);
    assert_eq!(selected(namespace("")).edges.len(), 3);
    let host = Selection { host: Some("h1".into()), ..Default::default() };
    assert_eq!(names(&selected(host)), ["api", "web"]);
    let name = Selection { name: Some("JO".into()), ..Default::default() };
    assert_eq!(names(&selected(name)), ["db", "job"]);
    // Both hold of one node, not one of each end.
    let both = Selection { name: Some("api".into()), ..namespace("shop") };
    assert_eq!(names(&selected(both)), [""; 0]);
}

#[test]
fn rates_are_per_second_of_the_window() {
    let least = |rate| Selection { min_bytes_per_second: Some(rate), ..Default::default() };
    assert_eq!(selected(least(10.0)).edges.len(), 2);
    assert_eq!(selected(least(10.1)).edges.len(), 1);
    assert_eq!(names(&selected(least(0.0))).len(), 4);
}

#[test]
fn focus_goes_both_ways_and_no_further() {
    let focus = |name, depth| {
        let focus = Some(Focus { id: id(name), depth });
        selected(Selection { focus, ..Default::default() })
    };
    assert_eq!(names(&focus("db", 1)), ["api", "db", "job"]);
    assert_eq!(names(&focus("db", 2)).len(), 4);
    assert_eq!(names(&focus("web", 1)), ["api", "web"]);
    assert_eq!(names(&focus("nobody", 3)), [""; 0]);
}

#[test]
fn the_highest_come_first() {
    let first = |rank| chain().sorted(rank).edges[0].totals.bytes();
    assert_eq!(first(Rank::Bytes), 1000);
    assert_eq!(first(Rank::Connections), 1000);
    let mut view = chain();
    view.edges[2].totals.add(Measure::FailedRefused, 1);
    view.edges[1].totals.add_bucket(HistogramKind::Rtt, 100, 1);
    assert_eq!(view.clone().sorted(Rank::Failures).edges[0].totals.bytes(), 10);
    assert_eq!(view.clone().sorted(Rank::Rtt).edges[0].totals.bytes(), 100);
    // Folding keeps the highest by the same measure.
    assert_eq!(names(&view.fold(2, Rank::Failures)), ["db", "job", "other"]);
}

#[test]
fn what_was_folded_once_stays_folded() {
    let once = chain().fold(3, Rank::Bytes);
    assert_eq!(names(&once), ["api", "db", "other", "web"]);
    let twice = once.fold(2, Rank::Bytes);
    assert_eq!(names(&twice), ["api", "other", "web"]);
    assert_eq!(twice, chain().fold(2, Rank::Bytes));
}

fn changes(before: &View, after: &View) -> Vec<(ChangeKind, Vec<Subject>)> {
    let changes = diff(before, after, &Thresholds::default());
    let subjects =
        |change: &EdgeChange| change.reasons.iter().map(|reason| reason.subject).collect();
    changes.iter().map(|change| (change.kind, subjects(change))).collect()
}

#[test]
fn new_and_vanished_edges_are_told() {
    assert_eq!(changes(&chain(), &chain()), []);
    let less = view(&[("web", "api", 80, 1000), ("api", "db", 5432, 100)]);
    assert_eq!(changes(&less, &chain()), [(ChangeKind::New, vec![])]);
    assert_eq!(changes(&chain(), &less), [(ChangeKind::Vanished, vec![])]);
    let gone = |silent: &[&str]| {
        let mut less = less.clone();
        less.coverage.nodes_silent = silent.iter().map(|name| (*name).to_owned()).collect();
        diff(&chain(), &less, &Thresholds::default())[0].unwatched
    };
    assert!(!gone(&[]) && !gone(&["h1"]) && gone(&["h2"]));
}

#[test]
fn only_what_passes_its_threshold_with_enough_samples_changed() {
    let with = |change: &dyn Fn(&mut EdgeTotals)| {
        let mut view = chain();
        change(&mut view.edges[0].totals);
        view
    };
    let fails = |count| with(&|totals| totals.add(Measure::FailedTimeout, count));
    assert_eq!(changes(&chain(), &fails(2)), []);
    assert_eq!(changes(&chain(), &fails(3)), [(ChangeKind::Changed, vec![Subject::FailureShare])]);
    let resets = |count| with(&|totals| totals.add(Measure::ResetsByServer, count));
    assert_eq!(changes(&resets(5), &chain()), [(ChangeKind::Changed, vec![Subject::ResetShare])]);
    let rtt = |bucket, count| with(&|totals| totals.add_bucket(HistogramKind::Rtt, bucket, count));
    assert_eq!(changes(&rtt(100, 60), &rtt(104, 60)), []);
    assert_eq!(changes(&rtt(100, 60), &rtt(106, 40)), []);
    let slower = changes(&rtt(100, 60), &rtt(106, 60));
    assert_eq!(slower, [(ChangeKind::Changed, vec![Subject::RttP99])]);
    let more = with(&|totals| totals.add(Measure::Connections, 100));
    assert_eq!(changes(&chain(), &more), [(ChangeKind::Changed, vec![Subject::ConnectionRate])]);
    let bulk = with(&|totals| totals.add(Measure::BytesToClient, 1 << 20));
    assert_eq!(changes(&chain(), &bulk), [(ChangeKind::Changed, vec![Subject::ByteRate])]);
    // 10 connections, then 30: too few to say.
    let mut few = chain();
    few.edges[1].totals.add(Measure::Connections, 20);
    assert_eq!(changes(&chain(), &few), []);
}

#[test]
fn rates_are_compared_over_windows_of_different_lengths() {
    let mut longer = chain();
    longer.window.from = longer.window.to.minus(std::time::Duration::from_secs(20));
    longer.edges[0].totals.add(Measure::Connections, 100);
    assert_eq!(changes(&chain(), &longer), []);
}

#[test]
fn what_fails_comes_first_then_what_is_gone_then_what_is_new() {
    let mut after =
        view(&[("web", "api", 80, 1000), ("api", "db", 5432, 100), ("new", "db", 1, 9)]);
    after.edges[0].totals.add(Measure::FailedRefused, 50);
    let kinds: Vec<_> = changes(&chain(), &after).into_iter().map(|change| change.0).collect();
    assert_eq!(kinds, [ChangeKind::Changed, ChangeKind::Vanished, ChangeKind::New]);
    after.edges[2].totals.add(Measure::FailedRefused, 1000);
    let kinds: Vec<_> = changes(&chain(), &after).into_iter().map(|change| change.0).collect();
    assert_eq!(kinds, [ChangeKind::New, ChangeKind::Changed, ChangeKind::Vanished]);
}

proptest! {
    #[test]
    fn every_end_of_a_part_is_a_node(
        edges in proptest::collection::vec((0_usize..9, 0_usize..9, 80_u16..82, 0_u64..1000), 0..30),
        host in proptest::option::of("h[12]"),
        name in proptest::option::of("[a-c]"),
        focus in proptest::option::of((0_usize..9, 1_usize..4)),
        limit in 1_usize..9,
    ) {
        const NAMES: [&str; 9] = ["web", "a", "b", "c", "ab", "bc", "abc", "x", "y"];
        let unique: BTreeMap<_, _> =
            edges.iter().map(|(a, b, port, bytes)| ((a, b, port), bytes)).collect();
        let edges: Vec<_> = unique
            .into_iter()
            .map(|((a, b, port), bytes)| (NAMES[*a], NAMES[*b], *port, *bytes))
            .collect();
        let focus = focus.map(|(at, depth)| Focus { id: id(NAMES[at]), depth });
        let part = view(&edges).select(&Selection { host, name, focus, ..Default::default() });
        let folded = part.clone().fold(limit, Rank::Bytes);
        prop_assert!(folded.nodes.len() <= limit + 1);
        let sum = |view: &View| view.edges.iter().map(|edge| edge.totals.bytes()).sum::<u64>();
        prop_assert_eq!(sum(&folded), sum(&part));
        for view in [&part, &folded] {
            let nodes: BTreeSet<_> = view.nodes.iter().map(|node| node.id).collect();
            for edge in &view.edges {
                prop_assert!(nodes.contains(&edge.source) && nodes.contains(&edge.target));
            }
        }
    }
}

#[test]
fn services_of_a_namespace_are_one() {
    let grouped = chain().group(Grouping::Namespace);
    assert_eq!(names(&grouped), ["none", "shop"]);
    assert!(grouped.nodes.iter().all(|node| node.kind == WorkloadKind::Namespace));
    let bytes: Vec<_> = grouped
        .edges
        .iter()
        .map(|edge| (edge.source == edge.target, edge.server_port, edge.totals.bytes()))
        .collect();
    assert!(bytes.contains(&(false, 80, 1000)) && bytes.contains(&(true, 5432, 110)), "{bytes:?}");
    let other = chain().fold(1, Rank::Bytes).group(Grouping::Namespace);
    assert!(names(&other).contains(&"other"));
}
