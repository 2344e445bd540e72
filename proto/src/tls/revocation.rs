//! Revocation lists.

use std::path::{Path, PathBuf};

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer,
    pem::{self, PemObject},
};
use x509_parser::prelude::*;

use super::{TlsError, files::file_error};

/// Reads revocation lists, at least one. A list that names one of `roots` as its issuer must have
/// been signed by it: rustls would otherwise refuse everybody whom that CA has issued a
/// certificate. Also returns when the first of them is due to be replaced, in seconds since
/// the epoch.
pub(super) fn read(
    path: &Path,
    roots: &[CertificateDer<'_>],
) -> Result<(Vec<CertificateRevocationListDer<'static>>, Option<i64>), TlsError> {
    let error = |error| file_error("a revocation list", path, error);
    let lists = CertificateRevocationListDer::pem_file_iter(path).map_err(error)?;
    let lists = lists.collect::<Result<Vec<_>, _>>().map_err(error)?;
    if lists.is_empty() {
        return Err(error(pem::Error::NoItemsFound));
    }
    let roots: Vec<_> =
        roots.iter().filter_map(|root| X509Certificate::from_der(root).ok()).collect();
    let mut due = None;
    for list in &lists {
        let wrong = |reason| TlsError::Revocations { path: PathBuf::from(path), reason };
        let (_, list) =
            CertificateRevocationList::from_der(list).map_err(|_| wrong("it is not a list"))?;
        let mut issuers =
            roots.iter().filter(|(_, root)| root.subject() == list.issuer()).peekable();
        if issuers.peek().is_some()
            && !issuers.any(|(_, root)| list.verify_signature(root.public_key()).is_ok())
        {
            return Err(wrong("its signature is not that of the CA it names"));
        }
        let next = list.next_update().map(|next| next.timestamp());
        due = [due, next].into_iter().flatten().min();
    }
    Ok((lists, due))
}
