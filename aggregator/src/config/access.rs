//! Who may read, and what.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

/// How readers are let in. Without any token and client CA, everybody is who can connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpAccess {
    /// Files of the TLS for readers; plain HTTP without.
    pub tls: Option<HttpFiles>,
    /// What opens the door beside client certificates.
    pub tokens: Vec<Token>,
}

/// PEM files of the TLS for readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// The private key of it.
    pub key: PathBuf,
    /// CA of readers that show a certificate.
    pub client_ca: Option<PathBuf>,
    /// Revocation lists of that CA.
    pub client_crl: Option<PathBuf>,
}

/// What somebody may do; each includes those before it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read the graph.
    #[default]
    Read,
    /// Change what the aggregator does.
    Admin,
}

/// What somebody may do and see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The namespaces that they may see; all of them when `None`.
    pub namespaces: Option<BTreeSet<String>>,
}

/// A bearer token, known by its hash alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the token's text.
    pub sha256: [u8; 32],
    /// What its holder may do.
    pub grant: Arc<Grant>,
}

/// A token in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TokenEntry {
    pub(crate) name: String,
    pub(crate) sha256: String,
    #[serde(default)]
    pub(crate) role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespaces: Option<Vec<String>>,
}

impl HttpAccess {
    /// Whether somebody has to say who they are.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        let ca = self.tls.as_ref().and_then(|files| files.client_ca.as_ref());
        !self.tokens.is_empty() || ca.is_some()
    }

    /// Whether it can be shown to a network: nobody can listen in, and nobody comes in unasked.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.tls.is_some() && self.is_guarded()
    }
}

impl TryFrom<TokenEntry> for Token {
    type Error = String;

    fn try_from(entry: TokenEntry) -> Result<Self, String> {
        let TokenEntry { name, sha256, role, namespaces } = entry;
        let sha256 = digest(&sha256).ok_or_else(|| {
            format!("token `{name}`: sha256 is not the 64 hexadecimal digits that `weft-aggregator token` prints")
        })?;
        let namespaces: Option<BTreeSet<_>> = namespaces.map(|names| names.into_iter().collect());
        if namespaces.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(format!("token `{name}`: namespaces is empty, so it could see nothing"));
        }
        Ok(Self { sha256, grant: Arc::new(Grant { name, role, namespaces }) })
    }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in digest.iter_mut().enumerate() {
        let digits = text.get(2 * index..2 * index + 2)?;
        // A sign would be taken for a digit.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(digest)
}
