//! The program itself: command line, exit codes, signals.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft-aggregator"));
    command.env_clear().env("NO_COLOR", "1");
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = program().args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

pub fn pki(dir: &Path) {
    let (code, stdout, stderr) =
        run(&["pki", "init", dir.to_str().unwrap(), "--trust-domain", "example.org", "--san", "x"]);
    assert_eq!((code, stdout.lines().count()), (0, 4), "{stderr}");
    let (code, _, stderr) = run(&["pki", "node", dir.to_str().unwrap(), "n1"]);
    assert_eq!(code, 0, "{stderr}");
}

pub fn serving(dir: &Path) -> Command {
    let mut command = program();
    let file = |name: &str| dir.join(name).display().to_string();
    command
        .args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .args(["--data-dir", &file("data"), "--tls-client-ca", &file("ca.crt")])
        .args(["--tls-cert", &file("aggregator.crt"), "--tls-key", &file("aggregator.key")]);
    command
}

/// Starts it and waits until it listens.
fn start(dir: &Path) -> (Child, BufReader<std::process::ChildStderr>) {
    let (child, log, _) = listening(dir, &[]);
    (child, log)
}

/// The same, with the line that says where it listens.
pub fn listening(
    dir: &Path,
    more: &[&str],
) -> (Child, BufReader<std::process::ChildStderr>, String) {
    let mut child = serving(dir).args(more).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it listened");
    }
    (child, log, line)
}

#[test]
fn a_signal_ends_it_with_exit_code_0() {
    let folder = tempfile::tempdir().unwrap();
    pki(folder.path());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut child, _log) = start(folder.path());
        // Another one on the same data says what is wrong, and leaves it alone.
        let output = serving(folder.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains("in use by another aggregator"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_it() {
    let folder = tempfile::tempdir().unwrap();
    pki(folder.path());
    let (mut child, log) = start(folder.path());
    drop(log);
    // It has something to log at its end.
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_wrong_setting_is_one_line_and_exit_code_64() {
    let folder = tempfile::tempdir().unwrap();
    pki(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (ca, cert, key) = (path("ca.crt"), path("aggregator.crt"), path("n1.key"));
    let tls = |key| ["--tls-client-ca", &ca, "--tls-cert", &cert, "--tls-key", key];
    let not_an_address = ["--grpc-listen", "here"];
    let aggregator_key = path("aggregator.key");
    let exposed = path("exposed.key");
    std::fs::copy(&key, &exposed).unwrap();
    std::fs::set_permissions(&exposed, PermissionsExt::from_mode(0o640)).unwrap();
    for (arguments, part) in [
        (vec![], "--tls-client-ca is missing"),
        (vec!["--no-such-flag"], "--no-such-flag"),
        (vec!["nonsense"], "nonsense"),
        (vec!["pki"], "pki"),
        (not_an_address.into_iter().chain(tls(&key)).collect(), "--grpc-listen"),
        (tls("/absent").to_vec(), "/absent"),
        // A key that is not the certificate's, and a file that is none.
        (tls(&key).to_vec(), "certificate and key"),
        (tls(&cert).to_vec(), "private key"),
        (tls(&exposed).to_vec(), "mode 0640"),
        (
            ["--http-listen", "0.0.0.0:0"].into_iter().chain(tls(&aggregator_key)).collect(),
            "--http-listen 0.0.0.0:0 is not loopback",
        ),
        (vec!["token", "a", "--role", "king"], "king"),
        (vec!["--config", "/absent.toml"], "/absent.toml"),
        (vec!["pki", "node", folder.path().to_str().unwrap(), "a b"], "`a b`"),
    ] {
        let (code, stdout, stderr) = run(&arguments);
        assert_eq!(code, 64, "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        assert!(stderr.contains(part) && stdout.is_empty(), "{arguments:?}: {stderr}");
    }
    let (code, stdout, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(stdout.contains("--tls-client-ca"));
}

#[test]
fn what_the_system_refuses_is_one_line_too() {
    let folder = tempfile::tempdir().unwrap();
    pki(folder.path());
    let mut command = serving(folder.path());
    std::fs::write(folder.path().join("data"), "a file").unwrap();
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("data directory") && said.lines().count() == 1, "{said}");
}
