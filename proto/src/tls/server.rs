//! The aggregator's side.

use std::{path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, UnixTime},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};

use super::{
    Files, TlsError, files, provider, read_certificates, read_key, read_roots, revocation,
};

/// What the aggregator accepts connections with: only TLS 1.3, only clients with a certificate of
/// the CA that is valid and not revoked.
#[derive(Debug)]
pub struct Server {
    /// For new connections.
    pub config: Arc<ServerConfig>,
    /// When this side's own certificate expires, in seconds since the epoch.
    pub expires_unix_s: i64,
    /// When the last of the CA's certificates expires.
    pub ca_expires_unix_s: i64,
    /// When the first of the revocation lists is due to be replaced.
    pub revocations_due_unix_s: Option<i64>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Server {
    /// Reads the files.
    ///
    /// A CA of which `revocations` has no list has revoked nobody, and a list that is past
    /// its time still holds: what it revokes stays revoked, and a list that nobody renewed does not
    /// cut off the whole fleet.
    pub fn read(files: &Files, revocations: Option<&Path>) -> Result<Self, TlsError> {
        let provider = provider();
        let authorities = read_certificates(&files.ca)?;
        let mut verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(read_roots(&files.ca)?),
            Arc::clone(&provider),
        );
        let mut revocations_due_unix_s = None;
        if let Some(path) = revocations {
            let (lists, due) = revocation::read(path, &authorities)?;
            verifier = verifier.with_crls(lists).allow_unknown_revocation_status();
            revocations_due_unix_s = due;
        }
        let verifier = verifier.build()?;
        let chain = read_certificates(&files.cert)?;
        let expires_unix_s = files::last_expiry(&chain[..1]).unwrap_or(0);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(chain, read_key(&files.key)?)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not show its certificate again, and nothing would notice that it
        // has expired or was revoked in between.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            expires_unix_s,
            ca_expires_unix_s: files::last_expiry(&authorities).unwrap_or(0),
            revocations_due_unix_s,
            verifier,
        })
    }

    /// Whether a client that was let in before would be let in now.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let Some((own, intermediates)) = chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        self.verifier.verify_client_cert(own, intermediates, UnixTime::now()).map(|_| ())
    }
}
