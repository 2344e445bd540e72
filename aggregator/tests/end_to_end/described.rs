//! The live routes against their own description, by Schemathesis: whatever is asked, nothing breaks, and no answer is one
//! that is not described.

use std::process::Command;

use common::{Counter, HistogramKind};
use proto::v1::SectionKind;

use crate::{
    agent::Agent,
    fleet::Fleet,
    reports::{client, columns, server, status},
    tools::{SCHEMATHESIS, run, tool},
};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_the_answer_is_one_that_is_described() {
    let Some(program) = tool(SCHEMATHESIS) else { return };
    let fleet = Fleet::start().await;
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    let (mut b, _) = Agent::connect(&fleet, "b", 1).await;
    let values = &[(Counter::Connections, 3), (Counter::BytesSent, 1000)];
    let samples = &[(HistogramKind::Rtt, 80, 4)];
    let totals = || columns(SectionKind::Totals, &[(1, &values[..], &samples[..])]);
    a.report(vec![status(), client(), totals()]).await;
    b.report(vec![server(), totals()]).await;
    fleet.edge("web", "db", |edge| edge["pending"] == false).await;

    let address = format!("http://{}", fleet.aggregator.http_address);
    let folder = tempfile::tempdir().unwrap();
    let said = run(Command::new(program)
        // It leaves files where it runs.
        .current_dir(folder.path())
        .arg("run")
        .arg(format!("{address}/api/v1/openapi.json"))
        // It has no end.
        .args(["--exclude-path", "/api/v1/topology/stream"])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "40"])
        .args(["--seed", "1", "--generation-deterministic", "--no-color"])
        .args(["--checks", CHECKS]));
    assert!(said.contains("Test cases:"), "{said}");
}

/// That what is described makes sense to the aggregator is not among them: whether a time lies before another is in no
/// schema.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      unsupported_method,allow_header_conformance";
