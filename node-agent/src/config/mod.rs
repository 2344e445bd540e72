//! The agent's settings: flags, then environment (`WEFT_…`), then a TOML file, then defaults.

mod layers;
mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use kubernetes::Access;
use proto::{
    identity::Identity,
    tls::{self, TlsError},
};

pub use layers::{Command, Layer, Layers, parse_command_line};
pub use values::{
    AggregatorAddress, DEFAULT_ENGINES, DEFAULT_INTERVAL, DEFAULT_MAX_HALVES,
    DEFAULT_METRICS_LISTEN, DEFAULT_QUEUE_BYTES, DEFAULT_SPOOL_BYTES, DEFAULT_STATES,
};

use crate::{
    cgroup_fs::{self, CgroupFs},
    kernel::pins,
    runtimes::{Labels, engine::Engine, kubernetes::Kubernetes},
};

/// Exit code of a wrong setting (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

/// A wrong setting: one clear line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting without a default is missing.
    #[error("--{0} is missing (or {env} in the environment, or `{0}` in the file)", env = layers::env_name(.0))]
    Missing(&'static str),
    /// A setting has a value that cannot be used.
    #[error("{origin}: {reason}")]
    Invalid {
        /// The flag, the variable or the key in the file that has it.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be used.
    #[error("config file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The PEM files cannot be used.
    #[error("--tls-ca, --tls-cert, --tls-key: {0}")]
    Tls(#[from] TlsError),
    /// The certificate is another node's.
    #[error("--node is `{node}`, but the certificate is that of node `{certificate}`")]
    OtherNode {
        /// As set, or the host's name.
        node: String,
        /// As the certificate says.
        certificate: String,
    },
    /// The metrics could be read from anywhere.
    #[error(
        "--metrics-listen {0} is not loopback, and whoever reaches it could read the agent's metrics: \
         add --metrics-insecure if only those can who may"
    )]
    Unguarded(SocketAddr),
    /// A default could not be found.
    #[error("--{setting} is not given and has no default here: {reason}")]
    NoDefault {
        /// Name of the setting.
        setting: &'static str,
        /// Why.
        reason: String,
    },
}

/// Everything `weft-agent` needs to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where batches go, the preferred one first; at least one.
    pub aggregators: Vec<AggregatorAddress>,
    /// The node's name; the certificate must have the same.
    pub node: String,
    /// Processes below this cgroup v2 directory are seen.
    pub cgroup: CgroupFs,
    /// Time between two looks at the kernel.
    pub interval: Duration,
    /// How many halves are told apart at a time.
    pub max_halves: u32,
    /// Memory for batches that are not acknowledged.
    pub queue_max_bytes: usize,
    /// Folder for those that memory has no room for.
    pub spool_dir: Option<PathBuf>,
    /// Room in it.
    pub spool_max_bytes: u64,
    /// Where programs and counts outlive the agent.
    pub pin_dir: Option<PathBuf>,
    /// Who is asked for the names of containers.
    pub container_engines: Vec<Engine>,
    /// Where runtimes without an engine leave them.
    pub container_states: Vec<PathBuf>,
    /// Labels of containers that are told.
    pub container_labels: Labels,
    /// Who is asked for pods.
    pub kubernetes: Option<Kubernetes>,
    /// PEM files.
    pub tls: tls::Files,
    /// Address of `/metrics` and `/healthz`.
    pub metrics_listen: SocketAddr,
    /// Where to write down everything that is sent.
    pub record: Option<PathBuf>,
    /// Filter of the log, as `tracing-subscriber` reads it.
    pub log: String,
}

/// What `weft-agent doctor` needs.
#[derive(Clone, Debug)]
pub struct DoctorConfig {
    /// As in [`Config`].
    pub cgroup: CgroupFs,
    /// As in [`Config`].
    pub pin_dir: Option<PathBuf>,
    /// As in [`Config`].
    pub container_engines: Vec<Engine>,
    /// As in [`Config`].
    pub kubernetes: Option<Kubernetes>,
}

