//! The TLS both sides agree on: version 1.3, certificates on both ends, HTTP/2.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use thiserror::Error;

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
    /// A CA certificate that cannot be trusted as one.
    #[error("{} holds a certificate that cannot be a root", path.display())]
    Root {
        /// Where it came from.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
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

/// Reads a chain of certificates, at least one.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |error| file_error("a certificate", path, error);
    let certificates = CertificateDer::pem_file_iter(path).map_err(error)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(error)?;
    if certificates.is_empty() {
        return Err(error(pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// Reads a private key.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| file_error("a private key", path, error))
}

/// What the aggregator accepts connections with: only TLS 1.3, only clients with a certificate
/// of the CA.
pub fn server_config(files: &Files) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let roots = Arc::new(read_roots(&files.ca)?);
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(read_certificates(&files.cert)?, read_key(&files.key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would not show its certificate again, and nothing would notice that it
    // has expired or was revoked in between.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
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

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Root { path: path.to_path_buf(), source })?;
    }
    Ok(roots)
}

fn file_error(what: &'static str, path: &Path, error: pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "the file holds none".to_owned(),
        _ => "the file is not valid PEM".to_owned(),
    };
    TlsError::File { what, path: path.to_path_buf(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        for path in [empty, folder.path().join("absent.pem"), folder.path().to_path_buf()] {
            let message = read_certificates(&path).unwrap_err().to_string();
            assert!(message.contains(&path.display().to_string()), "{message}");
            assert!(!message.contains('\n'), "{message}");
            assert!(read_key(&path).is_err());
        }
    }

    #[test]
    fn the_key_must_be_the_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            std::fs::write(path(&format!("{name}.crt")), made.cert.pem()).unwrap();
            std::fs::write(path(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        }
        let files = |key: &str| Files { ca: path("a.crt"), cert: path("a.crt"), key: path(key) };
        assert!(client_config(&files("a.key")).is_ok());
        assert!(server_config(&files("a.key")).is_ok());
        assert!(client_config(&files("b.key")).is_err());
        assert!(server_config(&files("b.key")).is_err());
    }
}
