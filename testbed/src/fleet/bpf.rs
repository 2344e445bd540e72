//! What a process holds in the kernel's BPF subsystem.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use crate::{Error, Result, error::Context};

/// Ids of BPF objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelObjects {
    /// Programs.
    pub programs: BTreeSet<u64>,
    /// Maps.
    pub maps: BTreeSet<u64>,
    /// Links.
    pub links: BTreeSet<u64>,
}

impl KernelObjects {
    /// Those that a process holds by file descriptors.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn held_by(process: u32) -> Result<Self> {
        let folder = format!("/proc/{process}/fdinfo");
        let mut held = Self::default();
        for entry in fs::read_dir(&folder).context(|| format!("read {folder}"))?.flatten() {
            // A descriptor may be closed while we look.
            held.note(&fs::read_to_string(entry.path()).unwrap_or_default());
        }
        Ok(held)
    }

    fn note(&mut self, fdinfo: &str) {
        for (key, value) in fdinfo.lines().filter_map(|line| line.split_once(':')) {
            let Ok(id) = value.trim().parse() else { continue };
            match key {
                "prog_id" => self.programs.insert(id),
                "map_id" => self.maps.insert(id),
                "link_id" => self.links.insert(id),
                _ => false,
            };
        }
    }

    /// Those that the kernel has, by `bpftool`.
    ///
    /// # Errors
    /// Without `bpftool` or the right to list them.
    pub fn in_kernel() -> Result<Self> {
        Ok(Self { programs: list("prog")?, maps: list("map")?, links: list("link")? })
    }

    /// Those that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self {
            programs: &self.programs & &other.programs,
            maps: &self.maps & &other.maps,
            links: &self.links & &other.links,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn list(kind: &str) -> Result<BTreeSet<u64>> {
    let output = Command::new("bpftool")
        .args(["-j", kind, "show"])
        .output()
        .context(|| "run bpftool".into())?;
    let wrong = |reason: String| Error::Answer { who: format!("bpftool {kind} show"), reason };
    if !output.status.success() {
        return Err(wrong(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let objects: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| wrong(error.to_string()))?;
    let objects = objects.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(objects.iter().filter_map(|object| object["id"].as_u64()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_fdinfo() {
        let mut held = KernelObjects::default();
        held.note("pos:\t0\nmap_type:\t2\nmap_id:\t17\nfrozen:\t0\n");
        held.note("link_type:\tcgroup\nlink_id:\t5\nprog_tag:\tab\nprog_id:\t9\n");
        held.note("nonsense\nmap_id:\tx\n");
        assert_eq!(held.maps, BTreeSet::from([17]));
        assert_eq!((held.links.len(), held.programs.len()), (1, 1));
    }
}
