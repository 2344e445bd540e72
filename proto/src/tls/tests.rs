use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use super::*;

fn write(path: &Path, text: &str, mode: u32) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn what_is_wrong_with_a_file_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    write(&empty, "", 0o600);
    for path in [empty, folder.path().join("absent.pem"), folder.path().to_path_buf()] {
        let message = read_certificates(&path).unwrap_err().to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
        assert!(!message.contains('\n'), "{message}");
        assert!(read_key(&path).is_err());
    }
}

#[test]
fn the_key_must_be_the_certificates_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, mode) in [("a", 0o600), ("b", 0o600), ("c", 0o644)] {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        write(&path(&format!("{name}.crt")), &made.cert.pem(), 0o644);
        write(&path(&format!("{name}.key")), &made.signing_key.serialize_pem(), mode);
    }
    let files =
        |cert: &str, key: &str| Files { ca: path("a.crt"), cert: path(cert), key: path(key) };
    let good = files("a.crt", "a.key");
    assert!(client_config(&good).is_ok());
    assert!(Server::read(&good, None).is_ok());
    let other = files("a.crt", "b.key");
    assert!(client_config(&other).is_err());
    assert!(Server::read(&other, None).is_err());
    let exposed = files("c.crt", "c.key");
    for error in [client_config(&exposed).unwrap_err(), Server::read(&exposed, None).unwrap_err()] {
        assert!(matches!(error, TlsError::Exposed { mode: 0o644, .. }), "{error}");
        assert!(error.to_string().contains("c.key as a private key: with mode 0644"), "{error}");
    }
}
