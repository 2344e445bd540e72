//! Where a setting comes from.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use serde::{Deserialize, Deserializer};

use super::ConfigError;

/// Settings of one origin, not yet looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Layer {
    /// Aggregator to report to, as https://HOST:PORT; several in the order of preference
    #[arg(long, global = true, value_name = "URL")]
    #[serde(deserialize_with = "one_or_several")]
    pub aggregator: Vec<String>,
    /// Name of this node, as in its certificate [default: the host's name]
    #[arg(long, global = true, value_name = "NAME")]
    pub node: Option<String>,
    /// Watch processes below this cgroup v2 directory [default: all]
    #[arg(long, global = true, value_name = "PATH")]
    pub cgroup: Option<String>,
    /// Time between two reports [default: 1s]
    #[arg(long, global = true, value_name = "TIME")]
    pub interval: Option<String>,
    /// Connections are told apart by owner and both ends, so many at a time; more count together [default: 65536]
    #[arg(long, global = true, value_name = "NUMBER")]
    pub max_halves: Option<String>,
    /// Memory for reports that no aggregator has acknowledged [default: 4MiB]
    #[arg(long, global = true, value_name = "BYTES")]
    pub queue_max_bytes: Option<String>,
    /// Folder for such reports when memory has no more room [default: none]
    #[arg(long, global = true, value_name = "DIR")]
    pub spool_dir: Option<String>,
    /// Room for them in that folder [default: 256MiB]
    #[arg(long, global = true, value_name = "BYTES")]
    pub spool_max_bytes: Option<String>,
    /// Folder on a BPF file system: programs and counts stay there when the agent ends, and the next one goes on with
    /// them [default: none]
    #[arg(long, global = true, value_name = "DIR")]
    pub pin_dir: Option<String>,
    /// Socket of a container engine that answers as Docker does, to name containers; several, or `none` [default:
    /// /var/run/docker.sock and /run/podman/podman.sock]
    #[arg(long, global = true, value_name = "PATH")]
    #[serde(deserialize_with = "one_or_several")]
    pub container_engine: Vec<String>,
    /// Folder in which a container runtime leaves what says how containers are called: the state of containerd, the storage of
    /// Podman or CRI-O; several, or `none` [default: /run/containerd, /run/k3s/containerd and /var/lib/containers/storage]
    #[arg(long, global = true, value_name = "DIR")]
    #[serde(deserialize_with = "one_or_several")]
    pub container_state: Vec<String>,
    /// Label of containers to tell besides image, project and service, or the beginning of some with a `*`; several
    /// [default: none]
    #[arg(long, global = true, value_name = "KEY")]
    #[serde(deserialize_with = "one_or_several")]
    pub container_label: Vec<String>,
    /// API server of Kubernetes, to name the pods of this node, as https://HOST:PORT, or http:// of a proxy on this host;
    /// `auto` for the one of the cluster that the agent is a pod of, or `none` [default: auto]
    #[arg(long, global = true, value_name = "URL")]
    pub kubernetes: Option<String>,
    /// What this node is called there [default: as --node]
    #[arg(long, global = true, value_name = "NAME")]
    pub kubernetes_node: Option<String>,
    /// CA that issued its certificate (PEM) [default: that of the agent's service account]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubernetes_ca: Option<String>,
    /// File with the token to show to it [default: that of the agent's service account]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubernetes_token: Option<String>,
    /// CA that issued the aggregator's certificate (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_ca: Option<String>,
    /// Certificate of this node (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// Private key of this node (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Address of /metrics and /healthz [default: 127.0.0.1:7481]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
    /// Let everybody who reaches that address read them, when it is not loopback [default: false]
    #[arg(long, global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(deserialize_with = "switch")]
    pub metrics_insecure: Option<String>,
    /// Write everything that is sent into this file, for `weft-loadtest replay`
    #[arg(long, global = true, value_name = "FILE")]
    pub record: Option<String>,
    /// What to log: error, warn, info, debug, or a filter per module [default: info]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
}

/// Names of all settings, as flags and keys of the file have them.
const NAMES: [&str; 23] = [
    "aggregator",
    "node",
    "cgroup",
    "interval",
    "max-halves",
    "queue-max-bytes",
    "spool-dir",
    "spool-max-bytes",
    "pin-dir",
    "container-engine",
    "container-state",
    "container-label",
    "kubernetes",
    "kubernetes-node",
    "kubernetes-ca",
    "kubernetes-token",
    "tls-ca",
    "tls-cert",
    "tls-key",
    "metrics-listen",
    "metrics-insecure",
    "record",
    "log",
];

impl Layer {
    fn get(&self, name: &str) -> Option<String> {
        // As in the environment; no URL, path or key of ours has a comma.
        let several = |all: &[String]| (!all.is_empty()).then(|| all.join(","));
        let value = match name {
            "aggregator" => return several(&self.aggregator),
            "container-engine" => return several(&self.container_engine),
            "container-state" => return several(&self.container_state),
            "container-label" => return several(&self.container_label),
            "node" => &self.node,
            "cgroup" => &self.cgroup,
            "interval" => &self.interval,
            "max-halves" => &self.max_halves,
            "queue-max-bytes" => &self.queue_max_bytes,
            "spool-dir" => &self.spool_dir,
            "spool-max-bytes" => &self.spool_max_bytes,
            "pin-dir" => &self.pin_dir,
            "kubernetes" => &self.kubernetes,
            "kubernetes-node" => &self.kubernetes_node,
            "kubernetes-ca" => &self.kubernetes_ca,
            "kubernetes-token" => &self.kubernetes_token,
            "tls-ca" => &self.tls_ca,
            "tls-cert" => &self.tls_cert,
            "tls-key" => &self.tls_key,
            "metrics-listen" => &self.metrics_listen,
            "metrics-insecure" => &self.metrics_insecure,
            "record" => &self.record,
            "log" => &self.log,
            _ => return None,
        };
        value.clone()
    }
}

