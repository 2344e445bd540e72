//! TLS for readers.

use std::sync::Arc;

use proto::{
    identity::Identity,
    tls::{TlsError, last_expiry, provider, read_certificates, read_key, read_roots},
};
use rustls::{
    ServerConfig,
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
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
    /// When the last of the CA's certificates expires.
    pub ca_expires_unix_s: Option<i64>,
}

impl Tls {
    /// Reads the files. Who shows a certificate must have a good one; who shows none may have a
    /// token.
    pub fn read(files: &HttpFiles) -> Result<Self, TlsError> {
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?;
        let mut ca_expires_unix_s = None;
        let builder = match &files.client_ca {
            Some(ca) => {
                ca_expires_unix_s = last_expiry(&read_certificates(ca)?);
                let roots = Arc::new(read_roots(ca)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
            }
            None => builder.with_no_client_auth(),
        };
        let chain = read_certificates(&files.cert)?;
        let expires_unix_s = last_expiry(&chain[..1]).unwrap_or(0);
        let mut config = builder.with_single_cert(chain, read_key(&files.key)?)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), expires_unix_s, ca_expires_unix_s })
    }
}

/// The reader that a verified certificate stands for. That of a node is none, should agents and
/// readers have the same CA.
pub(super) fn reader(chain: Option<&[CertificateDer<'_>]>) -> Option<Certificate> {
    let own = chain?.first()?;
    let identity = Identity::of(own).ok().filter(|identity| identity.node.is_none())?;
    let (_, certificate) = X509Certificate::from_der(own).ok()?;
    let name = certificate.subject().to_string();
    Some(Certificate { name, not_after_unix_s: identity.not_after_unix_s })
}
