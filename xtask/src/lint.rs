//! `cargo xtask lint`: what CI holds against the sources without running them.

use anyhow::{Result, bail};

use crate::{
    bpf::{EBPF, Toolchain},
    process::{cargo, in_ci, run, works},
    terminal::loud,
};

/// Checks format, lints and licences.
///
/// # Errors
/// When one of them has a complaint, or in CI a tool is missing.
pub fn run_all() -> Result<()> {
    let ebpf = format!("{EBPF}/Cargo.toml");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["fmt", "--manifest-path", &ebpf, "--check"]))?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    match Toolchain::find() {
        Ok(toolchain) => match toolchain.clippy() {
            Some(mut command) => run(&mut command)?,
            None => loud("SKIPPED: this toolchain has no clippy for the kernel programs"),
        },
        Err(error) => loud(&format!("SKIPPED: clippy of the kernel programs: {error}")),
    }
    if works(cargo().args(["deny", "--version"])) {
        run(cargo().args(["deny", "check", "licenses", "bans", "sources"]))
    } else if in_ci() {
        bail!("cargo-deny is not installed: `cargo install cargo-deny --locked`")
    } else {
        loud("SKIPPED: licences; `cargo install cargo-deny --locked` adds the check");
        Ok(())
    }
}
