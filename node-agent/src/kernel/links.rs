//! What a pinned link is attached to.

use std::{fs, path::Path};

use anyhow::Context as _;
use aya::programs::links::{FdLink, PinnedLink};

/// Id of the cgroup that a pinned link is attached to: 0 when somebody has detached it, or the cgroup is gone. `None` for links
/// of other kinds, and where the kernel does not say.
///
/// # Errors
/// When the link cannot be opened.
pub fn cgroup_of(path: &Path) -> anyhow::Result<Option<u64>> {
    let failed = || format!("cannot open {}", path.display());
    let link = FdLink::from(PinnedLink::from_pin(path).with_context(failed)?);
    let id = link.info().with_context(failed)?.id();
    let descriptors =
        fs::read_dir("/proc/self/fdinfo").context("cannot look at own descriptors")?;
    let texts = descriptors.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    Ok(texts
        .filter(|text| field(text, "link_id") == Some(id.into()))
        .find_map(|text| field(&text, "cgroup_id")))
}

/// A number that the kernel says of a descriptor.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_tells_its_cgroup() {
        let text = "pos:\t0\nflags:\t02000002\nlink_type:\tcgroup\nlink_id:\t31\nprog_id:\t77\n\
                    cgroup_id:\t4711\nattach_type:\t3\n";
        assert_eq!((field(text, "link_id"), field(text, "cgroup_id")), (Some(31), Some(4711)));
        assert_eq!(field("link_id:\t31\nlink_type:\ttracing\n", "cgroup_id"), None);
    }
}
