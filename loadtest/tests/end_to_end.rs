//! The program against a real aggregator.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::Duration,
};

use proto::{
    recording::Writer,
    v1::{AgentMessage, Batch, Hello, agent_message::Body},
};

/// The aggregator of this source tree: in the folder that `WEFT_BIN_DIR` names, or built here,
/// because cargo builds only the programs of the package under test.
fn aggregator() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(folder) = std::env::var_os("WEFT_BIN_DIR") {
            return Path::new(&folder).join("weft-aggregator");
        }
        let own = Path::new(env!("CARGO_BIN_EXE_weft-loadtest"));
        let target = own.parent().and_then(Path::parent).unwrap();
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "aggregator", "--bin", "weft-aggregator"])
            .arg("--target-dir")
            .arg(target)
            .status()
            .unwrap();
        assert!(status.success());
        target.join("debug/weft-aggregator")
    })
}

fn loadtest(arguments: &[&str]) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft-loadtest"));
    if arguments[0] != "compare" {
        command.args(arguments).arg("--program").arg(aggregator());
    } else {
        command.args(arguments);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

#[test]
fn attackers_are_counted_and_named_and_cost_nobody_else_anything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("attack.toml");
    let text = "about = 'A flood and a scan.'
        aggregator = ['--max-memory-bytes=150MB', '--max-series=2000']
        fleet = { agents = 5, services = 8, edges = 20, churn = 0.5 }
        load = { duration = '6s' }
        attack = { peers = 30000, ports = 20000 }
        check = { topology = false, max_memory_mb = 150.0 }";
    std::fs::write(&path, text).unwrap();
    let (output, text) = loadtest(&["run", path.to_str().unwrap()]);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("counted by attackers"), "{text}");
}

#[test]
fn a_small_fleet_is_exact_and_reports_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (json, svg) = (path("report.json"), path("plots"));
    let (output, text) = loadtest(&["run", "smoke", "--json", &json, "--svg", &svg]);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("exact: every answer was what was sent"), "{text}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&report["version"], &report["exact"]), (&1.into(), &true.into()));
    let figure = |name: &str| {
        let figures = report["figures"].as_array().unwrap();
        let found = figures.iter().find(|figure| figure["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {text}"))["value"].as_f64().unwrap()
    };
    assert_eq!(figure("agents"), 20.0);
    assert!(figure("records") > 500.0 && figure("bytes per record, steady") > 10.0);
    assert!(figure("reconnects") > 0.0 && figure("agents restarted") > 0.0);
    assert!(figure("readings of /metrics") >= 2.0);
    assert!(report["moments"].as_array().unwrap().len() > 3);
    let plot = std::fs::read_to_string(folder.path().join("plots/memory.svg")).unwrap();
    assert!(plot.starts_with("<svg"));
    let (output, text) = loadtest(&["compare", &json, &json]);
    assert!(output.status.success() && text.contains("1.000"), "{text}");
}

#[test]
fn as_fast_as_acknowledged_and_with_a_watch_on_freshness() {
    let small = ["--agents", "4", "--services", "30", "--edges", "50", "--warm-up", "3s"];
    let fast = ["run", "fast", "--duration", "2s"];
    let (output, text) = loadtest(&[fast.as_slice(), &small].concat());
    assert!(output.status.success(), "{text}");
    let fresh = ["run", "freshness", "--duration", "4s"];
    let (output, text) = loadtest(&[fresh.as_slice(), &small].concat());
    assert!(output.status.success(), "{text}");
    assert!(text.contains("shows in the API after, p99"), "{text}");
}

#[test]
fn a_recording_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n1.weftrec");
    let mut writer = Writer::new(std::fs::File::create(&path).unwrap()).unwrap();
    let hello = |session| {
        Body::Hello(Hello {
            protocol_version: proto::PROTOCOL_VERSION,
            node: "n1".to_owned(),
            boot_id: vec![1; 16],
            session,
            ..Hello::default()
        })
    };
    let batch = |seq| Body::Batch(Batch { seq, ..Batch::default() });
    let all = [hello(1)].into_iter().chain((1..200).map(batch)).chain([hello(2), batch(1)]);
    for (number, body) in (0..).zip(all) {
        let message = AgentMessage { body: Some(body) };
        writer.write(Duration::from_millis(number * 5), &message).unwrap();
    }
    for more in [None, Some("--fast")] {
        let arguments = ["replay", path.to_str().unwrap()];
        let (output, text) = loadtest(&arguments.into_iter().chain(more).collect::<Vec<_>>());
        assert!(output.status.success(), "{text}");
        let batches = text.lines().find(|line| line.starts_with("batches")).unwrap();
        assert!(batches.trim().ends_with("200"), "{text}");
    }
    std::fs::write(&path, "something else").unwrap();
    let (output, text) = loadtest(&["replay", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("no recording") && text.lines().count() == 1, "{text}");
}

#[test]
fn what_does_not_work_is_one_line() {
    let (output, text) = loadtest(&["run", "absent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("none of agents, attack, fast"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
