//! `cargo xtask bpf`: builds the kernel object and keeps it in the repository, so that
//! nobody needs a BPF toolchain to build or run the agent.

mod stack;
mod sums;
mod toolchain;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

pub use toolchain::Toolchain;

use crate::{
    process::{run, target_folder},
    terminal::say,
};

/// Folder of the kernel programs.
pub const EBPF: &str = "node-agent-ebpf";
/// The kept object.
const OBJECT: &str = "node-agent/bpf/weft.bpf.o";
/// Checksums of the object and its sources, in the format of `sha256sum`.
const SUMS: &str = "node-agent/bpf/weft.bpf.sha256";
/// Name of the program that becomes the object.
const BINARY: &str = "weft-bpf";

/// Builds the object and writes it and the checksums.
///
/// # Errors
/// When no toolchain can be found, the build fails, or a program uses more stack than older kernels allow.
pub fn build(workspace: &Path) -> Result<()> {
    let toolchain = Toolchain::find()?;
    say(format_args!("kernel object by {toolchain}"));
    let target: PathBuf = target_folder().join("bpf");
    run(&mut toolchain.build(&target))?;
    let built = target.join("bpfel-unknown-none/release").join(BINARY);
    let (deepest, stack) = stack::deepest(&fs::read(&built).context("read the kernel object")?)?;
    say(format_args!("{deepest} uses most stack: {stack} bytes"));
    let kept = workspace.join(OBJECT);
    if let Some(folder) = kept.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let size = fs::copy(&built, &kept).with_context(|| format!("copy {}", built.display()))?;
    let sums = sums::of(workspace, OBJECT)?;
    fs::write(workspace.join(SUMS), sums::print(&sums)).context(SUMS)?;
    say(format_args!("{OBJECT}: {size} bytes, of {} sources", sums.len() - 1));
    Ok(())
}

/// Compares the kept checksums with the object and the sources.
///
/// # Errors
/// When they differ: every file that does is named.
pub fn check(workspace: &Path) -> Result<()> {
    let kept = fs::read_to_string(workspace.join(SUMS)).context(SUMS)?;
    let stale = sums::differences(&sums::parse(&kept), &sums::of(workspace, OBJECT)?);
    if !stale.is_empty() {
        bail!("the kept kernel object is stale, run `cargo xtask bpf`: {}", stale.join(", "));
    }
    say(format_args!("{OBJECT} is that of these sources"));
    Ok(())
}
