//! The TLS both sides agree on: version 1.3, certificates on both ends, HTTP/2.
//!
//! - `files` reads PEM, `private` sees to it that a key is one,
//! - `server` is the aggregator's side, `clients` whom it lets in, `revocation` whom it does not,
//! - `reload` notices that files have changed, `expiry` says ahead of time when one ends.

mod clients;
mod expiry;
mod files;
mod private;
mod reload;
mod revocation;
mod server;

use std::{path::PathBuf, sync::Arc};

use rustls::{ClientConfig, crypto::CryptoProvider, version::TLS13};
use thiserror::Error;

pub use clients::Clients;
pub use expiry::{ExpiryNotice, Urgency};
pub use files::{last_expiry, read_certificates, read_key, read_roots};
pub use private::read_private;
pub use reload::{Outcome, Reloader};
pub use server::Server;

/// What keeps certificates or keys from being used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file is not there, cannot be read, or holds no PEM of the kind asked for.
    #[error("cannot read {what} from {}: {reason}", path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A private key that others than its owner can get at.
    #[error(
        "cannot use {} as a private key: with mode {mode:04o}, others than its owner can get at it; chmod 600",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A CA certificate that cannot be trusted as one.
    #[error("{} holds a certificate that cannot be a root", path.display())]
    Root {
        /// Where it came from.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// A revocation list that is not what its CA signed.
    #[error("{} holds a revocation list that cannot be used: {reason}", path.display())]
    Revocations {
        /// Where it came from.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A certificate that is not this program's to use.
    #[error("{} holds the certificate of {found}, not of {wanted}", path.display())]
    Other {
        /// Where it came from.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// Certificate and key do not belong together, or are not fit for use.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// Clients could not be verified with these roots.
    #[error("client certificates cannot be verified: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The paths of one side's PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Certificates of the CA that issued the other side's certificate.
    pub ca: PathBuf,
    /// This side's certificate chain.
    pub cert: PathBuf,
    /// The private key of it.
    pub key: PathBuf,
}

impl Files {
    /// All three, to be watched.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        vec![self.ca.clone(), self.cert.clone(), self.key.clone()]
    }
}

/// What an agent connects with.
pub fn client_config(files: &Files) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(read_roots(&files.ca)?)
        .with_client_auth_cert(read_certificates(&files.cert)?, read_key(&files.key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The one cryptography library here.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
