//! The aggregator's side.

use std::{path::Path, sync::Arc};

use rustls::{ServerConfig, server::NoServerSessionStorage, version::TLS13};

use super::{Clients, Files, TlsError, files, provider, read_certificates, read_key};

/// What the aggregator accepts connections with: only TLS 1.3, only clients with a certificate of
/// the CA that is valid and not revoked.
#[derive(Debug)]
pub struct Server {
    /// For new connections.
    pub config: Arc<ServerConfig>,
    /// When this side's own certificate expires, in seconds since the epoch.
    pub expires_unix_s: i64,
    /// Who is let in.
    pub clients: Clients,
}

impl Server {
    /// Reads the files, `revocations` as [`Clients::read`] does.
    pub fn read(files: &Files, revocations: Option<&Path>) -> Result<Self, TlsError> {
        let clients = Clients::read(&files.ca, revocations, false)?;
        let chain = read_certificates(&files.cert)?;
        let expires_unix_s = files::last_expiry(&chain[..1]).unwrap_or(0);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::clone(&clients.verifier))
            .with_single_cert(chain, read_key(&files.key)?)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not show its certificate again, and nothing would notice that it
        // has expired or was revoked in between.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), expires_unix_s, clients })
    }
}