/// A list that a single value may stand for.
fn one_or_several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a list of texts")]
    enum OneOrSeveral {
        One(String),
        Several(Vec<String>),
    }
    Ok(match OneOrSeveral::deserialize(from)? {
        OneOrSeveral::One(one) => vec![one],
        OneOrSeveral::Several(several) => several,
    })
}

/// A switch reads better without quotes.
fn switch<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected true or false")]
    enum Switch {
        Plain(bool),
        Text(String),
    }
    Ok(Some(match Switch::deserialize(from)? {
        Switch::Plain(on) => on.to_string(),
        Switch::Text(text) => text,
    }))
}

/// Name of a setting's environment variable.
pub(super) fn env_name(setting: &str) -> String {
    format!("WEFT_{}", setting.to_ascii_uppercase().replace('-', "_"))
}

/// A setting's text and where it was found.
pub(super) struct Raw<'a> {
    text: String,
    origin: Origin<'a>,
    name: &'static str,
}

enum Origin<'a> {
    Flag,
    Environment,
    File(&'a Path),
}

impl Raw<'_> {
    /// Reads the text; a failure names its origin.
    pub(super) fn parse_with<T>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        parse(&self.text).map_err(|reason| {
            let origin = match self.origin {
                Origin::Flag => format!("--{}", self.name),
                Origin::Environment => env_name(self.name),
                Origin::File(path) => format!("`{}` in {}", self.name, path.display()),
            };
            ConfigError::Invalid { origin, reason }
        })
    }
}

/// All origins, in the order of precedence.
#[derive(Debug, Default)]
pub struct Layers {
    flags: Layer,
    environment: Vec<(&'static str, String)>,
    file: Option<(PathBuf, Layer)>,
}

impl Layers {
    /// Gathers the environment by `lookup`, and reads the file that `config_file` or
    /// `WEFT_CONFIG` names.
    ///
    /// # Errors
    /// When the file cannot be read or has an unknown key.
    pub fn gather(
        flags: Layer,
        config_file: Option<PathBuf>,
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let mut environment = Vec::new();
        for name in NAMES {
            let Some(value) = lookup(&env_name(name)) else { continue };
            let value = value.into_string().map_err(|_| ConfigError::Invalid {
                origin: env_name(name),
                reason: "is not UTF-8".to_owned(),
            })?;
            environment.push((name, value));
        }
        let path = config_file.or_else(|| lookup("WEFT_CONFIG").map(PathBuf::from));
        let file = path.map(read_file).transpose()?;
        Ok(Self { flags, environment, file })
    }

    /// The text of a file and nothing else; files that it names are taken to be empty ones.
    pub(crate) fn of_text(text: &str) -> Result<Self, String> {
        let mut layer: Layer = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let kubernetes = [&mut layer.kubernetes_ca, &mut layer.kubernetes_token];
        let tls = [&mut layer.tls_ca, &mut layer.tls_cert, &mut layer.tls_key];
        for file in tls.into_iter().chain(kubernetes) {
            *file = file.take().map(|_| "/proc/self/limits".to_owned());
        }
        // Looking for it asks the system.
        layer.cgroup = None;
        Ok(Self {
            flags: Layer::default(),
            environment: Vec::new(),
            file: Some((PathBuf::new(), layer)),
        })
    }

    pub(super) fn get(&self, name: &'static str) -> Option<Raw<'_>> {
        if let Some(text) = self.flags.get(name) {
            return Some(Raw { text, origin: Origin::Flag, name });
        }
        if let Some((_, text)) = self.environment.iter().find(|(key, _)| *key == name) {
            return Some(Raw { text: text.clone(), origin: Origin::Environment, name });
        }
        let (path, layer) = self.file.as_ref()?;
        let text = layer.get(name)?;
        Some(Raw { text, origin: Origin::File(path), name })
    }
}

fn read_file(path: PathBuf) -> Result<(PathBuf, Layer), ConfigError> {
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Err(ConfigError::File { path, reason: error.to_string() }),
    };
    match toml::from_str(&text) {
        Ok(layer) => Ok((path, layer)),
        Err(error) => {
            let line = error.span().map_or(1, |span| {
                text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1
            });
            let reason = error.message().lines().next().unwrap_or("not TOML");
            Err(ConfigError::File { path, reason: format!("line {line}: {reason}") })
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Tell what the agent can do on this host, and what is missing
    Doctor,
    /// Remove what an agent has left in --pin-dir
    Detach,
}

#[derive(Debug, Parser)]
#[command(
    name = "weft-agent",
    version,
    about = "Counts the TCP connections of this host in the kernel and reports them",
    after_help = "Every option can be set in the environment (WEFT_TLS_CA for --tls-ca) and in a \
                  TOML file (tls-ca = \"…\"). An option wins over the environment, and the \
                  environment over the file."
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Layer,
    /// TOML file with settings
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Reads the command line: what to do, the flags, and the file named by `--config`.
///
/// # Errors
/// Clap's own; also for `--help` and `--version`, which are to be printed.
pub fn parse_command_line(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(Option<Command>, Layer, Option<PathBuf>), clap::Error> {
    let matches = CommandLine::command().try_get_matches_from(arguments)?;
    let line = CommandLine::from_arg_matches(&matches)?;
    Ok((line.command, line.settings, line.config))
}
