//! The graph as a table.

use std::{collections::HashMap, fmt::Write};

use serde_json::Value;

use crate::terminal::say;

/// A place where the newest table replaces the one before, if it is a terminal.
#[derive(Debug)]
pub struct Screen {
    live: bool,
    lines: usize,
}

impl Screen {
    /// Not live, tables follow each other.
    pub fn new(live: bool) -> Self {
        Self { live, lines: 0 }
    }

    /// Whether tables replace each other.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Shows a table.
    pub fn show(&mut self, table: &str) {
        if self.live && self.lines > 0 {
            // Up to where the last one began, and clear from there.
            say(format_args!("\x1b[{}A\x1b[J{table}", self.lines));
        } else {
            say(format_args!("{table}"));
        }
        self.lines = table.lines().count() + usize::from(table.ends_with('\n'));
    }
}

/// Draws a topology document: an edge per line, then what it covers.
pub fn draw(document: &Value) -> String {
    let empty = Vec::new();
    let list = |key: &str| document[key].as_array().unwrap_or(&empty);
    let names: HashMap<&str, &str> = list("nodes")
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node["name"].as_str()?)))
        .collect();
    let mut edges: Vec<[String; 9]> = list("edges").iter().map(|edge| row(edge, &names)).collect();
    edges.sort();
    let head = [
        "client",
        "server",
        "port",
        "connections",
        "open",
        "failed",
        "to server",
        "to client",
        "rtt p50 / p99",
    ];
    let rows: Vec<[String; 9]> = std::iter::once(head.map(String::from)).chain(edges).collect();
    let widths: [usize; 9] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    });
    let mut out = String::new();
    for row in &rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Names to the left, numbers to the right.
            let _ = if column < 2 {
                write!(out, "  {cell:<width$}")
            } else {
                write!(out, "  {cell:>width$}")
            };
        }
        out.push('\n');
    }
    let coverage = &document["coverage"];
    let count = |key: &str| coverage[key].as_u64().unwrap_or_default();
    let _ = write!(
        out,
        "  {} services, {} edges; {} of {} hosts reporting; {} one-sided edges, {} lost",
        names.len(),
        rows.len() - 1,
        count("nodes_reporting"),
        count("nodes_expected"),
        count("edges_one_sided"),
        count("events_lost") + count("batches_lost") + count("inserts_refused"),
    );
    out
}

fn row(edge: &Value, names: &HashMap<&str, &str>) -> [String; 9] {
    let name = |end: &str| {
        let id = edge[end].as_str().unwrap_or_default();
        (*names.get(id).unwrap_or(&id)).to_owned()
    };
    let number = |key: &str| edge[key].as_u64().unwrap_or_default();
    let failed = edge["failed"].as_object().into_iter().flatten();
    let failed: Vec<String> = failed
        .filter_map(|(reason, count)| Some((reason, count.as_u64().filter(|count| *count > 0)?)))
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    let rtt = &edge["rtt_seconds"];
    [
        name("source") + if edge["pending"] == true { " (pending)" } else { "" },
        name("target"),
        number("server_port").to_string(),
        number("connections").to_string(),
        number("connections_open").to_string(),
        failed.join(", "),
        bytes(number("bytes_to_server")),
        bytes(number("bytes_to_client")),
        format!("{} / {}", seconds(&rtt["p50"]), seconds(&rtt["p99"])),
    ]
}

fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        ..1e3 => format!("{count} B"),
        ..1e6 => format!("{:.1} kB", count / 1e3),
        ..1e9 => format!("{:.1} MB", count / 1e6),
        _ => format!("{:.1} GB", count / 1e9),
    }
}

fn seconds(value: &Value) -> String {
    match value.as_f64() {
        None => "-".into(),
        Some(time) if time < 1e-3 => format!("{:.0} µs", time * 1e6),
        Some(time) if time < 1.0 => format!("{:.1} ms", time * 1e3),
        Some(time) => format!("{time:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_has_a_line_per_edge_and_survives_anything() {
        let document = json!({
            "nodes": [{"id": "a", "name": "web"}, {"id": "b", "name": "db"}],
            "edges": [{"source": "a", "target": "b", "server_port": 5432, "connections": 12,
                "connections_open": 1, "bytes_to_server": 1_500, "bytes_to_client": 2_000_000,
                "failed": {"refused": 3, "timeout": 0},
                "rtt_seconds": {"count": 1, "p50": 0.000_05, "p99": 0.002}}],
            "coverage": {"nodes_reporting": 2, "nodes_expected": 3},
        });
        let table = draw(&document);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        let expected = "web db 5432 12 1 3 refused 1.5 kB 2.0 MB 50 µs / 2.0 ms";
        assert_eq!(words.join(" "), expected);
        assert!(lines[2].contains("2 of 3 hosts"), "{table}");
        assert_eq!(draw(&Value::Null).lines().count(), 2);
    }
}
