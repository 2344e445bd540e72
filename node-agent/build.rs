//! Names the compiled kernel programs for the agent to include. They are kept in the repository, so that nobody
//! needs a BPF toolchain to build the agent; a kept object that is not of these sources ends the build.

use std::{error::Error, fs, path::Path};

#[allow(dead_code, reason = "shared with `cargo xtask bpf`, which also writes the checksums")]
#[path = "../xtask/src/bpf/sums.rs"]
mod sums;

const OBJECT: &str = "node-agent/bpf/weft.bpf.o";
const SUMS: &str = "node-agent/bpf/weft.bpf.sha256";

fn main() -> Result<(), Box<dyn Error>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let kept =
        fs::read_to_string(workspace.join(SUMS)).map_err(|error| format!("{SUMS}: {error}"))?;
    let now = sums::of(workspace, OBJECT)?;
    for path in now.keys().map(String::as_str).chain([SUMS, "common/src", "node-agent-ebpf/src"]) {
        println!("cargo:rerun-if-changed={}", workspace.join(path).display());
    }
    let stale = sums::differences(&sums::parse(&kept), &now);
    if !stale.is_empty() {
        return Err(format!(
            "the kept kernel object is not of these sources, run `cargo xtask bpf` ({})",
            stale.join(", ")
        )
        .into());
    }
    println!("cargo:rustc-env=WEFT_BPF_OBJECT={}", workspace.join(OBJECT).display());
    Ok(())
}