/// What `weft-agent detach` needs.
#[derive(Clone, Debug)]
pub struct DetachConfig {
    /// As in [`Config`].
    pub pin_dir: PathBuf,
}

impl Config {
    /// Takes each setting from the first layer that has it.
    ///
    /// # Errors
    /// When a setting is missing or wrong.
    pub fn resolve(layers: &Layers) -> Result<Self, ConfigError> {
        let required = |name| layers.get(name).ok_or(ConfigError::Missing(name));
        let aggregators = required("aggregator")?.parse_with(values::aggregators)?;
        let node = node(layers)?;
        let interval = match layers.get("interval") {
            Some(value) => value.parse_with(values::interval)?,
            None => DEFAULT_INTERVAL,
        };
        let max_halves = match layers.get("max-halves") {
            Some(value) => value.parse_with(values::max_halves)?,
            None => DEFAULT_MAX_HALVES,
        };
        let bytes = |name, default| match layers.get(name) {
            Some(value) => value.parse_with(values::bytes),
            None => Ok(default),
        };
        let queue_max_bytes = bytes("queue-max-bytes", DEFAULT_QUEUE_BYTES)?;
        let spool_max_bytes = bytes("spool-max-bytes", DEFAULT_SPOOL_BYTES)?;
        let spool_dir =
            layers.get("spool-dir").map(|value| value.parse_with(values::path)).transpose()?;
        let metrics_listen = match layers.get("metrics-listen") {
            Some(value) => value.parse_with(values::listen_address)?,
            None => DEFAULT_METRICS_LISTEN,
        };
        let insecure = layers.get("metrics-insecure");
        let insecure = insecure.map(|value| value.parse_with(values::switch)).transpose()?;
        if !metrics_listen.ip().is_loopback() && insecure != Some(true) {
            return Err(ConfigError::Unguarded(metrics_listen));
        }
        let file = |name| required(name).and_then(|value| value.parse_with(values::readable_file));
        let tls =
            tls::Files { ca: file("tls-ca")?, cert: file("tls-cert")?, key: file("tls-key")? };
        Ok(Self {
            aggregators,
            kubernetes: kubernetes(layers, || Ok(node.clone()))?,
            node,
            cgroup: cgroup(layers)?,
            interval,
            max_halves,
            queue_max_bytes: usize::try_from(queue_max_bytes).unwrap_or(usize::MAX),
            spool_dir,
            spool_max_bytes,
            pin_dir: pin_dir(layers)?,
            container_engines: container_engines(layers)?,
            container_states: container_states(layers)?,
            container_labels: container_labels(layers)?,
            tls,
            metrics_listen,
            record: layers.get("record").map(|value| value.parse_with(values::path)).transpose()?,
            log: log_filter(layers)?,
        })
    }
}

impl Config {
    /// Makes sure that the PEM files can be used, and belong to this node.
    ///
    /// # Errors
    /// When they do not.
    pub fn check_tls(&self) -> Result<(), ConfigError> {
        tls::client_config(&self.tls)?;
        let chain = tls::read_certificates(&self.tls.cert)?;
        let identity = chain.first().and_then(|first| Identity::of(first).ok());
        match identity.and_then(|identity| identity.node) {
            Some(owner) if owner.name != self.node => {
                Err(ConfigError::OtherNode { node: self.node.clone(), certificate: owner.name })
            }
            _ => Ok(()),
        }
    }
}

impl DoctorConfig {
    /// As [`Config::resolve`], for the few settings that matter to `doctor`.
    ///
    /// # Errors
    /// When one of them is wrong.
    pub fn resolve(layers: &Layers) -> Result<Self, ConfigError> {
        Ok(Self {
            cgroup: cgroup(layers)?,
            pin_dir: pin_dir(layers)?,
            container_engines: container_engines(layers)?,
            kubernetes: kubernetes(layers, || node(layers))?,
        })
    }
}

