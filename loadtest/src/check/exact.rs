//! `/metrics` against what was sent.

use std::{
    collections::{BTreeMap, HashMap},
    io::BufRead,
};

use anyhow::Result;
use common::{BUCKETS, HistogramKind, histogram::FIRST_SCHEMA_INDEX};

use super::{Answer, Differences, Expected, text::Sample};
use crate::{
    totals::{EdgeTotals, NUMBERS, Number},
    world::Edge,
};

/// What has to be there for each edge: every number and the count of every histogram.
const ALL_SEEN: u32 = (1 << (NUMBERS + 3)) - 1;

/// Compares every sample of an edge.
pub fn compare_metrics(expected: &Expected, mut answer: Answer<'_>) -> Result<Differences> {
    let mut differences = Differences::default();
    let mut seen: HashMap<Edge, u32> = HashMap::with_capacity(expected.edges.len());
    let mut got = [0; NUMBERS];
    let mut line = String::new();
    while answer.body.read_line(&mut line)? > 0 {
        if line.starts_with("weft_edge_")
            && let Some(sample) = Sample::parse(&line)
        {
            compare(expected, &sample, &mut seen, &mut got, &mut differences);
        }
        line.clear();
    }
    for edge in expected.edges.keys() {
        let missing = ALL_SEEN & !seen.get(edge).copied().unwrap_or_default();
        if missing != 0 {
            let name =
                || format!("{}: {} series are missing", expected.name(*edge), missing.count_ones());
            differences.add(false, name);
        }
    }
    if !differences.is_empty() {
        differences.sums = Some((expected.sum(), got));
    }
    Ok(differences)
}

fn compare(
    expected: &Expected,
    sample: &Sample<'_>,
    seen: &mut HashMap<Edge, u32>,
    got: &mut [u64; NUMBERS],
    differences: &mut Differences,
) {
    let [mut client, mut server] = [("", ""); 2];
    let (mut port, mut more) = ("", "");
    for (name, value) in sample.labels() {
        match name {
            "client" => client.0 = value,
            "client_namespace" => client.1 = value,
            "server" => server.0 = value,
            "server_namespace" => server.1 = value,
            "server_port" => port = value,
            _ => more = value,
        }
    }
    let family = sample.name.strip_prefix("weft_edge_").unwrap_or_default();
    if expected.is_stranger(client.0) {
        return;
    }
    let number = number_of(family, more);
    if let Some(number) = number {
        got[number as usize] += sample.value as u64;
    }
    let Some(edge) = port.parse().ok().and_then(|port| expected.find(client, server, port)) else {
        // That it is there at all is one difference, not one for each of its series.
        if number == Some(Number::Connections) {
            differences
                .add(true, || format!("nobody sent this: {} {}", sample.series, sample.value));
        }
        return;
    };
    let Some(totals) = expected.edges.get(&edge) else { return };
    let Some((bit, wanted)) = wanted(totals, family, more, number) else { return };
    *seen.entry(edge).or_default() |= bit;
    if sample.value != wanted as f64 {
        // Connections that are open come and go: only later does one know.
        let above = sample.value > wanted as f64 && number != Some(Number::Open);
        let told = || format!("{}: expected {wanted}, got {}", sample.series, sample.value);
        differences.add(above, told);
    }
}

/// Compares what all edges of each client have counted together.
pub fn compare_clients(
    wanted: &BTreeMap<&'static str, [u64; NUMBERS]>,
    mut answer: Answer<'_>,
) -> Result<Differences> {
    let mut got: BTreeMap<&str, [u64; NUMBERS]> =
        wanted.keys().map(|client| (*client, [0; NUMBERS])).collect();
    let mut line = String::new();
    while answer.body.read_line(&mut line)? > 0 {
        if let Some(sample) = Sample::parse(&line)
            && let Some(family) = sample.name.strip_prefix("weft_edge_")
        {
            let (mut client, mut more) = ("", "");
            for (name, value) in sample.labels() {
                match name {
                    "client" => client = value,
                    "client_namespace" | "server" | "server_namespace" | "server_port" => {}
                    _ => more = value,
                }
            }
            if let (Some(sums), Some(number)) = (got.get_mut(client), number_of(family, more)) {
                sums[number as usize] += sample.value as u64;
            }
        }
        line.clear();
    }
    let mut differences = Differences::default();
    for (client, wanted) in wanted {
        for number in Number::ALL.into_iter().filter(|number| *number != Number::Open) {
            let (wanted, got) = (wanted[number as usize], got[client][number as usize]);
            if wanted != got {
                let told = || format!("all of {client}, {number:?}: expected {wanted}, got {got}");
                differences.add(got > wanted, told);
            }
        }
    }
    Ok(differences)
}

