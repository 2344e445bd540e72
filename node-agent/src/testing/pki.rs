//! Certificates for both ends.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

/// A folder with `ca.crt`, `aggregator.crt`, `aggregator.key`, `node.crt` and `node.key`.
pub(crate) struct Pki {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = ca.self_signed(&key).unwrap();
        let pki = Self { folder: tempfile::tempdir().unwrap(), issuer: Issuer::new(ca, key) };
        pki.write("ca.crt", &certificate.pem());
        pki.issue("aggregator", SanType::DnsName("localhost".try_into().unwrap()));
        pki.renew_node();
        pki
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Gives the node a new certificate and key.
    pub(crate) fn renew_node(&self) {
        let id = proto::identity::spiffe_id("weft.local", "n1");
        self.issue("node", SanType::URI(id.try_into().unwrap()));
    }

    fn issue(&self, name: &str, subject: SanType) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![subject];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{name}.crt"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    /// Replaces a file at once, for the eyes of its owner alone.
    fn write(&self, name: &str, text: &str) {
        let draft = self.folder.path().join("draft");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).mode(0o600).open(&draft).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        std::fs::rename(draft, self.folder.path().join(name)).unwrap();
    }
}
