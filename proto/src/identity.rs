//! Who a certificate belongs to.

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::{extensions::GeneralName, prelude::*};

/// What Weft reads from a certificate whose chain has been verified elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Trust domain and node name of `spiffe://TRUST-DOMAIN/node/NAME`, if there is one.
    pub node: Option<NodeIdentity>,
    /// End of validity, in seconds since the epoch.
    pub not_after_unix_s: i64,
}

/// The node a certificate was issued to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Trust domain.
    pub trust_domain: String,
    /// Name of the node.
    pub name: String,
}

/// A certificate without a clear identity.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// It is not an X.509 certificate.
    #[error("certificate cannot be read")]
    Unreadable,
    /// It has several SPIFFE ids, so it is nobody's.
    #[error("certificate has more than one SPIFFE id")]
    Ambiguous,
}

impl Identity {
    /// Reads a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| IdentityError::Unreadable)?
            .map(|extension| extension.value.general_names.as_slice())
            .unwrap_or_default();
        let mut ids = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with("spiffe://") => Some(*uri),
            _ => None,
        });
        let node = ids.next().and_then(node_of);
        if ids.next().is_some() {
            return Err(IdentityError::Ambiguous);
        }
        Ok(Self { node, not_after_unix_s: certificate.validity().not_after.timestamp() })
    }
}

/// Whether a name can stand in a SPIFFE id: letters, digits, `.`, `_` and `-`, at most 253.
#[must_use]
pub fn is_node_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(plain)
        && !name.bytes().all(|byte| byte == b'.')
}

/// The SPIFFE id of a node.
#[must_use]
pub fn spiffe_id(trust_domain: &str, node: &str) -> String {
    format!("spiffe://{trust_domain}/node/{node}")
}

fn node_of(uri: &str) -> Option<NodeIdentity> {
    let (trust_domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    let name = path.strip_prefix("node/")?;
    if trust_domain.is_empty() || !is_node_name(name) {
        return None;
    }
    Some(NodeIdentity { trust_domain: trust_domain.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn node_ids_come_back(domain in "[a-z]{1,9}(\\.[a-z]{1,9})?", name in "[a-z0-9_-]{1,20}") {
            let identity = node_of(&spiffe_id(&domain, &name)).unwrap();
            prop_assert_eq!(identity, NodeIdentity { trust_domain: domain, name });
        }

        #[test]
        fn any_bytes_are_a_certificate_or_an_error(bytes: Vec<u8>) {
            let _ = Identity::of(&CertificateDer::from(bytes));
        }
    }

    #[test]
    fn other_paths_are_no_nodes() {
        for uri in [
            "spiffe://d/aggregator",
            "spiffe:///node/a",
            "spiffe://d/node/",
            "spiffe://d/node/a/b",
            "spiffe://d/node/..",
        ] {
            assert_eq!(node_of(uri), None, "{uri}");
        }
    }
}
