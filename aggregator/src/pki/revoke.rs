//! The list of revoked certificates.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use x509_parser::{pem::parse_x509_pem, prelude::*};

use super::{PkiError, authority::Authority};

/// As long as a CA: the list is made when somebody is revoked, not at fixed times.
const VALIDITY: Duration = Duration::from_secs(3650 * 24 * 3600);

/// What a list holds.
#[derive(Default)]
struct List {
    number: u64,
    revoked: Vec<RevokedCertParams>,
}

/// The text of `list` with the certificate added to it; `None` when it is there already.
pub(super) fn add(
    authority: &Authority,
    certificate: &Path,
    list: &Path,
) -> Result<Option<String>, PkiError> {
    let serial = serial(authority, certificate)?;
    let List { number, mut revoked } = read(authority, list)?;
    if revoked.iter().any(|known| known.serial_number == serial) {
        return Ok(None);
    }
    let now = SystemTime::now();
    revoked.push(RevokedCertParams {
        serial_number: serial,
        revocation_time: now.into(),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + VALIDITY).into(),
        crl_number: SerialNumber::from(number.saturating_add(1)),
        issuing_distribution_point: None,
        revoked_certs: revoked,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(Some(params.signed_by(authority.issuer())?.pem()?))
}

/// The number of a certificate that this CA has issued.
fn serial(authority: &Authority, path: &Path) -> Result<SerialNumber, PkiError> {
    let wrong = || error(path, "is not a certificate of this CA");
    let pem =
        std::fs::read(path).map_err(|source| PkiError::Io { path: path.to_path_buf(), source })?;
    let (_, pem) = parse_x509_pem(&pem).map_err(|_| wrong())?;
    let certificate = pem.parse_x509().map_err(|_| wrong())?;
    let (_, issuer) = parse_x509_pem(authority.certificate().as_bytes()).map_err(|_| wrong())?;
    let issuer = issuer.parse_x509().map_err(|_| wrong())?;
    certificate.verify_signature(Some(issuer.public_key())).map_err(|_| wrong())?;
    Ok(number(certificate.raw_serial()))
}

/// What was revoked so far, nothing when there is no list.
fn read(authority: &Authority, path: &Path) -> Result<List, PkiError> {
    let wrong = || error(path, "is not a revocation list of this CA");
    let pem = match std::fs::read(path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(List::default()),
        Err(source) => return Err(PkiError::Io { path: path.to_path_buf(), source }),
    };
    let (rest, pem) = parse_x509_pem(&pem).map_err(|_| wrong())?;
    if !rest.trim_ascii().is_empty() {
        return Err(error(path, "holds several lists"));
    }
    let (_, list) = CertificateRevocationList::from_der(&pem.contents).map_err(|_| wrong())?;
    let (_, issuer) = parse_x509_pem(authority.certificate().as_bytes()).map_err(|_| wrong())?;
    let issuer = issuer.parse_x509().map_err(|_| wrong())?;
    list.verify_signature(issuer.public_key()).map_err(|_| wrong())?;
    let revoked = list.iter_revoked_certificates().map(|one| RevokedCertParams {
        serial_number: number(one.raw_serial()),
        revocation_time: one.revocation_date.to_datetime(),
        reason_code: None,
        invalidity_date: None,
    });
    let number = list.crl_number().and_then(|number| u64::try_from(number).ok());
    Ok(List { number: number.unwrap_or(0), revoked: revoked.collect() })
}

/// Without the zero that only says that the number is positive.
fn number(raw: &[u8]) -> SerialNumber {
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    SerialNumber::from_slice(&raw[zeros..])
}

fn error(path: &Path, reason: &str) -> PkiError {
    PkiError::Authority { path: path.to_path_buf(), reason: reason.to_owned() }
}
