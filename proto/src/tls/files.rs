//! Reading PEM files.

use std::path::Path;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};

use super::{TlsError, private::read_private};
use crate::identity::Identity;

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

/// Reads a private key, if it is private.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read_private(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| file_error("a private key", path, error))
}

/// Reads the certificates of CAs.
pub fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Root { path: path.to_path_buf(), source })?;
    }
    Ok(roots)
}

/// When the last of several certificates expires, in seconds since the epoch.
#[must_use]
pub fn last_expiry(certificates: &[CertificateDer<'_>]) -> Option<i64> {
    let ends = certificates.iter().filter_map(|certificate| Identity::of(certificate).ok());
    ends.map(|identity| identity.not_after_unix_s).max()
}

pub(super) fn file_error(what: &'static str, path: &Path, error: pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "the file holds none".to_owned(),
        _ => "the file is not valid PEM".to_owned(),
    };
    TlsError::File { what, path: path.to_path_buf(), reason }
}
