//! Every recurring command of this repository: `cargo xtask --help`.
#![forbid(unsafe_code)]

mod bench;
mod bpf;
mod demo;
mod fuzz;
mod kill;
mod lint;
mod load;
mod matrix;
mod measure;
mod options;
mod process;
mod sbom;
mod terminal;
mod test;
mod truth;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use options::{Command, Options};

fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::Demo(options) => demo::run_all(&options),
        Command::Test(options) => test::run_all(&options),
        Command::Bench(options) => bench::run_all(&options),
        Command::Bpf { check: true } => bpf::check(&workspace()),
        Command::Bpf { check: false } => bpf::build(&workspace()),
        Command::Lint => lint::run_all(),
        Command::Sbom => sbom::write_all(),
        Command::Matrix(options) => matrix::run(&workspace(), &options.into()),
        Command::Measure(options) => measure::run_all(&options),
        Command::Fuzz(options) => fuzz::run_all(&options),
        Command::Kill(options) => kill::run_all(&options),
        Command::Soak(options) => load::soak(&options),
        Command::Truth(options) => truth::run_all(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn workspace() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map_or_else(|| own.clone(), PathBuf::from)
}
