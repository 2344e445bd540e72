//! Readers of single settings.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use kubernetes::Access;

/// Time between two reports unless set.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// Where `/metrics` and `/healthz` are unless set.
pub const DEFAULT_METRICS_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7481);

/// Halves that are told apart at a time, unless set. At some 600 bytes with its place in the tables, and 24 for each
/// bucket, twice as many would be much; no host is known that needs it.
pub const DEFAULT_MAX_HALVES: u32 = 65_536;

/// Memory for batches that are not acknowledged, unless set: half an hour of a host with 100
/// edges.
pub const DEFAULT_QUEUE_BYTES: u64 = 4 << 20;

/// Room for more of them in files, unless set.
pub const DEFAULT_SPOOL_BYTES: u64 = 256 << 20;

/// Where container engines are asked, unless set: Docker's socket, and that of Podman's service.
pub const DEFAULT_ENGINES: [&str; 2] = ["/var/run/docker.sock", "/run/podman/podman.sock"];

/// Where names of containers are looked for, unless set: the state of containerd, also where k3s has it, and the storage
/// of Podman and CRI-O.
pub const DEFAULT_STATES: [&str; 3] =
    ["/run/containerd", "/run/k3s/containerd", "/var/lib/containers/storage"];

/// Less would not hold a batch.
const LEAST_BYTES: u64 = 16 << 10;

/// The aggregator's port when the URL has none.
const DEFAULT_AGGREGATOR_PORT: u16 = 7443;

const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

/// Longest name of a node in bytes: that of a host.
const LONGEST_NODE_NAME: usize = 253;

/// Host and port of an aggregator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregatorAddress {
    /// Name or address, an IPv6 one without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for AggregatorAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

pub(super) fn aggregators(text: &str) -> Result<Vec<AggregatorAddress>, String> {
    text.split(',').map(|one| aggregator(one.trim())).collect()
}

pub(super) fn aggregator(text: &str) -> Result<AggregatorAddress, String> {
    let wrong = |what: &str| format!("`{text}` {what}; write https://HOST:PORT");
    let Some(rest) = text.strip_prefix("https://") else {
        return Err(wrong("does not start with https://"));
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@', ' ']) {
        return Err(wrong("has more than a host and a port"));
    }
    let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
        let (host, tail) = bracketed.split_once(']').ok_or_else(|| wrong("lacks a `]`"))?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong("has no IPv6 address in brackets"))?;
        match tail.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if tail.is_empty() => (host, None),
            None => return Err(wrong("has something odd after the `]`")),
        }
    } else {
        match rest.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(wrong("has an IPv6 address without brackets"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        }
    };
    if host.is_empty() {
        return Err(wrong("has no host"));
    }
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0),
        None => Some(DEFAULT_AGGREGATOR_PORT),
    };
    let port = port.ok_or_else(|| wrong("has no valid port"))?;
    Ok(AggregatorAddress { host: host.to_owned(), port })
}

pub(super) fn node_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() {
        Err("is empty".to_owned())
    } else if text.len() > LONGEST_NODE_NAME {
        Err(format!("is longer than {LONGEST_NODE_NAME} bytes"))
    } else if text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` has characters other than letters, digits, `.`, `-` and `_`"))
    }
}

/// The host's name, as the default name of the node.
pub(super) fn host_name() -> Result<String, String> {
    let name = nix::unistd::gethostname().map_err(|error| error.to_string())?;
    let name = name.into_string().map_err(|_| "the host's name is not UTF-8".to_owned())?;
    node_name(&name).map_err(|reason| format!("the host's name {reason}"))
}

pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time; write 1s or 500ms");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u32 = number.parse().map_err(|_| wrong())?;
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        _ => return Err(wrong()),
    };
    match unit.checked_mul(number) {
        Some(time) if (SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&time) => Ok(time),
        _ => Err(format!("`{text}` is not between 50ms and 60s")),
    }
}

pub(super) fn max_halves(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (100..=500_000).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a number of halves from 100 to 500000"))
}

pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write 4MiB or 4194304");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    match number.checked_mul(unit) {
        Some(bytes) if bytes >= LEAST_BYTES => Ok(bytes),
        _ => Err(format!("`{text}` is not between 16KiB and what can be counted")),
    }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// Sockets of container engines; none for `none`.
pub(super) fn engines(text: &str) -> Result<Vec<PathBuf>, String> {
    let path = |one: &str| PathBuf::from(one.strip_prefix("unix://").unwrap_or(one));
    absolute(text, path, "the path of a socket; write /var/run/docker.sock, or none")
}

/// What is said of an API server of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// That of the cluster, if this is a pod of one.
    OwnCluster,
    /// None.
    None,
    /// The one at this URL.
    At(String),
}

pub(super) fn server(text: &str) -> Result<Server, String> {
    match text {
        "auto" => Ok(Server::OwnCluster),
        "none" => Ok(Server::None),
        url => match Access::at(url, None, None) {
            Ok(_) => Ok(Server::At(url.to_owned())),
            Err(error) => Err(format!("{error}; write https://HOST:PORT, auto or none")),
        },
    }
}

/// Folders of container runtimes; none for `none`.
pub(super) fn states(text: &str) -> Result<Vec<PathBuf>, String> {
    absolute(text, |one| PathBuf::from(one), "the path of a folder; write /run/containerd, or none")
}

fn absolute(
    text: &str,
    path: impl Fn(&str) -> PathBuf,
    what: &str,
) -> Result<Vec<PathBuf>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let one = |one: &str| {
        let path = path(one.trim());
        if path.is_absolute() { Ok(path) } else { Err(format!("`{one}` is not {what}")) }
    };
    text.split(',').map(one).collect()
}

/// Keys of labels.
pub(super) fn labels(text: &str) -> Result<Vec<String>, String> {
    let label = |one: &str| match one.trim() {
        "" => Err("has an empty key".to_owned()),
        key => Ok(key.to_owned()),
    };
    text.split(',').map(label).collect()
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("`{text}` is neither true nor false"))
}

pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address; write 127.0.0.1:7481"))
}

pub(super) fn readable_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match std::fs::metadata(&path) {
        Ok(facts) if facts.is_file() => Ok(path),
        Ok(_) => Err(format!("`{text}` is not a file")),
        Err(error) => Err(format!("`{text}`: {error}")),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("`{text}` is not a log filter; write info or debug")),
    }
}
