//! Certificates for both ends.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

/// A folder with `ca.crt`, `aggregator.crt`, `aggregator.key`, `node.crt` and `node.key`.
pub(crate) struct Pki(tempfile::TempDir);

impl Pki {
    pub(crate) fn new() -> Self {
        let pki = Self(tempfile::tempdir().unwrap());
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        pki.write("ca.crt", &ca.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(ca, key);
        pki.issue("aggregator", &issuer, SanType::DnsName("localhost".try_into().unwrap()));
        let id = proto::identity::spiffe_id("weft.local", "n1");
        pki.issue("node", &issuer, SanType::URI(id.try_into().unwrap()));
        pki
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    fn issue(&self, name: &str, issuer: &Issuer<'_, KeyPair>, subject: SanType) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![subject];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        self.write(&format!("{name}.crt"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }
}
