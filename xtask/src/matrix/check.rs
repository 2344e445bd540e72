//! What must hold on every kernel: the expected programs attach, what is missing is named, a little
//! traffic is counted exactly, and both programs stop cleanly.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Guest, Image, Kernel, boot, guest::PROGRAMS, results::Sections};

const SCRIPT: &str = include_str!("check.sh");

/// Runs the check on one kernel and gives a summary in one line.
pub fn kernel(image: &Image, bin: &Path, folder: &Path, timeout: Duration) -> Result<String> {
    let inside = PROGRAMS.map(|program| (format!("/bin/{program}"), bin.join(program)));
    let files: Vec<_> = inside.iter().map(|(path, here)| (path.as_str(), here.clone())).collect();
    let outcome = boot(image, &Guest { files: &files, script: SCRIPT, timeout }, folder)?;
    let sections = Sections::parse(&outcome.results);
    // Which step of the script failed is more than its exit code.
    if let Some(step) = sections.text("failed") {
        let log = folder.join(format!("{}.console", image.kernel.name));
        anyhow::bail!("{} (see {})", step.trim(), log.display());
    }
    ensure!(outcome.exit == 0, "the script ended with {}", outcome.exit);

    let programs = programs(&sections.json("nodes")?)?;
    named_by_doctor(image.kernel, sections.required("doctor")?)?;
    as_expected(image.kernel, &programs)?;
    let edges = sections.json("topology")?;
    served(&edges)?;
    refused(&edges)?;
    received(&edges)?;
    if image.kernel.adopts {
        older(&edges)?;
    }
    let attached = programs.iter().filter(|(_, state)| state == "attached").count();
    Ok(format!("{attached} of {} programs attached, counts exact", programs.len()))
}

/// Every program's name and state, as the aggregator tells them of its one node.
fn programs(nodes: &Value) -> Result<Vec<(String, String)>> {
    let list = nodes.pointer("/nodes/0/programs").and_then(Value::as_array);
    let list = list.context("the aggregator knows no programs of the node")?;
    let field = |program: &Value, name| program[name].as_str().unwrap_or_default().to_owned();
    Ok(list.iter().map(|p| (field(p, "name"), field(p, "state"))).collect())
}

fn as_expected(kernel: &Kernel, programs: &[(String, String)]) -> Result<()> {
    let in_state = |wanted: &str| -> BTreeSet<&str> {
        programs.iter().filter(|(_, state)| state == wanted).map(|(name, _)| &**name).collect()
    };
    ensure!(!in_state("attached").is_empty(), "no program is attached");
    for (state, expected) in [("failed", kernel.failed), ("off", kernel.off)] {
        let found = in_state(state);
        let expected: BTreeSet<_> = expected.iter().copied().collect();
        ensure!(found == expected, "{state}: {found:?}, expected: {expected:?}");
    }
    Ok(())
}

/// A line of the doctor's table that begins with the program says that it is not attached.
fn named_by_doctor(kernel: &Kernel, doctor: &str) -> Result<()> {
    for program in kernel.failed {
        let line = doctor.lines().find(|line| line.split_whitespace().next() == Some(program));
        let line = line.with_context(|| format!("doctor does not name {program}"))?;
        ensure!(line.contains("failed"), "doctor says of {program}: {line}");
    }
    Ok(())
}

/// The script's own traffic between two workloads: 20 connections with 2 requests each, of 100 and
/// 1000 bytes.
fn served(topology: &Value) -> Result<()> {
    let edge = edge(topology, 8080)?;
    let wanted = [
        ("connections", 20),
        ("connections_open", 0),
        ("bytes_to_server", 20 * 2 * 100),
        ("bytes_to_client", 20 * 2 * 1000),
    ];
    counts(edge, &wanted)?;
    between(topology, edge, "shop-server", "both")?;
    for histogram in ["rtt_seconds", "connect_seconds", "lifetime_seconds"] {
        let count = edge[histogram]["count"].as_u64().unwrap_or_default();
        ensure!(count > 0, "{histogram} is empty");
    }
    Ok(())
}

/// Connections that were still open when the graph was asked for, and only ever pushed to: two from
/// a workload, and one from a process that no agent covers.
fn received(topology: &Value) -> Result<()> {
    let live = edge(topology, 8082)?;
    let wanted = |connections, bytes| {
        [
            ("connections", connections),
            ("connections_open", connections),
            ("bytes_to_server", 0),
            ("bytes_to_client", bytes),
        ]
    };
    counts(live, &wanted(2, 2 * 150_000))?;
    between(topology, live, "shop-server", "both")?;
    let heard = edge(topology, 8084)?;
    between(topology, heard, "guest", "client")?;
    counts(heard, &wanted(1, 70_000))
}

