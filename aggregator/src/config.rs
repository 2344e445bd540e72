//! Settings: flags, then environment (`WEFT_…`), then a TOML file, then defaults.

mod access;
mod budget;
mod cli;
mod layers;
mod values;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use kubernetes::Access;
use thiserror::Error;

pub(crate) use access::TokenEntry;
pub use access::{Grant, HttpAccess, HttpFiles, Role, Token};
pub use budget::Budget;
pub use cli::{Cli, Command, Pki};
pub(crate) use layers::at_line;
pub use layers::{Flags, Layers, Repeated};

/// Exit code of a wrong setting (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

/// A wrong setting, in one clear line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A setting without a default is missing.
    #[error(
        "--{setting} is missing (or {variable} in the environment, or `{setting}` in the config file)"
    )]
    Missing {
        /// Name of the setting.
        setting: &'static str,
        /// Its environment variable.
        variable: String,
    },
    /// A value that cannot be used.
    #[error("{origin}: {reason}")]
    Invalid {
        /// The flag, the variable, or the key and file that has it.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Readers could come from anywhere, and nothing keeps them out.
    #[error(
        "--http-listen {0} is not loopback: add --http-tls-cert, --http-tls-key and either \
         [[http-tokens]] in the config file or --http-client-ca; or --http-insecure"
    )]
    Unguarded(SocketAddr),
    /// The file cannot be used.
    #[error("config file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Everything the aggregator needs to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where agents connect.
    pub grpc_listen: SocketAddr,
    /// Where readers connect.
    pub http_listen: SocketAddr,
    /// How readers are let in.
    pub http: HttpAccess,
    /// What the aggregator keeps on disk.
    pub data_dir: PathBuf,
    /// How large the history may get on disk.
    pub history_max_bytes: u64,
    /// How much room there is for what agents report.
    pub budget: Budget,
    /// How many external peers of a service are told apart.
    pub max_external_peers: usize,
    /// File with the rules of services and networks.
    pub rules: Option<PathBuf>,
    /// The API server of Kubernetes whose services and hosts are watched.
    pub kubernetes: Option<Access>,
    /// How long an edge without connections and gains stays in `/metrics`.
    pub edge_idle_expiry: Duration,
    /// PEM files: the CA of the agents, and this side's certificate and key.
    pub tls: proto::tls::Files,
    /// PEM file with the revocation lists of the agents' CA.
    pub tls_crl: Option<PathBuf>,
    /// Trust domain that agents must be of; any that the CA vouches for when `None`.
    pub trust_domain: Option<String>,
    /// Nodes that are missed when they do not report.
    pub expected_nodes: Vec<String>,
    /// Whether `/metrics` has the `traces_service_graph_…` series, too.
    pub service_graph_metrics: bool,
    /// Filter of the log.
    pub log: String,
}

impl Config {
    /// Takes each setting from the first layer that has it.
    pub fn resolve(layers: &Layers) -> Result<Self, ConfigError> {
        let file = |name| match layers.get(name) {
            Some(raw) => raw.parse_with(values::readable_file),
            None => Err(layers::missing(name)),
        };
        let or = |name, default: &str, parse: fn(&str) -> Result<SocketAddr, String>| {
            layers.get_or(name, default).parse_with(parse)
        };
        let http_listen = or("http-listen", "127.0.0.1:7480", values::address)?;
        let http = http_access(layers)?;
        let insecure = layers.get_or("http-insecure", "false").parse_with(values::switch)?;
        if !http_listen.ip().is_loopback() && !http.is_safe() && !insecure {
            return Err(ConfigError::Unguarded(http_listen));
        }
        Ok(Self {
            grpc_listen: or("grpc-listen", "[::]:7443", values::address)?,
            http_listen,
            http,
            data_dir: layers
                .get_or("data-dir", "/var/lib/weft-aggregator")
                .parse_with(values::path)?,
            history_max_bytes: layers
                .get_or("history-max-bytes", "2GB")
                .parse_with(values::history_bytes)?,
            budget: Budget::resolve(layers)?,
            max_external_peers: layers
                .get_or("max-external-peers", "100")
                .parse_with(values::number_of_peers)?,
            rules: layers
                .get("rules")
                .map(|raw| raw.parse_with(values::readable_file))
                .transpose()?,
            kubernetes: kubernetes(layers)?,
            edge_idle_expiry: layers
                .get_or("edge-idle-expiry", "1h")
                .parse_with(values::idle_expiry)?,
            tls: proto::tls::Files {
                ca: file("tls-client-ca")?,
                cert: file("tls-cert")?,
                key: file("tls-key")?,
            },
            tls_crl: layers
                .get("tls-crl")
                .map(|raw| raw.parse_with(values::readable_file))
                .transpose()?,
            trust_domain: layers
                .get("trust-domain")
                .map(|raw| raw.parse_with(values::trust_domain))
                .transpose()?,
            expected_nodes: layers
                .get_all("expected-node")
                .iter()
                .map(|raw| raw.parse_with(values::node_name))
                .collect::<Result<_, _>>()?,
            service_graph_metrics: layers
                .get_or("service-graph-metrics", "true")
                .parse_with(values::switch)?,
            log: layers.get_or("log", "info").parse_with(values::log_filter)?,
        })
    }
}

fn kubernetes(layers: &Layers) -> Result<Option<Access>, ConfigError> {
    let file = |name| layers.get(name).map(|raw| raw.parse_with(values::path)).transpose();
    let (ca, token) = (file("kubernetes-ca")?, file("kubernetes-token")?);
    layers.get_or("kubernetes", "auto").parse_with(|text| match text {
        "auto" => Ok(Access::in_cluster(|name| layers.variable(name))),
        "none" => Ok(None),
        url => Access::at(url, ca.as_deref(), token.as_deref())
            .map(Some)
            .map_err(|error| format!("{error}; or write auto or none")),
    })
}

fn http_access(layers: &Layers) -> Result<HttpAccess, ConfigError> {
    let file = |name| layers.get(name).map(|raw| raw.parse_with(values::readable_file)).transpose();
    let (cert, key) = (file("http-tls-cert")?, file("http-tls-key")?);
    let (client_ca, client_crl) = (file("http-client-ca")?, file("http-client-crl")?);
    if client_crl.is_some() && client_ca.is_none() {
        return Err(layers::missing("http-client-ca"));
    }
    let tls = match (cert, key) {
        (Some(cert), Some(key)) => Some(HttpFiles { cert, key, client_ca, client_crl }),
        (Some(_), None) => return Err(layers::missing("http-tls-key")),
        (None, Some(_)) => return Err(layers::missing("http-tls-cert")),
        (None, None) if client_ca.is_some() => return Err(layers::missing("http-tls-cert")),
        (None, None) => None,
    };
    Ok(HttpAccess { tls, tokens: layers.tokens()? })
}