fn number_of(family: &str, more: &str) -> Option<Number> {
    Some(match (family, more) {
        ("bytes_total", "to_server") => Number::BytesToServer,
        ("bytes_total", "to_client") => Number::BytesToClient,
        ("connections_total", _) => Number::Connections,
        ("connect_failures_total", "refused") => Number::FailedRefused,
        ("connect_failures_total", "timeout") => Number::FailedTimeout,
        ("connect_failures_total", "unreachable") => Number::FailedUnreachable,
        ("connect_failures_total", "aborted") => Number::FailedAborted,
        ("connect_failures_total", "local") => Number::FailedLocal,
        ("resets_total", "client") => Number::ResetsByClient,
        ("resets_total", "server") => Number::ResetsByServer,
        ("segments_total", _) => Number::Segments,
        ("retransmits_total", _) => Number::Retransmits,
        ("connections_open", _) => Number::Open,
        _ => return None,
    })
}

/// The bit of a series and its value; `None` for one that is not compared: sums are not exact.
fn wanted(
    totals: &EdgeTotals,
    family: &str,
    more: &str,
    number: Option<Number>,
) -> Option<(u32, u64)> {
    if let Some(number) = number {
        return Some((1 << number as u32, totals.get(number)));
    }
    let (kind, part) = family.split_once("_seconds_")?;
    let kind = match kind {
        "rtt" => HistogramKind::Rtt,
        "connect" => HistogramKind::Connect,
        "lifetime" => HistogramKind::Lifetime,
        _ => return None,
    };
    let histogram = &totals.histograms[kind.index()];
    match part {
        "count" => Some((1 << (NUMBERS + kind.index()), histogram.count())),
        "bucket" => Some((0, histogram.up_to(last_bucket(more.parse().ok()?)))),
        _ => None,
    }
}

/// The last of our buckets below a bound, which is one of ours, too.
fn last_bucket(bound_seconds: f64) -> u16 {
    if bound_seconds.is_infinite() {
        return u16::MAX;
    }
    let index = (bound_seconds.log2() * 8.0).round() as i32 - FIRST_SCHEMA_INDEX;
    index.clamp(0, BUCKETS as i32) as u16
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use crate::{scenario::Fleet, world::World};

    fn expected() -> Expected {
        let text = "agents = 1\nservices = 4\nedges = 1";
        let fleet: Fleet = toml::from_str(text).unwrap();
        let world = World::new(&fleet, 1, 1);
        let numbers = std::array::from_fn(|at| 10 + at as u64);
        let mut totals = EdgeTotals { numbers, ..EdgeTotals::default() };
        totals.histograms[0].add(152, 3);
        totals.histograms[0].add(161, 4);
        let mut expected = Expected::new(&world, &[(0, EdgeTotals::default())].into());
        assert!(expected.edges.is_empty(), "an edge without traffic is not there");
        expected.add("a", "b", 80, totals);
        expected
    }

    fn text(bytes: u64) -> String {
        let labels = "client=\"a\",client_namespace=\"\",server=\"b\",server_namespace=\"\",\
                      server_port=\"80\"";
        let mut text = "# TYPE weft_edge_bytes_total counter\n".to_owned();
        for (name, more, value) in [
            ("bytes_total", ",direction=\"to_server\"", bytes),
            ("bytes_total", ",direction=\"to_client\"", 11),
            ("connections_total", "", 12),
            ("connect_failures_total", ",reason=\"refused\"", 13),
            ("connect_failures_total", ",reason=\"timeout\"", 14),
            ("connect_failures_total", ",reason=\"unreachable\"", 15),
            ("connect_failures_total", ",reason=\"aborted\"", 16),
            ("connect_failures_total", ",reason=\"local\"", 17),
            ("resets_total", ",by=\"client\"", 18),
            ("resets_total", ",by=\"server\"", 19),
            ("segments_total", "", 20),
            ("retransmits_total", "", 21),
            ("connections_open", "", 22),
            ("rtt_seconds_bucket", ",le=\"0.5\"", 3),
            ("rtt_seconds_bucket", ",le=\"+Inf\"", 7),
            ("rtt_seconds_count", "", 7),
            ("connect_seconds_count", "", 0),
            ("lifetime_seconds_count", "", 0),
        ] {
            text += &format!("weft_edge_{name}{{{labels}{more}}} {value}\n");
        }
        text
    }

    fn differences(text: &str) -> Differences {
        let body: Box<dyn std::io::Read> = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
        compare_metrics(&expected(), Answer { body: BufReader::new(body) }).unwrap()
    }

    #[test]
    fn a_difference_is_found_and_told() {
        assert!(differences(&text(10)).is_empty());
        let low = differences(&text(9));
        assert_eq!((low.count, low.above), (1, 0));
        assert!(low.to_string().contains("expected 10, got 9"), "{low}");
        assert!(low.to_string().contains("BytesToServer: expected 10, got 9 (-1)"), "{low}");
        assert_eq!(differences(&text(11)).above, 1);
        let missing = differences(&text(10).replace("segments_total", "other_total"));
        assert!(missing.to_string().contains("1 series are missing"), "{missing}");
        let foreign = differences(&text(10).replace("client=\"a\"", "client=\"x\""));
        assert!(foreign.to_string().contains("nobody sent this"), "{foreign}");
        let bucket = differences(&text(10).replace("le=\"0.5\"} 3", "le=\"0.5\"} 2"));
        assert_eq!(bucket.count, 1);
    }
}
