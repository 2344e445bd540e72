//! The kernel matrix: boots other kernels under QEMU and runs the agent, the aggregator and a
//! little traffic in them, so that what is missing on a kernel is known before a user meets it.
//!
//! The kernels are Debian's own packages, fetched with the machine's package manager into a
//! private folder; nothing is installed. Each boots without hardware virtualisation, from an
//! initial file system that is made here of a static shell and the programs under test.

mod archive;
mod boot;
mod check;
mod guest;
mod kernels;
mod results;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use boot::{Guest, boot};
use kernels::{Image, KERNELS, Kernel};

/// What `cargo xtask matrix` may be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only these kernels (`5.10`); all when empty.
    pub only: Vec<String>,
    /// Only boots the kernels, without the programs under test.
    pub boot_only: bool,
    /// Folder with static `weft-agent`, `weft-aggregator` and `weft-traffic`; built when `None`.
    pub bin_dir: Option<PathBuf>,
    /// Time that one guest may take from power-on to power-off.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            only: Vec::new(),
            boot_only: false,
            bin_dir: None,
            timeout: Duration::from_secs(300),
        }
    }
}

/// Runs the matrix and prints a line per kernel. Kernels and logs are kept below
/// `<workspace>/target/matrix`.
///
/// # Errors
/// When a kernel cannot be fetched or a check fails; every kernel is tried first.
pub fn run(workspace: &Path, options: &Options) -> Result<()> {
    let cache = workspace.join("target/matrix");
    let chosen = choose(&options.only)?;
    boot::require_qemu()?;
    let images = chosen
        .iter()
        .map(|kernel| kernels::fetch(kernel, &cache).with_context(|| kernel.name.to_owned()))
        .collect::<Result<Vec<_>>>()?;
    let binaries = match (&options.bin_dir, options.boot_only) {
        (_, true) => None,
        (Some(folder), false) => Some(folder.clone()),
        (None, false) => Some(guest::build(workspace, &cache.join("build"))?),
    };

    let mut failed = Vec::new();
    for image in &images {
        let started = Instant::now();
        let result = match &binaries {
            None => guest::hello(image, &cache, options.timeout),
            Some(folder) => check::kernel(image, folder, &cache, options.timeout),
        };
        let seconds = started.elapsed().as_secs_f32();
        match result {
            Ok(summary) => {
                say(format_args!("ok   {:<5} {seconds:5.1} s  {summary}", image.kernel.name))
            }
            Err(error) => {
                say(format_args!("FAIL {:<5} {seconds:5.1} s  {error:#}", image.kernel.name));
                failed.push(image.kernel.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed on {}; the consoles are in {}", failed.join(", "), cache.display());
    }
    Ok(())
}

fn choose(only: &[String]) -> Result<Vec<&'static Kernel>> {
    if let Some(unknown) = only.iter().find(|name| KERNELS.iter().all(|k| k.name != **name)) {
        let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
        bail!("no kernel {unknown} in the matrix; there are {}", known.join(", "));
    }
    Ok(KERNELS.iter().filter(|k| only.is_empty() || only.iter().any(|n| n == k.name)).collect())
}

/// The one place where the matrix writes to the terminal.
#[expect(clippy::print_stdout, reason = "a command's own output")]
fn say(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_all_or_those_named() {
        assert_eq!(choose(&[]).unwrap().len(), KERNELS.len());
        assert_eq!(choose(&["6.1".into()]).unwrap()[0].name, "6.1");
        assert!(choose(&["2.4".into()]).is_err());
    }
}
