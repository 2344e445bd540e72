//! `weft-aggregator`: wires command line, settings, signals and exit codes together.
#![forbid(unsafe_code)]

use std::{future::Future, io::Write, process::ExitCode};

use aggregator::{
    App, AppError, Config,
    config::{Cli, Command, EXIT_USAGE, Layers, Pki},
    pki, token,
};
use clap::{Parser, error::ErrorKind};
use tokio::signal::unix::{SignalKind, signal};

/// Gives memory back that a burst has taken; the C library's own allocator keeps most of it in its arenas.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            // Help or version. A closed pipe is no reason to fail.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return fail("a subcommand of `pki` is missing: init, node or revoke", EXIT_USAGE);
        }
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or("wrong command line");
            return fail(line.trim_start_matches("error: "), EXIT_USAGE);
        }
    };
    match cli.command {
        Some(Command::Pki(command)) => make(&command),
        Some(Command::Token { name, role, namespace }) => {
            match token::make(&name, role, &namespace) {
                Ok(text) => print(&text),
                Err(error) => fail(format!("cannot make a token: {error}"), 1),
            }
        }
        None => serve(cli),
    }
}

fn serve(cli: Cli) -> ExitCode {
    let layers = Layers::gather(cli.flags, cli.repeated, cli.config, |name| std::env::var_os(name));
    let config = match layers.and_then(|layers| Config::resolve(&layers)) {
        Ok(config) => config,
        Err(error) => return fail(error, EXIT_USAGE),
    };
    let filter = tracing_subscriber::EnvFilter::new(&config.log);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would complain of a closed stderr on stderr, and panic.
        .log_internal_errors(false)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format!("cannot start: {error}"), 1),
    };
    let ran = runtime.block_on(run(config));
    // A task that hangs must not keep the process.
    runtime.shutdown_background();
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let wrong_setting =
                matches!(error.downcast_ref(), Some(AppError::Tls(_) | AppError::Rules(_)));
            fail(error, if wrong_setting { EXIT_USAGE } else { 1 })
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    if !config.http_listen.ip().is_loopback() && !config.http.is_safe() {
        let address = config.http_listen;
        tracing::warn!(%address, "--http-insecure: anybody who reaches this address can read all");
    }
    let app = App::bind(config).await?;
    tracing::info!(agents = %app.grpc_address()?, readers = %app.http_address()?, "listening");
    Ok(app.run(stop).await?)
}

/// Ends at the first SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn make(command: &Pki) -> ExitCode {
    let made = match command {
        Pki::Init { dir, trust_domain, san } => pki::init(dir, trust_domain, san),
        Pki::Node { dir, name, renew: false } => pki::node(dir, name),
        Pki::Node { dir, name, renew: true } => pki::renew_node(dir, name),
        Pki::Revoke { dir, name } => pki::revoke(dir, name).map(|list| vec![list]),
    };
    match made {
        Ok(paths) => {
            let mut out = std::io::stdout().lock();
            for path in paths {
                // The files are there, whether or not anybody reads their names.
                let _ = writeln!(out, "{}", path.display());
            }
            ExitCode::SUCCESS
        }
        Err(error @ pki::PkiError::Name(..)) => fail(error, EXIT_USAGE),
        Err(error) => fail(error, 1),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error, 1),
    }
}

/// One clear line, and an exit code.
fn fail(reason: impl std::fmt::Display, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "weft-aggregator: {reason}");
    ExitCode::from(code)
}