impl DetachConfig {
    /// As [`Config::resolve`], for the one setting that matters to `detach`.
    ///
    /// # Errors
    /// When it is missing or wrong.
    pub fn resolve(layers: &Layers) -> Result<Self, ConfigError> {
        let pin_dir = pin_dir(layers)?.ok_or(ConfigError::Missing("pin-dir"))?;
        Ok(Self { pin_dir })
    }
}

fn pin_dir(layers: &Layers) -> Result<Option<PathBuf>, ConfigError> {
    let usable = |text: &str| {
        let dir = values::path(text)?;
        pins::check(&dir).map(|()| dir)
    };
    layers.get("pin-dir").map(|value| value.parse_with(usable)).transpose()
}

fn container_engines(layers: &Layers) -> Result<Vec<Engine>, ConfigError> {
    let set = layers.get("container-engine");
    let set = set.map(|value| value.parse_with(values::engines)).transpose()?;
    let (expected, labels) = (set.is_some(), container_labels(layers)?);
    let sockets = set.unwrap_or_else(|| DEFAULT_ENGINES.map(PathBuf::from).to_vec());
    let engine = |socket| Engine { socket, expected, labels: labels.clone() };
    Ok(sockets.into_iter().map(engine).collect())
}

fn container_states(layers: &Layers) -> Result<Vec<PathBuf>, ConfigError> {
    let set = layers.get("container-state");
    let set = set.map(|value| value.parse_with(values::states)).transpose()?;
    Ok(set.unwrap_or_else(|| DEFAULT_STATES.map(PathBuf::from).to_vec()))
}

fn container_labels(layers: &Layers) -> Result<Labels, ConfigError> {
    let keys = layers.get("container-label");
    let keys = keys.map(|value| value.parse_with(values::labels)).transpose()?;
    Ok(Labels::new(keys.unwrap_or_default()))
}

fn kubernetes(
    layers: &Layers,
    node: impl FnOnce() -> Result<String, ConfigError>,
) -> Result<Option<Kubernetes>, ConfigError> {
    let file =
        |name| layers.get(name).map(|value| value.parse_with(values::readable_file)).transpose();
    let (ca, token) = (file("kubernetes-ca")?, file("kubernetes-token")?);
    let server = layers.get("kubernetes").map(|value| value.parse_with(values::server));
    let access = match server.transpose()?.unwrap_or(values::Server::OwnCluster) {
        values::Server::None => None,
        values::Server::OwnCluster => Access::in_cluster(|name| std::env::var(name).ok()),
        values::Server::At(url) => Access::at(&url, ca.as_deref(), token.as_deref()).ok(),
    };
    let set = layers.get("kubernetes-node").map(|value| value.parse_with(values::node_name));
    let (set, labels) = (set.transpose()?, container_labels(layers)?);
    let Some(access) = access else { return Ok(None) };
    let node = set.map_or_else(node, Ok)?;
    Ok(Some(Kubernetes { access, node, labels }))
}

fn node(layers: &Layers) -> Result<String, ConfigError> {
    match layers.get("node") {
        Some(value) => value.parse_with(values::node_name),
        None => {
            values::host_name().map_err(|reason| ConfigError::NoDefault { setting: "node", reason })
        }
    }
}

fn cgroup(layers: &Layers) -> Result<CgroupFs, ConfigError> {
    match layers.get("cgroup") {
        Some(value) => value
            .parse_with(|text| cgroup_fs::CgroupFs::at(text).map_err(|error| error.to_string())),
        None => CgroupFs::default_root().map_err(|error| ConfigError::NoDefault {
            setting: "cgroup",
            reason: error.to_string(),
        }),
    }
}
fn log_filter(layers: &Layers) -> Result<String, ConfigError> {
    match layers.get("log") {
        Some(value) => value.parse_with(values::log_filter),
        None => Ok("info".to_owned()),
    }
}

#[cfg(test)]
mod tests;
