//! The command: settings in, exit code out.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{
    app,
    cgroup_fs::CgroupFs,
    config::{
        Command, Config, ConfigError, DEFAULT_MAX_HALVES, DetachConfig, DoctorConfig, EXIT_USAGE,
        Layers, parse_command_line,
    },
    doctor,
    kernel::pins,
    privileges,
    source::{Pinning, Source},
};

/// Runs `weft-agent` with these arguments (the first is the command's own). `load` attaches the
/// kernel programs.
pub fn run<S: Source>(
    arguments: impl IntoIterator<Item = OsString>,
    load: impl FnOnce(&CgroupFs, u32, Option<&Pinning>) -> anyhow::Result<S> + Send + 'static,
) -> ExitCode {
    let (command, flags, config_file) = match parse_command_line(arguments) {
        Ok(line) => line,
        Err(error) if error.use_stderr() => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            return fail(line.trim_start_matches("error: "), EXIT_USAGE);
        }
        // `--help` and `--version`.
        Err(answer) => return print(&answer.to_string()),
    };
    let layers = Layers::gather(flags, config_file, |name| env::var_os(name));
    let outcome = match command {
        Some(Command::Doctor) => layers.and_then(|layers| examine(&layers, load)),
        Some(Command::Detach) => layers.and_then(|layers| detach(&layers)),
        None => layers.and_then(|layers| {
            let config = Config::resolve(&layers)?;
            config.check_tls()?;
            Ok(stream(config, load))
        }),
    };
    outcome.unwrap_or_else(|error| fail(&error.to_string(), EXIT_USAGE))
}

fn examine<S: Source>(
    layers: &Layers,
    load: impl FnOnce(&CgroupFs, u32, Option<&Pinning>) -> anyhow::Result<S>,
) -> Result<ExitCode, ConfigError> {
    let config = DoctorConfig::resolve(layers)?;
    // Beside what is pinned, which is only looked at.
    let load = || load(&config.cgroup, DEFAULT_MAX_HALVES, None);
    let diagnosis = doctor::examine(&config, load);
    let printed = print(&diagnosis.render());
    Ok(if diagnosis.is_able() { printed } else { ExitCode::FAILURE })
}

fn detach(layers: &Layers) -> Result<ExitCode, ConfigError> {
    let config = DetachConfig::resolve(layers)?;
    Ok(match pins::remove(&config.pin_dir) {
        Ok(done) => print(&format!("{done}\n")),
        Err(error) => fail(&format!("{error:#}"), 1),
    })
}

fn stream<S: Source>(
    config: Config,
    load: impl FnOnce(&CgroupFs, u32, Option<&Pinning>) -> anyhow::Result<S> + Send + 'static,
) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::new(&config.log);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    privileges::forbid_gaining();
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(stream_until_signal(config, load)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}"), 1),
    }
}

async fn stream_until_signal<S: Source>(
    config: Config,
    load: impl FnOnce(&CgroupFs, u32, Option<&Pinning>) -> anyhow::Result<S> + Send + 'static,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let address = config.metrics_listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("--metrics-listen: cannot listen on {address}"))?;
    let (cgroup, max_halves) = (config.cgroup.clone(), config.max_halves);
    let pinning = config.pin_dir.clone().map(|dir| Pinning { dir, node: config.node.clone() });
    let (loading, is_loading) = oneshot::channel();
    let load = move || {
        // This thread has its privileges, so the other one can do without.
        let _ = loading.send(());
        let source = load(&cgroup, max_halves, pinning.as_ref())?;
        privileges::keep_only(&privileges::KEPT);
        Ok(source)
    };
    let give_up = async move {
        if is_loading.await.is_ok() {
            privileges::keep_only(&[]);
        }
        std::future::pending().await
    };
    tokio::select! {
        ended = app::run(config, load, listener, shutdown) => ended,
        never = give_up => never,
    }
}

fn print(text: &str) -> ExitCode {
    // A reader that went away, as `head` does, is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn fail(line: &str, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "weft-agent: {}", line.replace('\n', " "));
    ExitCode::from(code)
}