/// Two connections and their listener, all older than the agent: 3 requests of 200 and 500 bytes on
/// each since then, and 5 new connections with one of 100 and 100.
fn older(topology: &Value) -> Result<()> {
    let edge = edge(topology, 8083)?;
    let wanted = [
        ("connections", 5),
        ("connections_open", 2),
        ("bytes_to_server", 2 * 3 * 200 + 5 * 100),
        ("bytes_to_client", 2 * 3 * 500 + 5 * 100),
    ];
    counts(edge, &wanted)?;
    between(topology, edge, "shop-server", "both")
}

fn counts(edge: &Value, wanted: &[(&str, u64)]) -> Result<()> {
    for (name, value) in wanted {
        let told = edge[name].as_u64().with_context(|| format!("no {name} in {edge}"))?;
        let port = &edge["server_port"];
        ensure!(told == *value, "{name} at port {port} is {told} instead of {value}");
    }
    Ok(())
}

fn between(topology: &Value, edge: &Value, server: &str, seen_by: &str) -> Result<()> {
    ensure!(edge["seen_by"] == seen_by, "seen by {} instead of {seen_by}", edge["seen_by"]);
    for (end, name) in [("source", "shop-client"), ("target", server)] {
        let found = name_of(topology, &edge[end])?;
        ensure!(found == name, "{end} is {found} instead of {name}");
    }
    Ok(())
}

/// And 3 attempts at a port where nobody listens.
fn refused(topology: &Value) -> Result<()> {
    let edge = edge(topology, 8081)?;
    ensure!(edge["failed"]["refused"] == 3, "failed: {}", edge["failed"]);
    ensure!(edge["connections"] == 0, "{} connections to a closed port", edge["connections"]);
    Ok(())
}

fn edge(topology: &Value, server_port: u16) -> Result<&Value> {
    let edges = topology["edges"].as_array().context("no edges in the topology")?;
    let mut found = edges.iter().filter(|edge| edge["server_port"] == server_port);
    let edge = found.next().with_context(|| format!("no edge at port {server_port}"))?;
    ensure!(found.next().is_none(), "several edges at port {server_port}");
    Ok(edge)
}

fn name_of<'a>(topology: &'a Value, id: &Value) -> Result<&'a str> {
    let nodes = topology["nodes"].as_array().context("no nodes in the topology")?;
    let node = nodes.iter().find(|node| &node["id"] == id).context("an edge ends at no node")?;
    node["name"].as_str().context("a node without a name")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kernel(failed: &'static [&'static str]) -> Kernel {
        Kernel { name: "5.10", suite: "", failed, off: &[], adopts: true }
    }

    fn graph(connections: u64) -> Value {
        let histogram = json!({"count": 1});
        json!({
            "nodes": [{"id": "a", "name": "shop-client"}, {"id": "b", "name": "shop-server"}],
            "edges": [{
                "source": "a", "target": "b", "server_port": 8080, "seen_by": "both",
                "connections": connections, "connections_open": 0,
                "bytes_to_server": 4000, "bytes_to_client": 40_000,
                "rtt_seconds": histogram, "connect_seconds": histogram,
                "lifetime_seconds": histogram,
            }],
        })
    }

    #[test]
    fn one_connection_too_few_is_a_failure() {
        served(&graph(20)).unwrap();
        let error = served(&graph(19)).unwrap_err().to_string();
        assert_eq!(error, "connections at port 8080 is 19 instead of 20");
    }

    #[test]
    fn a_program_too_few_or_too_many_is_a_failure() {
        let of = |state: &str| {
            vec![("a".to_owned(), "attached".to_owned()), ("b".to_owned(), state.to_owned())]
        };
        as_expected(&kernel(&[]), &of("attached")).unwrap();
        as_expected(&kernel(&["b"]), &of("failed")).unwrap();
        assert!(as_expected(&kernel(&[]), &of("failed")).is_err());
        assert!(as_expected(&kernel(&["b"]), &of("attached")).is_err());
        assert!(as_expected(&kernel(&[]), &of("off")).is_err());
        assert!(as_expected(&kernel(&[]), &[]).is_err());
    }

    #[test]
    fn the_doctor_must_name_what_is_missing() {
        named_by_doctor(&kernel(&["b"]), "a  attached\nb  failed  too old\n").unwrap();
        assert!(named_by_doctor(&kernel(&["b"]), "a  attached\n").is_err());
        assert!(named_by_doctor(&kernel(&["b"]), "b  attached\n").is_err());
    }
}
