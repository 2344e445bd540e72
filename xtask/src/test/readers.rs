//! Programs of others that read what the aggregator answers: `.ci/tools.sh` fetches them, and the tests are told where
//! they are.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::{
    process::{in_ci, works},
    terminal::{loud, say},
    workspace,
};

/// Variables of the tests, and what each leads to.
const READERS: [(&str, &str, &str); 3] = [
    ("WEFT_TEST_GRAFANA", "grafana", "node_modules/@grafana/data"),
    ("WEFT_TEST_PROMETHEUS", "prometheus/root/usr/bin/prometheus", ""),
    ("WEFT_TEST_SCHEMATHESIS", "schemathesis/bin/schemathesis", ""),
];

/// Fetches them, and returns the variables that say where they are.
///
/// # Errors
/// In CI when one cannot be had.
pub fn fetch() -> Result<Vec<(&'static str, PathBuf)>> {
    say(format_args!("$ .ci/tools.sh: install_readers"));
    let script = "source .ci/tools.sh && install_readers";
    works(Command::new("bash").current_dir(workspace()).args(["-euo", "pipefail", "-c", script]));
    let mut found = Vec::new();
    for (variable, path, inside) in READERS {
        let path = workspace().join("target/ci").join(path);
        let probe = if inside.is_empty() { path.clone() } else { path.join(inside) };
        if probe.exists() {
            found.push((variable, path));
        } else if in_ci() {
            bail!("{} is not there: .ci/tools.sh could not fetch it", path.display());
        } else {
            loud(&format!("SKIPPED: tests with {} (it cannot be fetched)", path.display()));
        }
    }
    Ok(found)
}
