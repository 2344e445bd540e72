//! `weft_node_…`: who reports and what was lost; and the hosts' own signals.

use std::collections::BTreeSet;

use topology::{
    Graph, Node,
    model::{HostSignal, ProgramState},
};

use super::{
    buckets::{Classic, RUNQUEUE},
    text::{head, histogram, labels, sample},
};

/// Appends everything about nodes. `expected` are shown even if they were never seen.
pub(super) fn write(graph: &Graph, expected: &[String], out: &mut String) {
    let mut nodes: Vec<_> = graph.nodes().collect();
    nodes.sort_unstable_by_key(|node| node.name());
    connected(&nodes, expected, out);
    gauge(
        &nodes,
        out,
        "weft_node_last_seen_timestamp_seconds",
        "When the node was last heard.",
        |node| Some(node.last_seen().unix_ns() as f64 / 1e9),
    );
    gauge(
        &nodes,
        out,
        "weft_node_clock_skew_seconds",
        "The node's clock less the aggregator's.",
        |node| Some(node.clock_skew_seconds()),
    );
    gauge(
        &nodes,
        out,
        "weft_node_certificate_expiry_timestamp_seconds",
        "When the agent's certificate expires.",
        |node| node.certificate_expires_unix_s().map(|unix_s| unix_s as f64),
    );
    let name = "weft_node_program_attached";
    head(out, name, "gauge", "Whether a kernel program counts; 0 when it failed.");
    for node in &nodes {
        for program in node.programs().iter().filter(|one| one.state != ProgramState::Off) {
            let labels = labels(&[("node", node.name()), ("program", &program.name)]);
            sample(out, name, &labels, u8::from(program.state == ProgramState::Attached));
        }
    }
    let name = "weft_node_losses_total";
    head(out, name, "counter", "What was not counted.");
    for node in &nodes {
        for (cause, count) in node.losses() {
            let labels = labels(&[("node", node.name()), ("cause", cause)]);
            sample(out, name, &labels, count);
        }
    }
    let name = "weft_node_folded_total";
    head(out, name, "counter", "What there was no room for and counts for `other`.");
    for node in &nodes {
        let folded = node.folded();
        for (kind, count) in
            [("halves", folded.halves), ("edges", folded.edges), ("workloads", folded.workloads)]
        {
            let labels = labels(&[("node", node.name()), ("kind", kind)]);
            sample(out, name, &labels, count);
        }
    }
    let name = "weft_runqueue_latency_seconds";
    head(
        out,
        name,
        "histogram",
        "From runnable to running, over all hosts; the sum is good to 4.5 %.",
    );
    let classic = Classic::of(graph.signal(HostSignal::RunqueueLatency), &RUNQUEUE);
    histogram(out, name, "", &classic, &RUNQUEUE);
}

fn connected(nodes: &[&Node], expected: &[String], out: &mut String) {
    let name = "weft_node_connected";
    head(out, name, "gauge", "Whether the node's agent is connected.");
    let known: BTreeSet<_> = nodes.iter().map(|node| node.name()).collect();
    for node in nodes {
        let labels = labels(&[("node", node.name())]);
        sample(out, name, &labels, u8::from(node.connected()));
    }
    let missing: BTreeSet<_> =
        expected.iter().map(String::as_str).filter(|node| !known.contains(node)).collect();
    for node in missing {
        sample(out, name, &labels(&[("node", node)]), 0);
    }
}

fn gauge(
    nodes: &[&Node],
    out: &mut String,
    name: &str,
    help: &str,
    value: impl Fn(&Node) -> Option<f64>,
) {
    head(out, name, "gauge", help);
    for node in nodes {
        if let Some(value) = value(node) {
            sample(out, name, &labels(&[("node", node.name())]), value);
        }
    }
}
