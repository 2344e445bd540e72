//! The two ways to compile for the BPF target: Debian's compiler with its ready-made `core`,
//! or a nightly compiler that builds `core` from its sources.

use std::{
    fmt::{self, Display, Formatter},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Result, bail};

use super::EBPF;
use crate::process::{cargo, output_of, works};

const TARGET: &str = "bpfel-unknown-none";
/// Debian's compiler, where a rustup one may hide it.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Debug information, which the linker turns into BTF.
const FLAGS: &str = "-Cdebuginfo=2\x1f-Clink-arg=--btf";

/// A way to compile for the BPF target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// Debian's compiler and its `core` for the target.
    Debian,
    /// A nightly compiler and the sources of `core`.
    Nightly,
}

impl Toolchain {
    /// The way that works here; Debian's first, which is quicker and pinned.
    ///
    /// # Errors
    /// When there is none, with what to install.
    pub fn find() -> Result<Self> {
        let Some(found) = [Self::Debian, Self::Nightly].into_iter().find(|way| way.exists()) else {
            bail!(
                "no compiler for the BPF target: install Debian's (`apt-get install rustc-web \
                 libstd-rust-web-dev-bpf`) or a nightly one with sources (`rustup toolchain \
                 install nightly --component rust-src`)"
            );
        };
        if !works(Command::new("bpf-linker").arg("--version")) {
            bail!(
                "bpf-linker is not on PATH: `cargo install bpf-linker` (see docs/ARCHITECTURE.md)"
            );
        }
        Ok(found)
    }

    fn exists(self) -> bool {
        match self {
            Self::Debian => sysroot(Command::new(DEBIAN_RUSTC)).is_some_and(|sysroot| {
                let folder = Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib");
                let files = fs::read_dir(folder).into_iter().flatten().flatten();
                files
                    .into_iter()
                    .any(|file| file.file_name().to_string_lossy().starts_with("libcore"))
            }),
            Self::Nightly => sysroot(nightly("rustc")).is_some_and(|sysroot| {
                Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
            }),
        }
    }

    /// The command that builds the kernel programs into a target folder.
    pub fn build(self, target: &Path) -> Command {
        let mut command = self.cargo("build");
        command.args(["--release", "--locked", "--target-dir"]).arg(target);
        command
    }

    /// The command that lints the kernel programs, where the toolchain has the tool.
    pub fn clippy(self) -> Option<Command> {
        match self {
            // Debian packages its clippy for another compiler than this one.
            Self::Debian => None,
            Self::Nightly => {
                let mut command = self.cargo("clippy");
                command.args(["--release", "--locked", "--", "-D", "warnings"]);
                Some(command)
            }
        }
    }

    fn cargo(self, what: &str) -> Command {
        let mut command = match self {
            Self::Debian => {
                let mut command = cargo();
                // The compiler is a stable one, the target needs unstable features.
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command.arg(what);
                command
            }
            Self::Nightly => {
                let mut command = nightly("cargo");
                command.arg(what).arg("-Zbuild-std=core");
                command
            }
        };
        command.args(["--target", TARGET]);
        // The kept object shall not tell where it was built.
        let mut flags = FLAGS.to_owned();
        let cargo_home = std::env::var("CARGO_HOME").ok();
        let cargo_home =
            cargo_home.or_else(|| Some(format!("{}/.cargo", std::env::var("HOME").ok()?)));
        for (from, to) in
            [(Some(crate::workspace().display().to_string()), "."), (cargo_home, "cargo")]
        {
            if let Some(from) = from {
                flags.push_str(&format!("\x1f--remap-path-prefix={from}={to}"));
            }
        }
        command.current_dir(crate::workspace().join(EBPF)).env("CARGO_ENCODED_RUSTFLAGS", flags);
        command
    }
}

impl Display for Toolchain {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Debian => "Debian's rustc and its core for BPF",
            Self::Nightly => "nightly rustc with core built from source",
        })
    }
}

fn nightly(tool: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", tool]);
    // Those of the toolchain that runs us would win otherwise.
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(variable);
    }
    command
}

fn sysroot(mut rustc: Command) -> Option<String> {
    output_of(rustc.args(["--print", "sysroot"]))
}
