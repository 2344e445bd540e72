//! Making the certificates of a fleet: a CA, the aggregator's certificate, the nodes'.

mod authority;
mod files;
mod revoke;

use std::path::{Path, PathBuf};

use thiserror::Error;

use authority::Authority;
use files::{replace, write_all};

/// Why certificates were not made.
#[derive(Debug, Error)]
pub enum PkiError {
    /// Nothing is overwritten.
    #[error("{} already exists; nothing was written", .0.display())]
    Exists(PathBuf),
    /// A file or directory cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The CA of the directory cannot be used.
    #[error("{}: {reason}", path.display())]
    Authority {
        /// File concerned.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that cannot stand in a certificate.
    #[error("`{0}` is not {1}")]
    Name(String, &'static str),
    /// The CA's key is not fit for use.
    #[error(transparent)]
    Key(#[from] proto::tls::TlsError),
    /// The certificate could not be made.
    #[error("cannot make the certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// Makes `ca.crt`, `ca.key`, `aggregator.crt` and `aggregator.key` in `dir`; returns their paths.
///
/// The aggregator's certificate is good for `localhost`, `127.0.0.1`, `::1`, this host's name and
/// every name or address in `sans`.
pub fn init(dir: &Path, trust_domain: &str, sans: &[String]) -> Result<Vec<PathBuf>, PkiError> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    names.extend(host_name());
    names.extend(sans.iter().cloned());
    let authority = Authority::make(trust_domain)?;
    let aggregator = authority.aggregator(&names)?;
    std::fs::create_dir_all(dir)
        .map_err(|source| PkiError::Io { path: dir.to_path_buf(), source })?;
    write_all(
        dir,
        &[
            ("ca.crt", authority.certificate()),
            ("ca.key", &authority.key()),
            ("aggregator.crt", &aggregator.certificate),
            ("aggregator.key", &aggregator.key),
        ],
    )
}

/// Makes `NAME.crt` and `NAME.key` in `dir` with the CA that [`init`] left there; returns their
/// paths.
pub fn node(dir: &Path, name: &str) -> Result<Vec<PathBuf>, PkiError> {
    let issued = Authority::load(dir)?.node(name)?;
    write_all(
        dir,
        &[(&format!("{name}.crt"), &issued.certificate), (&format!("{name}.key"), &issued.key)],
    )
}

/// Makes a new `NAME.crt` and `NAME.key` in place of those in `dir`, which stay good until they expire; returns their
/// paths. An agent whose files they are takes up the new ones by itself.
pub fn renew_node(dir: &Path, name: &str) -> Result<Vec<PathBuf>, PkiError> {
    authority::check_node_name(name)?;
    let [certificate, key] = ["crt", "key"].map(|kind| dir.join(format!("{name}.{kind}")));
    for path in [&certificate, &key] {
        path.symlink_metadata().map_err(|source| PkiError::Io { path: path.clone(), source })?;
    }
    let issued = Authority::load(dir)?.node(name)?;
    replace(&key, &issued.key, files::KEY)?;
    replace(&certificate, &issued.certificate, files::CERTIFICATE)?;
    Ok(vec![certificate, key])
}

/// Revokes `NAME.crt` of `dir`: adds it to `crl.pem` there, which is made when there is none.
/// Returns the path of the list, also when it had the certificate already.
pub fn revoke(dir: &Path, name: &str) -> Result<PathBuf, PkiError> {
    let authority = Authority::load(dir)?;
    authority::check_node_name(name)?;
    let (certificate, list) = (dir.join(format!("{name}.crt")), dir.join("crl.pem"));
    if let Some(text) = revoke::add(&authority, &certificate, &list)? {
        replace(&list, &text, files::CERTIFICATE)?;
    }
    Ok(list)
}

/// This host's name, if it can stand in a certificate.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    authority::is_dns_name(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
