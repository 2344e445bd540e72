//! Certificates of a fleet, made in memory.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use proto::identity::spiffe_id;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, string::Ia5String,
};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    version::TLS13,
};

/// The trust domain of a CA that is made here.
const TRUST_DOMAIN: &str = "weft.local";

/// A CA whose nodes never see a disk.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    trust_domain: String,
}

impl Authority {
    /// Makes a CA and the aggregator's certificate in a folder.
    pub fn make(dir: &Path) -> Result<Self> {
        aggregator::pki::init(dir, TRUST_DOMAIN, &[])?;
        Self::load(dir, TRUST_DOMAIN)
    }

    /// The CA that `weft-aggregator pki init` left in a folder.
    pub fn load(dir: &Path, trust_domain: &str) -> Result<Self> {
        let path = dir.join("ca.crt");
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
        };
        let key = KeyPair::from_pem(&read(&dir.join("ca.key"))?).context("the CA's key")?;
        let issuer = Issuer::from_ca_cert_pem(&read(&path)?, key).context("the CA")?;
        let mut roots = RootCertStore::empty();
        for certificate in proto::tls::read_certificates(&path)? {
            roots.add(certificate)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            issuer,
            roots: Arc::new(roots),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            trust_domain: trust_domain.to_owned(),
        })
    }

    /// A file of the CA's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What a node connects with: a certificate and a key of its own.
    pub fn node(&self, name: &str) -> Result<Arc<ClientConfig>> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let id = Ia5String::try_from(spiffe_id(&self.trust_domain, name))?;
        params.subject_alt_names = vec![SanType::URI(id)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(chain, key.into())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::identity::Identity;

    #[test]
    fn a_thousand_nodes_take_a_moment_each_with_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::make(&folder.path().join("pki")).unwrap();
        for number in 0..1_000 {
            authority.node(&crate::agent::node_name(number)).unwrap();
        }
        let file = authority.file("aggregator.crt");
        let certificate = proto::tls::read_certificates(&file).unwrap().remove(0);
        assert_eq!(Identity::of(&certificate).unwrap().node, None);
    }
}
