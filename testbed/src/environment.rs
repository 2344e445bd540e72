//! Whether this machine and user can run agents.

use std::{fs, path::Path};

use crate::{Error, Result, lab::Lab};

/// Capability numbers of linux/capability.h with their names.
const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// Says in one line what is missing to run agents in a lab, if anything is.
///
/// # Errors
/// When something is missing.
pub fn check() -> Result<()> {
    Lab::check()?;
    let missing = |what: String| Err(Error::Unavailable(what));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = effective_capabilities(&status);
    for (bit, name) in NEEDED {
        if held & (1 << bit) == 0 {
            return missing(format!("{name} is needed to load and attach kernel programs"));
        }
    }
    if !Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists() {
        return missing("this kernel was built without bpf(2)".into());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return missing("this kernel has no type information at /sys/kernel/btf/vmlinux".into());
    }
    Ok(())
}

/// Says in one line why there is no io_uring for this process, if there is none.
///
/// # Errors
/// When there is none.
pub fn check_io_uring() -> Result<()> {
    let ring = io_uring::IoUring::new(1).map(drop);
    ring.map_err(|error| Error::Unavailable(format!("no io_uring for this process: {error}")))
}

fn effective_capabilities(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_as_a_mask() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t0000000000201000\n"), 0x0020_1000);
        assert_eq!(effective_capabilities("CapEff: nonsense"), 0);
        assert_eq!(effective_capabilities(""), 0);
    }
}
