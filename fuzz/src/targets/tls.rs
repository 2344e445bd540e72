//! PEM files, certificates and revocation lists.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use proto::{
    identity::Identity,
    tls::{Files, Server, client_config, read_certificates},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{Target, place};

/// They are used or refused.
pub const TARGET: Target = Target {
    name: "tls",
    about: "PEM files of CAs, certificates, keys and revocation lists",
    run,
    seeds,
    longest: 4096,
};

/// Files that are right.
static GOOD: LazyLock<[String; 4]> = LazyLock::new(|| made().unwrap_or_default());

const NAMES: [&str; 4] = ["ca.pem", "cert.pem", "key.pem", "crl.pem"];

/// The first byte says which of the files the rest is; the others are right.
fn run(data: &[u8]) {
    static DIR: LazyLock<PathBuf> = LazyLock::new(|| place().join("tls"));
    let Some((which, bytes)) = data.split_first() else { return };
    let which = usize::from(which % 5);
    if which == 4 {
        let _ = Identity::of(&CertificateDer::from(bytes));
        return;
    }
    let written = std::fs::create_dir_all(&*DIR).and_then(|()| {
        for (at, name) in NAMES.iter().enumerate() {
            let bytes = if at == which { bytes } else { GOOD[at].as_bytes() };
            write(&DIR.join(name), bytes)?;
        }
        Ok(())
    });
    assert!(written.is_ok(), "no room in {}: {:?}", DIR.display(), written.err());
    let [ca, cert, key, crl] = NAMES.map(|name| DIR.join(name));
    let files = Files { ca, cert, key };
    let _ = client_config(&files).map(|_| ());
    for lists in [None, Some(crl.as_path())] {
        if let Ok(server) = Server::read(&files, lists) {
            let _ = server.clients.verify(&read_certificates(&files.cert).unwrap_or_default());
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

/// A CA, a certificate, its key and a list that revokes it.
fn made() -> Result<[String; 4], rcgen::Error> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let root = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()])?;
    let id = rcgen::string::Ia5String::try_from("spiffe://weft.local/node/n")?;
    leaf.subject_alt_names.push(rcgen::SanType::URI(id));
    leaf.serial_number = Some(7_u64.into());
    let key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&key, &issuer)?;
    let lists = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2036, 1, 1),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: 7_u64.into(),
            revocation_time: rcgen::date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let list = lists.signed_by(&issuer)?;
    Ok([root.pem(), leaf.pem(), key.serialize_pem(), list.pem()?])
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (which, text) in (0..).zip(GOOD.iter()) {
        // Keys are not kept, not even those of nobody.
        let text = if which == 2 { "-----BEGIN PRIVATE KEY-----\nMA==\n" } else { text };
        seeds.push([&[which], text.as_bytes()].concat());
    }
    let first = CertificateDer::from_pem_slice(GOOD[1].as_bytes());
    seeds.extend(first.ok().map(|der| [&[4], der.as_ref()].concat()));
    seeds
}
