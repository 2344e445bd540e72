//! What this host offers.

use crate::cgroup_fs::CgroupFs;

/// One thing that matters, and what to do about it if it is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) advice: Option<String>,
}

/// Where the kernel shows its own types.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The oldest kernel that is supported.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// From here on the RTT callback carries the sample.
const RAW_RTT_KERNEL: (u32, u32) = (6, 10);

/// Capabilities the agent uses: bit, name, what for.
const CAPABILITIES: [(u32, &str, &str); 5] = [
    (39, "CAP_BPF", "load programs"),
    (38, "CAP_PERFMON", "attach to tracepoints"),
    (12, "CAP_NET_ADMIN", "attach to cgroups"),
    (21, "CAP_SYS_ADMIN", "enter network namespaces"),
    (19, "CAP_SYS_PTRACE", "read the names of processes"),
];

pub(super) fn all(cgroup: &CgroupFs) -> Vec<Fact> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    vec![
        kernel(&crate::app::kernel_release()),
        rtt(&crate::app::kernel_release()),
        Fact { name: "cgroup v2", value: cgroup.dir().display().to_string(), advice: None },
        btf(std::path::Path::new(KERNEL_BTF).exists()),
        capabilities(effective(&status).unwrap_or(0)),
    ]
}

fn kernel(release: &str) -> Fact {
    let old = version(release).is_none_or(|version| version < OLDEST_KERNEL);
    let (major, minor) = OLDEST_KERNEL;
    let advice = old.then(|| format!("run a kernel of version {major}.{minor} or newer"));
    Fact { name: "kernel", value: release.to_owned(), advice }
}

/// What a round-trip sample is. The programs take the sample itself wherever the kernel hands it over; seen on 6.12
/// and 6.18, not on 6.1 and 5.10.
fn rtt(release: &str) -> Fact {
    let raw = version(release).is_some_and(|version| version >= RAW_RTT_KERNEL);
    let value =
        if raw { "each sample as the kernel took it" } else { "the kernel's smoothed value" };
    Fact { name: "RTT", value: value.to_owned(), advice: None }
}

fn btf(there: bool) -> Fact {
    let value = if there { KERNEL_BTF } else { "none" }.to_owned();
    let advice = (!there).then(|| {
        "run a kernel built with CONFIG_DEBUG_INFO_BTF: without it, only what needs no type \
         information is counted"
            .to_owned()
    });
    Fact { name: "BTF", value, advice }
}

fn capabilities(effective: u64) -> Fact {
    let has = |bit: u32| effective >> bit & 1 == 1;
    let missing: Vec<_> = CAPABILITIES.iter().filter(|(bit, ..)| !has(*bit)).collect();
    let value = if missing.is_empty() {
        "all that are used".to_owned()
    } else {
        let names: Vec<_> = missing.iter().map(|(_, name, _)| *name).collect();
        format!("without {}", names.join(", "))
    };
    let advice = missing.first().map(|_| {
        let uses: Vec<_> =
            missing.iter().map(|(_, name, what)| format!("{name} (to {what})")).collect();
        format!("run as root, or with {}", uses.join(", "))
    });
    Fact { name: "capabilities", value, advice }
}

/// Major and minor version of a release such as `6.1.0-13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Effective capabilities in `/proc/self/status`.
fn effective(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("5.10.0-30-amd64"), Some((5, 10)));
        assert_eq!(version("6.18.44+"), Some((6, 18)));
        for odd in ["", "x", "6", "6.", "99999999999.1"] {
            assert_eq!(version(odd), None, "{odd}");
        }
        assert!(kernel("5.9.1").advice.is_some());
        assert!(kernel("5.10.0").advice.is_none());
        assert_ne!(rtt("6.1.0-50-amd64").value, rtt("6.12.95").value);
    }

    #[test]
    fn missing_capabilities_are_named_with_their_use() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(capabilities(u64::MAX).advice, None);
        let fact = capabilities(!(1 << 39));
        assert_eq!(fact.value, "without CAP_BPF");
        assert!(fact.advice.unwrap().contains("CAP_BPF (to load programs)"));
    }
}
