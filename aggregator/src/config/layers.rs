//! Where a setting comes from.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{ConfigError, Token, TokenEntry};

/// Settings as text, of one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Flags {
    /// Address for agents [default: [::]:7443]
    #[arg(long, value_name = "ADDRESS")]
    pub grpc_listen: Option<String>,
    /// Address for readers: API, metrics [default: 127.0.0.1:7480]
    #[arg(long, value_name = "ADDRESS")]
    pub http_listen: Option<String>,
    /// Certificate for readers (PEM); plain HTTP without
    #[arg(long, value_name = "FILE")]
    pub http_tls_cert: Option<String>,
    /// Private key of it (PEM)
    #[arg(long, value_name = "FILE")]
    pub http_tls_key: Option<String>,
    /// CA of readers who show a certificate instead of a token (PEM)
    #[arg(long, value_name = "FILE")]
    pub http_client_ca: Option<String>,
    /// Revocation lists of that CA (PEM)
    #[arg(long, value_name = "FILE")]
    pub http_client_crl: Option<String>,
    /// Let readers from anywhere in without TLS or without asking who they are [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub http_insecure: Option<String>,
    /// Directory for what must survive a restart [default: /var/lib/weft-aggregator]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// How large the history may get, as 500MB or 2GB; 0 for none [default: 2GB]
    #[arg(long, value_name = "SIZE")]
    pub history_max_bytes: Option<String>,
    /// How many series there may be; more count for `other` [default: 200000]
    #[arg(long, value_name = "NUMBER")]
    pub max_series: Option<String>,
    /// How much memory what agents report may take; what is beyond counts for `other` [default: 4GB]
    #[arg(long, value_name = "SIZE")]
    pub max_memory_bytes: Option<String>,
    /// How many peers of a service that no agent covers are told apart; the others are one, `external` [default: 100]
    #[arg(long, value_name = "NUMBER")]
    pub max_external_peers: Option<String>,
    /// How fast one agent's reports are read; more wait in the agent [default: 32MB]
    #[arg(long, value_name = "SIZE")]
    pub stream_bytes_per_second: Option<String>,
    /// File with the rules of services and networks; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub rules: Option<String>,
    /// API server of Kubernetes whose services and nodes to watch, as https://HOST:PORT, or http:// of a proxy on this
    /// host; `auto` for the one of the cluster that the aggregator is a pod of, or `none` [default: auto]
    #[arg(long, value_name = "URL")]
    pub kubernetes: Option<String>,
    /// CA that issued its certificate (PEM) [default: that of the aggregator's service account]
    #[arg(long, value_name = "FILE")]
    pub kubernetes_ca: Option<String>,
    /// File with the token to show to it [default: that of the aggregator's service account]
    #[arg(long, value_name = "FILE")]
    pub kubernetes_token: Option<String>,
    /// How long an edge without connections and gains stays in /metrics, as 90s or 1h [default: 1h]
    #[arg(long, value_name = "TIME")]
    pub edge_idle_expiry: Option<String>,
    /// Certificate of the aggregator (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// Private key of the aggregator (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// CA that issued the agents' certificates (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<String>,
    /// Revocation lists of that CA (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_crl: Option<String>,
    /// Trust domain that agents must be of [default: any of the CA]
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<String>,
    /// Whether /metrics has the traces_service_graph_ series [default: true]
    #[arg(long, value_name = "BOOL")]
    pub service_graph_metrics: Option<String>,
    /// What to log: error, warn, info, debug, or a filter per module [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// Settings with any number of values.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Repeated {
    /// A node that is missed when it does not report; may be given several times
    #[arg(long, value_name = "NAME")]
    pub expected_node: Vec<String>,
}

/// What the file may hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct FileLayer {
    expected_node: Vec<String>,
    http_tokens: Vec<TokenEntry>,
    #[serde(flatten)]
    flags: toml::Table,
}

