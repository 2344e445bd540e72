use std::os::unix::fs::PermissionsExt;

use proto::{identity::Identity, tls};

use super::*;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_fleet_gets_its_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("pki");
    let made = init(&dir, "example.org", &["weft.example.org".to_owned(), "10.1.2.3".to_owned()]);
    let names: Vec<_> = made.unwrap().iter().map(|p| p.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["ca.crt", "ca.key", "aggregator.crt", "aggregator.key"]);
    node(&dir, "node-1").unwrap();

    for key in ["ca.key", "aggregator.key", "node-1.key"] {
        assert_eq!(mode(&dir.join(key)), 0o600, "{key}");
    }
    let certificate = tls::read_certificates(&dir.join("node-1.crt")).unwrap().remove(0);
    let identity = Identity::of(&certificate).unwrap().node.unwrap();
    assert_eq!((identity.trust_domain.as_str(), identity.name.as_str()), ("example.org", "node-1"));
    let certificate = tls::read_certificates(&dir.join("aggregator.crt")).unwrap().remove(0);
    assert_eq!(Identity::of(&certificate).unwrap().node, None);
}

#[test]
fn nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    init(dir, "weft.local", &[]).unwrap();
    let key = std::fs::read(dir.join("ca.key")).unwrap();
    assert!(matches!(init(dir, "weft.local", &[]), Err(PkiError::Exists(_))));
    assert!(matches!(node(dir, "ca"), Err(PkiError::Exists(_))));
    node(dir, "a").unwrap();
    std::fs::remove_file(dir.join("a.crt")).unwrap();
    assert!(matches!(node(dir, "a"), Err(PkiError::Exists(_))));
    assert!(!dir.join("a.crt").exists());
    assert_eq!(std::fs::read(dir.join("ca.key")).unwrap(), key);
}

#[test]
fn wrong_names_and_places_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let error = node(dir, "a").unwrap_err().to_string();
    assert!(error.contains("ca.crt") && !error.contains('\n'), "{error}");
    assert!(matches!(init(dir, "Not A Domain", &[]), Err(PkiError::Name(..))));
    assert!(matches!(init(dir, "weft.local", &["a b".to_owned()]), Err(PkiError::Name(..))));
    assert!(!dir.join("ca.key").exists());
    init(dir, "weft.local", &[]).unwrap();
    for name in ["", "a/b", "..", "a b", &"a".repeat(254)] {
        assert!(matches!(node(dir, name), Err(PkiError::Name(..))), "{name}");
    }
}

#[test]
fn revoked_certificates_are_listed_once_and_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    init(dir, "weft.local", &[]).unwrap();
    for name in ["a", "b", "c"] {
        node(dir, name).unwrap();
    }
    let files = tls::Files {
        ca: dir.join("ca.crt"),
        cert: dir.join("aggregator.crt"),
        key: dir.join("aggregator.key"),
    };
    let refused = |list: &Path| {
        let server = tls::Server::read(&files, Some(list)).unwrap();
        let chain = |name| tls::read_certificates(&dir.join(format!("{name}.crt"))).unwrap();
        ["a", "b", "c"].map(|name| server.clients.verify(&chain(name)).is_err())
    };
    let list = revoke(dir, "a").unwrap();
    assert_eq!(list, dir.join("crl.pem"));
    assert_eq!(refused(&list), [true, false, false]);
    revoke(dir, "b").unwrap();
    let before = std::fs::read(&list).unwrap();
    revoke(dir, "b").unwrap();
    assert_eq!(std::fs::read(&list).unwrap(), before, "it was there already");
    assert_eq!(refused(&list), [true, true, false]);
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 11, "no draft is left");
}

#[test]
fn only_what_the_ca_has_issued_can_be_revoked() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dir, other) = (folder.path(), other.path());
    for dir in [dir, other] {
        init(dir, "weft.local", &[]).unwrap();
        node(dir, "a").unwrap();
    }
    assert!(matches!(revoke(dir, "b"), Err(PkiError::Io { .. })));
    assert!(matches!(revoke(dir, "../a"), Err(PkiError::Name(..))));
    std::fs::copy(other.join("a.crt"), dir.join("b.crt")).unwrap();
    let error = revoke(dir, "b").unwrap_err().to_string();
    assert!(error.contains("b.crt") && error.contains("of this CA"), "{error}");
    std::fs::copy(revoke(other, "a").unwrap(), dir.join("crl.pem")).unwrap();
    let error = revoke(dir, "a").unwrap_err().to_string();
    assert!(error.contains("crl.pem") && error.contains("of this CA"), "{error}");
}

#[test]
fn the_cas_key_must_be_private() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    init(dir, "weft.local", &[]).unwrap();
    std::fs::set_permissions(dir.join("ca.key"), PermissionsExt::from_mode(0o640)).unwrap();
    let error = node(dir, "a").unwrap_err().to_string();
    assert!(error.contains("ca.key") && error.contains("0640"), "{error}");
}

#[test]
fn a_node_gets_a_new_certificate_and_key_in_place_of_the_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    init(dir, "weft.local", &[]).unwrap();
    assert!(matches!(renew_node(dir, "a"), Err(PkiError::Io { .. })), "there is nothing to renew");
    let paths = node(dir, "a").unwrap();
    let read = || paths.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    let before = read();
    assert_eq!(renew_node(dir, "a").unwrap(), paths);
    let after = read();
    assert!(before[0] != after[0] && before[1] != after[1]);
    let [cert, key] = &paths[..] else { panic!() };
    proto::tls::client_config(&proto::tls::Files {
        ca: dir.join("ca.crt"),
        cert: cert.clone(),
        key: key.clone(),
    })
    .unwrap();
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 6, "no draft is left");
}
