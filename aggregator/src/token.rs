//! Making bearer tokens for readers.

use std::{fs::File, io::Read};

use sha2::{Digest, Sha256};

use crate::config::{Role, TokenEntry};

/// What a token begins with, so that it is known for one where it should not be.
const PREFIX: &str = "weft_";

/// The SHA-256 of a token.
pub(crate) fn sha256(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// A new token of 256 random bits on a line of its own, and the lines of the config file
/// that let its holder in. Only its hash is in them.
pub fn make(name: &str, role: Role, namespaces: &[String]) -> std::io::Result<String> {
    let mut random = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let token = format!("{PREFIX}{}", hex(&random));
    let entry = TokenEntry {
        name: name.to_owned(),
        sha256: hex(&sha256(&token)),
        role,
        namespaces: (!namespaces.is_empty()).then(|| namespaces.to_vec()),
    };
    let entry = toml::to_string(&entry).map_err(std::io::Error::other)?;
    Ok(format!("{token}\n\n[[http-tokens]]\n{entry}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
