//! TLS for readers.

use std::sync::Arc;

use proto::{
    identity::Identity,
    tls::{Clients, TlsError, last_expiry, provider, read_certificates, read_key},
};
use rustls::{
    ServerConfig, pki_types::CertificateDer, server::NoServerSessionStorage, version::TLS13,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::access::Certificate;
use crate::config::HttpFiles;

/// What readers' connections are accepted with.
pub struct Tls {
    /// For new connections.
    pub config: Arc<ServerConfig>,
    /// When the certificate expires, in seconds since the epoch.
    pub expires_unix_s: i64,
    /// Whose certificates are good.
    pub clients: Option<Clients>,
}

impl Tls {
    /// Reads the files. Who shows a certificate must have a good one; who shows none may have a
    /// token.
    pub fn read(files: &HttpFiles) -> Result<Self, TlsError> {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
        let read = |ca| Clients::read(ca, files.client_crl.as_deref(), true);
        let clients = files.client_ca.as_deref().map(read).transpose()?;
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(&clients.verifier)),
            None => builder.with_no_client_auth(),
        };
        let chain = read_certificates(&files.cert)?;
        let expires_unix_s = last_expiry(&chain[..1]).unwrap_or(0);
        let mut config = builder.with_single_cert(chain, read_key(&files.key)?)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), expires_unix_s, clients })
    }
}

/// The reader that a verified certificate stands for. That of a node is none, should agents and
/// readers have the same CA.
pub(super) fn reader(tls: &Tls, chain: Option<&[CertificateDer<'_>]>) -> Option<Certificate> {
    let (clients, chain) = (tls.clients.as_ref()?, chain?);
    let own = chain.first()?;
    Identity::of(own).ok().filter(|identity| identity.node.is_none())?;
    let (_, certificate) = X509Certificate::from_der(own).ok()?;
    let name = certificate.subject().to_string();
    Some(Certificate { name, not_after_unix_s: clients.until(chain) })
}