/// Looks up an environment variable.
type Environment = Box<dyn Fn(&str) -> Option<OsString>>;

/// All origins, in the order of precedence.
pub struct Layers {
    flags: Flags,
    repeated: Repeated,
    environment: Environment,
    file: Option<FileSettings>,
}

/// What the file held.
struct FileSettings {
    path: PathBuf,
    flags: Flags,
    expected_nodes: Vec<String>,
    tokens: Vec<TokenEntry>,
}

/// A setting's text and its origin in words.
pub(super) struct Raw {
    text: Result<String, String>,
    origin: String,
}

impl Raw {
    pub(super) fn parse_with<T>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let text = self.text.as_deref().map_err(Clone::clone);
        text.and_then(parse)
            .map_err(|reason| ConfigError::Invalid { origin: self.origin.clone(), reason })
    }
}

pub(super) fn missing(setting: &'static str) -> ConfigError {
    ConfigError::Missing { setting, variable: variable(setting) }
}

impl Layers {
    /// Reads the file that `config` or `WEFT_CONFIG` names, if any; `environment` looks up a
    /// variable.
    pub fn gather(
        flags: Flags,
        repeated: Repeated,
        config: Option<PathBuf>,
        environment: impl Fn(&str) -> Option<OsString> + 'static,
    ) -> Result<Self, ConfigError> {
        let path = config.or_else(|| environment("WEFT_CONFIG").map(PathBuf::from));
        let file = path.map(read_file).transpose()?;
        Ok(Self { flags, repeated, environment: Box::new(environment), file })
    }

    /// The text of a file and nothing else; files that it names are taken to be empty ones.
    pub(crate) fn of_text(text: &str) -> Result<Self, String> {
        let (mut flags, expected_nodes, tokens) = parse_file(text)?;
        for file in [
            &mut flags.http_tls_cert,
            &mut flags.http_tls_key,
            &mut flags.http_client_ca,
            &mut flags.tls_cert,
            &mut flags.tls_key,
            &mut flags.tls_client_ca,
            &mut flags.tls_crl,
        ] {
            *file = file.take().map(|_| "/dev/null".to_owned());
        }
        let file = FileSettings { path: PathBuf::new(), flags, expected_nodes, tokens };
        let (flags, repeated) = (Flags::default(), Repeated::default());
        Ok(Self { flags, repeated, environment: Box::new(|_| None), file: Some(file) })
    }

    pub(super) fn get(&self, name: &str) -> Option<Raw> {
        if let Some(text) = self.flags.get(name) {
            return Some(Raw { text: Ok(text.to_owned()), origin: format!("--{name}") });
        }
        let variable = variable(name);
        if let Some(text) = (self.environment)(&variable) {
            let text = text.into_string().map_err(|_| "is not UTF-8".to_owned());
            return Some(Raw { text, origin: variable });
        }
        let FileSettings { path, flags, .. } = self.file.as_ref()?;
        flags.get(name).map(|text| Raw { text: Ok(text.to_owned()), origin: in_file(name, path) })
    }

    /// A variable that others than the user set.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name)?.into_string().ok()
    }

    pub(super) fn get_or(&self, name: &str, default: &str) -> Raw {
        let default = || Raw { text: Ok(default.to_owned()), origin: format!("--{name}") };
        self.get(name).unwrap_or_else(default)
    }

    /// All values of a repeated setting; in the environment they are parted by commas.
    pub(super) fn get_all(&self, name: &str) -> Vec<Raw> {
        let raws = |values: &[String], origin: &str| {
            let raw = |text: &String| Raw { text: Ok(text.clone()), origin: origin.to_owned() };
            values.iter().map(raw).collect()
        };
        if !self.repeated.expected_node.is_empty() {
            return raws(&self.repeated.expected_node, &format!("--{name}"));
        }
        let variable = variable(name);
        if let Some(text) = (self.environment)(&variable) {
            return match text.into_string() {
                Ok(text) => {
                    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                    raws(&parts.map(str::to_owned).collect::<Vec<_>>(), &variable)
                }
                Err(_) => vec![Raw { text: Err("is not UTF-8".to_owned()), origin: variable }],
            };
        }
        match &self.file {
            Some(file) => raws(&file.expected_nodes, &in_file(name, &file.path)),
            None => Vec::new(),
        }
    }

    /// The tokens in the file, the only place for them.
    pub(super) fn tokens(&self) -> Result<Vec<Token>, ConfigError> {
        let Some(FileSettings { path, tokens, .. }) = &self.file else { return Ok(Vec::new()) };
        let read = |entry: &TokenEntry| {
            Token::try_from(entry.clone())
                .map_err(|reason| ConfigError::File { path: path.clone(), reason })
        };
        tokens.iter().map(read).collect()
    }
}

