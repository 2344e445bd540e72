//! The published counters in the terms of the truth.

use std::collections::BTreeMap;

use crate::{
    Error, Result,
    traffic::Reason,
    truth::{EdgeCount, EdgeName, Truth},
};

/// Reads the edges' counters out of what `/metrics` answers.
///
/// # Errors
/// When a series of an edge cannot be read, or is there twice.
pub fn published(text: &str) -> Result<Truth> {
    let mut edges = Truth::new();
    let mut last = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("weft_edge_")) {
        let wrong = |reason: &str| Error::Answer {
            who: "/metrics".into(),
            reason: format!("{reason}: {line}"),
        };
        let (series, value) = line.rsplit_once(' ').ok_or_else(|| wrong("no value"))?;
        let (family, labels) = series.split_once('{').ok_or_else(|| wrong("no labels"))?;
        let labels = read_labels(labels);
        let label = |name: &str| labels.get(name).copied().ok_or_else(|| wrong("lacks a label"));
        let port = label("server_port")?.parse().map_err(|_| wrong("server_port is no port"))?;
        let name =
            EdgeName { client: label("client")?.into(), server: label("server")?.into(), port };
        let edge: &mut EdgeCount = edges.entry(name).or_default();
        let count = match family {
            "weft_edge_connections_total" => &mut edge.connections,
            "weft_edge_connections_open" => &mut edge.connections_open,
            "weft_edge_bytes_total" if label("direction")? == "to_server" => {
                &mut edge.bytes_to_server
            }
            "weft_edge_bytes_total" => &mut edge.bytes_to_client,
            "weft_edge_resets_total" if label("by")? == "client" => &mut edge.resets_by_client,
            "weft_edge_resets_total" => &mut edge.resets_by_server,
            "weft_edge_connect_failures_total" => {
                let named = label("reason")?;
                let reason = Reason::ALL.into_iter().find(|reason| reason.name() == named);
                edge.failed.entry(reason.ok_or_else(|| wrong("no reason"))?).or_default()
            }
            _ => continue,
        };
        *count = value.parse().map_err(|_| wrong("no whole number"))?;
        if last.insert(series, value).is_some() {
            return Err(wrong("is there twice"));
        }
    }
    for edge in edges.values_mut() {
        edge.failed.retain(|_, count| *count > 0);
    }
    Ok(edges)
}

/// Labels by name. Names of a lab need no escapes.
fn read_labels(text: &str) -> BTreeMap<&str, &str> {
    let pairs = text.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name, value.trim_matches('"'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE weft_edge_bytes_total counter
weft_edge_bytes_total{client=\"web\",client_namespace=\"\",server=\"db\",server_namespace=\"\",server_port=\"80\",direction=\"to_server\"} 10
weft_edge_bytes_total{client=\"web\",client_namespace=\"\",server=\"db\",server_namespace=\"\",server_port=\"80\",direction=\"to_client\"} 20
weft_edge_connections_total{client=\"web\",client_namespace=\"\",server=\"db\",server_namespace=\"\",server_port=\"80\"} 3
weft_edge_connect_failures_total{client=\"web\",client_namespace=\"\",server=\"db\",server_namespace=\"\",server_port=\"80\",reason=\"refused\"} 2
weft_edge_connect_failures_total{client=\"web\",client_namespace=\"\",server=\"db\",server_namespace=\"\",server_port=\"80\",reason=\"timeout\"} 0
weft_edge_resets_total{client=\"web\",client_namespace=\"\",server=\"db\",server_namespace=\"\",server_port=\"80\",by=\"server\"} 1
weft_edge_connections_open{client=\"web\",client_namespace=\"\",server=\"db\",server_namespace=\"\",server_port=\"80\"} 1
weft_edge_rtt_seconds_sum{client=\"web\",client_namespace=\"\",server=\"db\",server_namespace=\"\",server_port=\"80\"} 0.5
weft_nodes 3
";

    #[test]
    fn counters_are_read_by_edge() {
        let edges = published(TEXT).unwrap();
        let name = EdgeName { client: "web".into(), server: "db".into(), port: 80 };
        let expected = EdgeCount {
            connections: 3,
            connections_open: 1,
            bytes_to_server: 10,
            bytes_to_client: 20,
            resets_by_client: 0,
            resets_by_server: 1,
            failed: BTreeMap::from([(Reason::Refused, 2)]),
        };
        assert_eq!(edges, Truth::from([(name, expected)]));
        let twice = format!("{TEXT}{}\n", TEXT.lines().nth(1).unwrap());
        assert!(published(&twice).is_err());
        assert!(published("weft_edge_bytes_total 1\n").is_err());
    }
}
