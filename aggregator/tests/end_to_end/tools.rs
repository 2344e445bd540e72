//! Programs of others that check what we answer. `cargo xtask test` fetches them and says where they are.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// The folder whose `node_modules` has `@grafana/data`.
pub const GRAFANA: &str = "WEFT_TEST_GRAFANA";
/// A Prometheus of version 3.
pub const PROMETHEUS: &str = "WEFT_TEST_PROMETHEUS";
/// Schemathesis.
pub const SCHEMATHESIS: &str = "WEFT_TEST_SCHEMATHESIS";

/// Where a tool is. Without it a test is skipped, and says so; in CI it fails.
pub fn tool(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    if path.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{variable} is not set: run cargo xtask test");
        let _ = writeln!(std::io::stderr(), "SKIPPED: {variable} is not set: run cargo xtask test");
    }
    path
}

/// Runs a program to its end, which must be a good one; returns what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?}:\n{said}");
    said
}

/// Makes frames of what an aggregator answers, and of what a Prometheus does that scrapes it, and checks them.
pub fn contract(aggregator: &str, modules: &Path, prometheus: Option<&str>) -> String {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("node");
    command.arg(own.join("tests/grafana/contract.mjs")).arg(aggregator).arg(modules);
    command.arg(own.join("../deploy/grafana/dashboards/weft.json")).args(prometheus);
    run(&mut command)
}
