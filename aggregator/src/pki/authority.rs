//! The CA and what it issues.

use std::{
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use proto::identity::{is_node_name, spiffe_id};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, string::Ia5String,
};
use sha2::{Digest, Sha256};
use x509_parser::{extensions::GeneralName, pem::parse_x509_pem};

use super::PkiError;

const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_VALIDITY: Duration = DAY.saturating_mul(3650);
const LEAF_VALIDITY: Duration = DAY.saturating_mul(365);
/// Certificates are valid a little before they are made: clocks of hosts differ.
const BACKDATE: Duration = Duration::from_secs(3600);

/// A CA that can sign.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    trust_domain: String,
}

/// A certificate and its key, both PEM.
pub(super) struct Issued {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn make(trust_domain: &str) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = params(&ca_name(trust_domain, &key), CA_VALIDITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // The CA's own SPIFFE id is its trust domain; nodes made later read it from there.
        check_trust_domain(trust_domain)?;
        params.subject_alt_names = vec![uri(format!("spiffe://{trust_domain}"))?];
        let certificate = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, certificate, trust_domain: trust_domain.to_owned() })
    }

    pub(super) fn load(dir: &Path) -> Result<Self, PkiError> {
        let (certificate_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
        let read = |path: &Path| {
            let error = |source| PkiError::Io { path: path.to_path_buf(), source };
            std::fs::read_to_string(path).map_err(error)
        };
        let error = |path: &Path, reason: &str| PkiError::Authority {
            path: path.to_path_buf(),
            reason: reason.to_owned(),
        };
        let certificate = read(&certificate_path)?;
        let key = String::from_utf8(proto::tls::read_private(&key_path)?).unwrap_or_default();
        let key = KeyPair::from_pem(&key).map_err(|_| error(&key_path, "is not a private key"))?;
        let trust_domain = trust_domain_of(&certificate)
            .ok_or_else(|| error(&certificate_path, "is not a CA made by `pki init`"))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)
            .map_err(|_| error(&certificate_path, "is not a CA's certificate"))?;
        Ok(Self { issuer, certificate, trust_domain })
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    pub(super) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    pub(super) fn aggregator(&self, names: &[String]) -> Result<Issued, PkiError> {
        let mut sans = vec![uri(format!("spiffe://{}/aggregator", self.trust_domain))?];
        for name in names {
            let san = match name.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) if is_dns_name(name) => SanType::DnsName(Ia5String::try_from(name.clone())?),
                Err(_) => return Err(PkiError::Name(name.clone(), "a DNS name or an IP address")),
            };
            if !sans.contains(&san) {
                sans.push(san);
            }
        }
        self.issue("weft-aggregator", sans, ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub(super) fn node(&self, name: &str) -> Result<Issued, PkiError> {
        check_node_name(name)?;
        let san = uri(spiffe_id(&self.trust_domain, name))?;
        // The common name is for people and has room for 64 characters.
        let common_name: String = name.chars().take(64).collect();
        self.issue(&common_name, vec![san], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        common_name: &str,
        sans: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Issued, PkiError> {
        let mut params = params(common_name, LEAF_VALIDITY);
        params.subject_alt_names = sans;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

/// Whether a name is a host's: labels of letters, digits and `-` (or `_`), parted by dots, the
/// first one perhaps `*`.
pub(super) fn is_dns_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.strip_prefix("*.").unwrap_or(name).split('.').all(label)
}

pub(super) fn check_node_name(name: &str) -> Result<(), PkiError> {
    if is_node_name(name) {
        return Ok(());
    }
    let expected = "a node's name: letters, digits, `.`, `-` and `_`, at most 253";
    Err(PkiError::Name(name.to_owned(), expected))
}

/// A name that no other CA has: when two of them are trusted for a while, the name says whose a
/// revocation list is.
fn ca_name(trust_domain: &str, key: &KeyPair) -> String {
    let digest = Sha256::digest(key.public_key_raw());
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("Weft CA of {trust_domain} {digits}")
}

fn check_trust_domain(name: &str) -> Result<(), PkiError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if !name.is_empty() && name.len() <= 253 && name.bytes().all(plain) {
        return Ok(());
    }
    let expected = "a trust domain: lowercase letters, digits, `.`, `-` and `_`";
    Err(PkiError::Name(name.to_owned(), expected))
}

fn params(common_name: &str, validity: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + validity).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn uri(uri: String) -> Result<SanType, PkiError> {
    Ok(SanType::URI(Ia5String::try_from(uri)?))
}

fn trust_domain_of(pem: &str) -> Option<String> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://").map(str::to_owned),
        _ => None,
    })
}
