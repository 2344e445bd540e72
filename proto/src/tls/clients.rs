//! Which clients are let in, and until when.

use std::{path::Path, sync::Arc};

use rustls::{
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{TlsError, files, provider, read_certificates, read_roots, revocation};

/// Certificates on the way from a client's to its CA's are followed no further than this.
const LONGEST_CHAIN: usize = 6;

/// The CAs of clients, and whom they have revoked.
#[derive(Clone, Debug)]
pub struct Clients {
    /// For handshakes.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// When the last of the CAs' certificates expires, in seconds since the epoch.
    pub ca_expires_unix_s: i64,
    /// When the first of the revocation lists is due to be replaced.
    pub revocations_due_unix_s: Option<i64>,
    /// What the CAs are called, and when their certificates expire.
    authorities: Arc<[(Vec<u8>, i64)]>,
}

impl Clients {
    /// Reads the certificates of CAs, and revocation lists of theirs. Without a certificate nobody is let in, unless it
    /// is `optional`.
    ///
    /// A CA of which `revocations` has no list has revoked nobody, and a list that is past
    /// its time still holds: what it revokes stays revoked, and a list that nobody renewed does not
    /// cut off the whole fleet.
    pub fn read(ca: &Path, revocations: Option<&Path>, optional: bool) -> Result<Self, TlsError> {
        let authorities = read_certificates(ca)?;
        let mut verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(read_roots(ca)?), provider());
        if optional {
            verifier = verifier.allow_unauthenticated();
        }
        let mut revocations_due_unix_s = None;
        if let Some(path) = revocations {
            let (lists, due) = revocation::read(path, &authorities)?;
            verifier = verifier.with_crls(lists).allow_unknown_revocation_status();
            revocations_due_unix_s = due;
        }
        let ends = authorities.iter().filter_map(|authority| {
            let (_, authority) = X509Certificate::from_der(authority).ok()?;
            Some((authority.subject().as_raw().to_vec(), end(&authority)))
        });
        Ok(Self {
            verifier: verifier.build()?,
            ca_expires_unix_s: files::last_expiry(&authorities).unwrap_or(0),
            revocations_due_unix_s,
            authorities: ends.collect(),
        })
    }

    /// Whether a client that was let in before would be let in now; if so, until when, in seconds since the epoch.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<i64, rustls::Error> {
        let Some((own, intermediates)) = chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        self.verifier.verify_client_cert(own, intermediates, UnixTime::now())?;
        Ok(self.until(chain))
    }

    /// When the first certificate expires on the way from a client's, which has been verified, to that of its CA; of
    /// several ways the one that lasts longest. That a CA's own certificate has expired is nothing that a handshake
    /// looks at.
    #[must_use]
    pub fn until(&self, chain: &[CertificateDer<'_>]) -> i64 {
        let chain: Vec<_> = chain
            .iter()
            .take(LONGEST_CHAIN)
            .filter_map(|one| Some(X509Certificate::from_der(one).ok()?.1))
            .collect();
        let Some((own, intermediates)) = chain.split_first() else { return 0 };
        let issuer = self.issued_until(own, intermediates, LONGEST_CHAIN);
        end(own).min(issuer.unwrap_or(i64::MAX))
    }

    fn issued_until(
        &self,
        certificate: &X509Certificate<'_>,
        intermediates: &[X509Certificate<'_>],
        steps: usize,
    ) -> Option<i64> {
        let issuer = certificate.issuer().as_raw();
        let known = self.authorities.iter().filter(|(name, _)| name == issuer).map(|(_, end)| *end);
        let others =
            intermediates.iter().filter(|one| steps > 0 && one.subject().as_raw() == issuer);
        let others = others.filter_map(|one| {
            Some(end(one).min(self.issued_until(one, intermediates, steps - 1)?))
        });
        known.chain(others).max()
    }
}

fn end(certificate: &X509Certificate<'_>) -> i64 {
    certificate.validity().not_after.timestamp()
}