impl Flags {
    fn get(&self, name: &str) -> Option<&str> {
        let value = match name {
            "grpc-listen" => &self.grpc_listen,
            "http-listen" => &self.http_listen,
            "http-tls-cert" => &self.http_tls_cert,
            "http-tls-key" => &self.http_tls_key,
            "http-client-ca" => &self.http_client_ca,
            "http-client-crl" => &self.http_client_crl,
            "http-insecure" => &self.http_insecure,
            "data-dir" => &self.data_dir,
            "history-max-bytes" => &self.history_max_bytes,
            "max-series" => &self.max_series,
            "max-external-peers" => &self.max_external_peers,
            "max-memory-bytes" => &self.max_memory_bytes,
            "stream-bytes-per-second" => &self.stream_bytes_per_second,
            "rules" => &self.rules,
            "kubernetes" => &self.kubernetes,
            "kubernetes-ca" => &self.kubernetes_ca,
            "kubernetes-token" => &self.kubernetes_token,
            "edge-idle-expiry" => &self.edge_idle_expiry,
            "tls-cert" => &self.tls_cert,
            "tls-key" => &self.tls_key,
            "tls-client-ca" => &self.tls_client_ca,
            "tls-crl" => &self.tls_crl,
            "trust-domain" => &self.trust_domain,
            "service-graph-metrics" => &self.service_graph_metrics,
            "log" => &self.log,
            _ => return None,
        };
        value.as_deref()
    }
}

fn variable(setting: &str) -> String {
    format!("WEFT_{}", setting.to_ascii_uppercase().replace('-', "_"))
}

fn in_file(name: &str, path: &Path) -> String {
    format!("`{name}` in {}", path.display())
}

fn read_file(path: PathBuf) -> Result<FileSettings, ConfigError> {
    let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    match read.and_then(|text| parse_file(&text)) {
        Ok((flags, expected_nodes, tokens)) => {
            Ok(FileSettings { path, flags, expected_nodes, tokens })
        }
        Err(reason) => Err(ConfigError::File { path, reason }),
    }
}

/// What the text of a file says.
fn parse_file(text: &str) -> Result<(Flags, Vec<String>, Vec<TokenEntry>), String> {
    let mut layer: FileLayer = toml::from_str(text).map_err(|error| at_line(&error, text))?;
    for switch in ["service-graph-metrics", "http-insecure"] {
        // A switch reads better without quotes.
        if let Some(toml::Value::Boolean(on)) = layer.flags.get(switch) {
            let text = on.to_string();
            layer.flags.insert(switch.to_owned(), toml::Value::String(text));
        }
    }
    let flags: Flags = layer.flags.try_into().map_err(|error| first_line(&error))?;
    Ok((flags, layer.expected_node, layer.http_tokens))
}

/// An error of a file, with its line.
pub(crate) fn at_line(error: &toml::de::Error, text: &str) -> String {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {}", first_line(error))
}

fn first_line(error: &toml::de::Error) -> String {
    error.message().lines().next().unwrap_or("not TOML").to_owned()
}
