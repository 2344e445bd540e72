//! The server's certificate.

use std::{path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::{Error, Result, error::Context};

/// File with the certificate of the CA.
pub(super) const CA: &str = "kubernetes-ca.crt";

/// Makes a CA and a certificate of it for loopback, and writes that of the CA into the folder.
pub(super) fn make(folder: &Path) -> Result<Arc<ServerConfig>> {
    let wrong = |reason: String| Error::Answer { who: "certificates".into(), reason };
    let of_rcgen = |error: rcgen::Error| wrong(error.to_string());
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().map_err(of_rcgen)?;
    let ca_certificate = ca.self_signed(&ca_key).map_err(of_rcgen)?;
    let issuer = Issuer::new(ca, ca_key);
    let mut own = CertificateParams::default();
    own.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let key = KeyPair::generate().map_err(of_rcgen)?;
    let certificate = own.signed_by(&key, &issuer).map_err(of_rcgen)?;
    std::fs::write(folder.join(CA), ca_certificate.pem()).context(|| "write a CA".into())?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map(|config| config.with_no_client_auth())
        .and_then(|config| config.with_single_cert(vec![certificate.der().clone()], key));
    config.map(Arc::new).map_err(|error| wrong(error.to_string()))
}
