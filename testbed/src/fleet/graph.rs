//! The served graph in the terms of the truth, so that the two can be compared.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::Value;

use crate::{
    Error, Result,
    traffic::Reason,
    truth::{EdgeCount, EdgeName, Truth},
};

/// A topology document, its edges by the names of their ends.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Nodes by id.
    pub nodes: BTreeMap<String, Node>,
    /// Counts of each edge.
    pub edges: Truth,
    /// Each edge as it was served.
    pub documents: BTreeMap<EdgeName, Value>,
    /// The coverage as it was served.
    pub coverage: Value,
}

/// A node of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
}

impl Graph {
    /// Reads a document of `/api/v1/topology`.
    ///
    /// # Errors
    /// When a field is missing, an edge's end is no node, or an edge is there twice.
    pub fn parse(document: &Value) -> Result<Self> {
        let mut graph = Self {
            nodes: BTreeMap::new(),
            edges: Truth::new(),
            documents: BTreeMap::new(),
            coverage: document["coverage"].clone(),
        };
        for node in array(document, "nodes")? {
            let (name, kind) = (text(node, "name")?, text(node, "kind")?);
            graph.nodes.insert(text(node, "id")?, Node { name, kind });
        }
        for edge in array(document, "edges")? {
            let name = EdgeName {
                client: graph.name(edge, "source")?,
                server: graph.name(edge, "target")?,
                port: u16::try_from(number(edge, "server_port")?)
                    .map_err(|_| wrong("server_port is no port", edge))?,
            };
            if graph.edges.insert(name.clone(), count(edge)?).is_some() {
                return Err(wrong("an edge is there twice", edge));
            }
            graph.documents.insert(name, edge.clone());
        }
        Ok(graph)
    }

    /// Compares with the truth: an edge too many, an edge missing and every count that differs
    /// are a line each.
    ///
    /// # Errors
    /// Those lines, if there are any.
    pub fn must_equal(&self, truth: &Truth) -> std::result::Result<(), String> {
        let lines = differences(truth, &self.edges);
        if lines.is_empty() { Ok(()) } else { Err(lines) }
    }

    /// The document of an edge, or null.
    #[must_use]
    pub fn edge(&self, client: &str, server: &str, port: u16) -> &Value {
        let name = EdgeName { client: client.into(), server: server.into(), port };
        self.documents.get(&name).unwrap_or(&Value::Null)
    }

    fn name(&self, edge: &Value, end: &str) -> Result<String> {
        let id = text(edge, end)?;
        let node = self.nodes.get(&id).ok_or_else(|| wrong("an end is no node", edge))?;
        Ok(node.name.clone())
    }
}

/// Edges too many, edges missing and counts that differ from the truth, a line each.
#[must_use]
pub fn differences(truth: &Truth, served: &Truth) -> String {
    let mut lines = String::new();
    for (name, expected) in truth {
        match served.get(name) {
            None => _ = writeln!(lines, "missing {name:?}: {expected:?}"),
            Some(actual) if actual != expected => {
                _ = writeln!(lines, "{name:?}\n  true   {expected:?}\n  served {actual:?}");
            }
            Some(_) => {}
        }
    }
    for (name, actual) in served.iter().filter(|(name, _)| !truth.contains_key(name)) {
        _ = writeln!(lines, "never existed {name:?}: {actual:?}");
    }
    lines
}

fn count(edge: &Value) -> Result<EdgeCount> {
    let mut failed = BTreeMap::new();
    for reason in Reason::ALL {
        let count = number(&edge["failed"], reason.name())?;
        if count > 0 {
            failed.insert(reason, count);
        }
    }
    Ok(EdgeCount {
        connections: number(edge, "connections")?,
        connections_open: number(edge, "connections_open")?,
        bytes_to_server: number(edge, "bytes_to_server")?,
        bytes_to_client: number(edge, "bytes_to_client")?,
        resets_by_client: number(&edge["resets"], "by_client")?,
        resets_by_server: number(&edge["resets"], "by_server")?,
        failed,
    })
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key].as_array().ok_or_else(|| wrong(&format!("no array {key}"), value))
}

fn text(value: &Value, key: &str) -> Result<String> {
    Ok(value[key].as_str().ok_or_else(|| wrong(&format!("no text {key}"), value))?.to_owned())
}

fn number(value: &Value, key: &str) -> Result<u64> {
    value[key].as_u64().ok_or_else(|| wrong(&format!("no whole number {key}"), value))
}

fn wrong(reason: &str, value: &Value) -> Error {
    Error::Answer { who: "topology".into(), reason: format!("{reason}: {value}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "coverage": {"complete": true},
            "nodes": [{"id": "a", "name": "web", "kind": "process"},
                      {"id": "b", "name": "db", "kind": "process"}],
            "edges": [{"source": "a", "target": "b", "server_port": 5432, "connections": 2,
                "connections_open": 1, "bytes_to_server": 10, "bytes_to_client": 20,
                "resets": {"by_client": 0, "by_server": 1},
                "failed": {"refused": 3, "timeout": 0, "unreachable": 0, "aborted": 0, "local": 0}}],
        })
    }

    #[test]
    fn a_graph_equals_its_truth_and_nothing_else() {
        let graph = Graph::parse(&document()).unwrap();
        let mut truth = graph.edges.clone();
        assert_eq!(graph.must_equal(&truth), Ok(()));
        let name = truth.keys().next().unwrap().clone();
        assert_eq!((name.client.as_str(), name.server.as_str(), name.port), ("web", "db", 5432));
        assert_eq!(truth[&name].failed, BTreeMap::from([(Reason::Refused, 3)]));
        truth.get_mut(&name).unwrap().bytes_to_client += 1;
        assert!(graph.must_equal(&truth).unwrap_err().contains("21"));
        truth.clear();
        assert!(graph.must_equal(&truth).unwrap_err().contains("never existed"));
        truth.insert(EdgeName { port: 1, ..name }, EdgeCount::default());
        assert!(graph.must_equal(&truth).unwrap_err().contains("missing"));
    }

    #[test]
    fn broken_documents_are_errors() {
        for (pointer, value) in [
            ("/edges/0/source", json!("nobody")),
            ("/edges/0/connections", json!(1.5)),
            ("/edges/0/failed", json!({})),
            ("/edges/0/server_port", json!(70_000)),
            ("/nodes", json!(null)),
        ] {
            let mut broken = document();
            *broken.pointer_mut(pointer).unwrap() = value;
            assert!(Graph::parse(&broken).is_err(), "{pointer}");
        }
        let mut twice = document();
        let edge = twice["edges"][0].clone();
        twice["edges"].as_array_mut().unwrap().push(edge);
        assert!(Graph::parse(&twice).is_err());
    }
}
