//! What this host offers.

use std::{io, path::Path, time::Duration};

use caps::Capability;

use crate::{
    config::DoctorConfig,
    kernel::pins,
    privileges,
    runtimes::{
        engine::{Engine, is_absent},
        kubernetes::Kubernetes,
    },
};

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

/// For an API server to answer.
const SERVER_TIME: Duration = Duration::from_secs(10);

pub(super) fn all(config: &DoctorConfig) -> Vec<Fact> {
    let DoctorConfig { cgroup, pin_dir, container_engines: engines, kubernetes } = config;
    let mut facts = vec![
        kernel(&crate::app::kernel_release()),
        rtt(&crate::app::kernel_release()),
        Fact { name: "cgroup v2", value: cgroup.dir().display().to_string(), advice: None },
        btf(Path::new(KERNEL_BTF).exists()),
        capabilities(&privileges::missing()),
    ];
    if let Some(dir) = pin_dir {
        let value = pins::describe(dir).unwrap_or_else(|| "nothing".to_owned());
        facts.push(Fact { name: "pinned", value, advice: None });
    }
    facts.extend(engines.iter().filter_map(|engine| container_engine(engine, &reach(engine))));
    facts.push(match kubernetes {
        Some(settings) => pods(settings, unprivileged(|| settings.count(SERVER_TIME))),
        None => Fact { name: "kubernetes", value: "not asked".to_owned(), advice: None },
    });
    facts
}

fn reach(engine: &Engine) -> io::Result<()> {
    unprivileged(|| Engine::reach(&engine.socket).map_err(anyhow::Error::from))
        .map_err(|error| error.downcast().unwrap_or_else(io::Error::other))
}

/// As the thread does it that will: without any capability.
fn unprivileged<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let work = || {
        privileges::keep_only(&[]);
        work()
    };
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(anyhow::anyhow!("cannot be tried")))
}

fn pods(settings: &Kubernetes, counted: anyhow::Result<usize>) -> Fact {
    let Kubernetes { access, node, .. } = settings;
    let (value, advice) = match counted {
        Ok(0) => (
            format!("{access}: no pods of node `{node}`"),
            Some("set --kubernetes-node to what `kubectl get nodes` calls this one".to_owned()),
        ),
        Ok(pods) => (format!("{access}: {pods} pods of node `{node}`"), None),
        Err(error) => (
            format!("{access}: {error:#}").replace('\n', " "),
            Some(
                "let the agent's account list and watch pods (deploy/kubernetes/agent.yaml), or set \
                 --kubernetes=none: pods go by what else is known of them"
                    .to_owned(),
            ),
        ),
    };
    Fact { name: "kubernetes", value, advice }
}

/// Nothing is said of an engine that is not there and that nobody has named.
fn container_engine(engine: &Engine, reached: &io::Result<()>) -> Option<Fact> {
    let socket = engine.socket.display();
    let (value, advice) = match reached {
        Ok(()) => (format!("{socket}"), None),
        Err(error) if is_absent(error) && !engine.expected => return None,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let advice = "run the agent as the user or in the group that the socket belongs to: it \
                          gives up root's capability to pass over that. Without it, containers go \
                          by their ids";
            (format!("{socket}: {error}"), Some(advice.to_owned()))
        }
        Err(error) => {
            let advice = "start the engine, or leave it out of --container-engine: its containers \
                          go by their ids";
            (format!("{socket}: {error}"), Some(advice.to_owned()))
        }
    };
    Some(Fact { name: "container engine", value, advice })
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

fn capabilities(missing: &[(Capability, &str)]) -> Fact {
    let names: Vec<_> = missing.iter().map(|(name, _)| name.to_string()).collect();
    let uses: Vec<_> = missing.iter().map(|(name, what)| format!("{name} (to {what})")).collect();
    let (value, advice) = if missing.is_empty() {
        ("all that are used".to_owned(), None)
    } else {
        let advice = format!("run as root, or with {}", uses.join(", "));
        (format!("without {}", names.join(", ")), Some(advice))
    };
    Fact { name: "capabilities", value, advice }
}

/// Major and minor version of a release such as `6.1.0-13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
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
    fn an_engine_is_spoken_of_when_it_is_there_or_should_be() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let at = |expected| {
            let labels = crate::runtimes::Labels::default();
            Engine { socket: socket.clone(), expected, labels }
        };
        let fact = |expected| container_engine(&at(expected), &reach(&at(expected)));
        assert_eq!(fact(false), None);
        assert!(fact(true).unwrap().advice.unwrap().starts_with("start the engine"));
        let _engine = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(fact(true).unwrap().advice, None);
        assert_eq!(fact(false).unwrap().value, socket.display().to_string());
        let refused = Err(io::ErrorKind::PermissionDenied.into());
        let fact = container_engine(&at(false), &refused).unwrap();
        assert!(fact.advice.unwrap().contains("in the group"));
    }

    #[test]
    fn missing_capabilities_are_named_with_their_use() {
        assert_eq!(capabilities(&[]).advice, None);
        let fact = capabilities(&[(Capability::CAP_BPF, "load programs")]);
        assert_eq!(fact.value, "without CAP_BPF");
        assert!(fact.advice.unwrap().contains("CAP_BPF (to load programs)"));
    }
}
