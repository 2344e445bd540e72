//! Which readers get in, and what they see.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};

use aggregator::{
    config::{Grant, HttpFiles, Role, Token},
    pki,
};
use common::Counter;
use proto::v1::{Role as HalfRole, SectionKind};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName, version::TLS13};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    agent::{Agent, section},
    fleet::{Fleet, eventually},
    reports::{columns, definitions, half, workload},
};

fn token(text: &str, namespaces: Option<&[&str]>) -> Token {
    let namespaces = namespaces.map(|names| names.iter().map(ToString::to_string).collect());
    let grant = Arc::new(Grant { name: text.to_owned(), role: Role::Read, namespaces });
    Token { sha256: Sha256::digest(text).into(), grant }
}

/// A fleet whose readers need a token or a certificate, and an agent with clients in two
/// namespaces.
async fn guarded() -> (Fleet, Agent) {
    let fleet = Fleet::start_with(|config| {
        let dir = config.tls.ca.parent().unwrap().to_path_buf();
        let readers = dir.join("readers");
        pki::init(&readers, "readers", &[]).unwrap();
        pki::node(&readers, "nobody").unwrap();
        config.http.tls = Some(HttpFiles {
            client_crl: Some(pki::revoke(&readers, "nobody").unwrap()),
            cert: dir.join("aggregator.crt"),
            key: dir.join("aggregator.key"),
            client_ca: Some(readers.join("ca.crt")),
        });
        config.http.tokens = vec![token("all", None), token("some", Some(&["shop"]))];
    })
    .await;
    let (mut agent, _) = Agent::connect(&fleet, "a", 1).await;
    let in_namespace = |id, name, namespace: &str| {
        let mut workload = workload(id, name);
        workload.namespace = namespace.to_owned();
        workload
    };
    let definitions = definitions(
        vec![in_namespace(1, "web", "shop"), in_namespace(2, "spy", "agency")],
        vec![half(1, 1, HalfRole::Client, 5432), half(2, 2, HalfRole::Client, 9999)],
    );
    let values = [(Counter::Connections, 3), (Counter::BytesSent, 1000)];
    agent
        .report(vec![
            section(SectionKind::Definitions, &definitions),
            columns(SectionKind::Totals, &[(1, &values, &[]), (2, &values, &[])]),
        ])
        .await;
    (fleet, agent)
}

/// TLS that trusts the fleet's CA, with a certificate or without.
fn tls(fleet: &Fleet, own: Option<(PathBuf, PathBuf)>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in proto::tls::read_certificates(&fleet.pki().join("ca.crt")).unwrap() {
        roots.add(root).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(proto::tls::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots);
    match own {
        Some((cert, key)) => {
            let chain = proto::tls::read_certificates(&cert).unwrap();
            builder.with_client_auth_cert(chain, proto::tls::read_key(&key).unwrap()).unwrap()
        }
        None => builder.with_no_client_auth(),
    }
}

/// An answer as it comes over the wire; what went wrong with TLS otherwise.
async fn ask(
    fleet: &Fleet,
    tls: ClientConfig,
    path: &str,
    header: &str,
) -> Result<(u16, String, String), String> {
    let stream = TcpStream::connect(fleet.aggregator.http_address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connected = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
    let mut stream = connected.map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{header}\r\n");
    let mut answer = Vec::new();
    let wrote = stream.write_all(request.as_bytes()).await;
    wrote.map_err(|error| error.to_string())?;
    stream.read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, head.to_lowercase(), body.to_owned()))
}

async fn status(fleet: &Fleet, path: &str, token: Option<&str>) -> u16 {
    let header = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    ask(fleet, tls(fleet, None), path, &header.unwrap_or_default()).await.unwrap().0
}

const DATA: [&str; 6] = [
    "/metrics",
    "/api/v1/nodes",
    "/api/v1/topology",
    "/api/graph/fields",
    "/api/graph/data",
    "/api/health",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_it_is_for() {
    let (fleet, _agent) = guarded().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(status(&fleet, path, None).await, 200, "{path}");
    }
    for path in DATA {
        assert_eq!(status(&fleet, path, None).await, 401, "{path}");
        assert_eq!(status(&fleet, path, Some("guess")).await, 401, "{path}");
        assert_eq!(status(&fleet, path, Some("all")).await, 200, "{path}");
        let whole = ["/metrics", "/api/v1/nodes"].contains(&path);
        let expected = if whole { 403 } else { 200 };
        assert_eq!(status(&fleet, path, Some("some")).await, expected, "{path}");
    }
    let asked = "Authorization: Bearer guess\r\nOrigin: https://elsewhere.example\r\n";
    let (_, head, body) = ask(&fleet, tls(&fleet, None), "/metrics", asked).await.unwrap();
    for part in [
        "www-authenticate: bearer realm=\"weft\", error=\"invalid_token\"",
        "content-type: application/problem+json",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "frame-ancestors 'none'",
        "referrer-policy: no-referrer",
    ] {
        assert!(head.contains(part), "{part}: {head}");
    }
    assert!(!head.contains("access-control"), "{head}");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["status"], 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_token_sees_its_namespaces_and_their_other_ends() {
    let (fleet, _agent) = guarded().await;
    let names = async |token: &str, path: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        let (_, _, body) = ask(&fleet, tls(&fleet, None), path, &header).await.unwrap();
        let document: Value = serde_json::from_str(&body).unwrap();
        let name = if path.contains("graph") { "title" } else { "name" };
        let nodes = document["nodes"].as_array().unwrap().iter();
        let names: BTreeSet<_> =
            nodes.map(|node| node[name].as_str().unwrap().to_owned()).collect();
        (names, document["edges"].as_array().unwrap().len())
    };
    for path in ["/api/v1/topology", "/api/graph/data"] {
        let all = BTreeSet::from(["10.0.0.2", "spy", "web"].map(str::to_owned));
        assert_eq!(names("all", path).await, (all, 2), "{path}");
        let some = BTreeSet::from(["10.0.0.2", "web"].map(str::to_owned));
        assert_eq!(names("some", path).await, (some, 1), "{path}");
        let path = format!("{path}?group_by=workload");
        assert_eq!(names("some", &path).await.1, 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_token_is_told_why_of_its_own_edges_only() {
    let (fleet, _agent) = guarded().await;
    let get = async |token: &str, path: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        let (status, _, body) = ask(&fleet, tls(&fleet, None), path, &header).await.unwrap();
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let (_, all) = get("all", "/api/v1/topology").await;
    let (_, some) = get("some", "/api/v1/topology").await;
    let own = &some["edges"][0]["id"];
    for edge in all["edges"].as_array().unwrap() {
        let path = format!("/api/v1/edges/{}/explain", edge["id"].as_str().unwrap());
        assert_eq!(get("all", &path).await.1["meetings"][0]["server"]["address"], "10.0.0.2");
        let (status, why) = get("some", &path).await;
        if edge["id"] != *own {
            assert_eq!(status, 404);
            continue;
        }
        assert_eq!((status, &why["hosts"][0]["host"]), (200, &"a".into()));
        let meeting = &why["meetings"][0];
        assert!(meeting["client"]["address"].is_string() && meeting["server"].is_null(), "{why}");
    }
}

/// A reader's certificate by the CA in a folder.
fn reader(dir: PathBuf) -> (PathBuf, PathBuf) {
    let read = |name| fs::read_to_string(dir.join(name)).unwrap();
    let ca_key = KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.crt"), ca_key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "prometheus");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let (cert_path, key_path) = (dir.join("reader.crt"), dir.join("node.key"));
    fs::write(&cert_path, params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    // A key made by the program, for its permissions.
    fs::copy(dir.join("ca.key"), &key_path).unwrap();
    fs::write(&key_path, key.serialize_pem()).unwrap();
    (cert_path, key_path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_readers_ca_is_as_good_as_a_token() {
    let (fleet, _agent) = guarded().await;
    let readers = fleet.pki().join("readers");
    let own = || Some(reader(readers.clone()));
    let (status, ..) = ask(&fleet, tls(&fleet, own()), "/metrics", "").await.unwrap();
    assert_eq!(status, 200);
    // That of an agent is of another CA; that of a node is no reader's even of the same one.
    let files = fleet.node("a");
    let refused = ask(&fleet, tls(&fleet, Some((files.cert, files.key))), "/metrics", "").await;
    assert!(refused.is_err(), "{refused:?}");
    pki::node(&readers, "b").unwrap();
    let node = Some((readers.join("b.crt"), readers.join("b.key")));
    let (status, ..) = ask(&fleet, tls(&fleet, node), "/metrics", "").await.unwrap();
    assert_eq!(status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readers_certificate_that_is_revoked_is_refused() {
    let (fleet, _agent) = guarded().await;
    let readers = fleet.pki().join("readers");
    let (cert, key) = reader(readers.clone());
    let own = || Some((cert.clone(), key.clone()));
    let (status, ..) = ask(&fleet, tls(&fleet, own()), "/metrics", "").await.unwrap();
    assert_eq!(status, 200);
    // By the name of a file, as that of a node would be.
    pki::revoke(&readers, "reader").unwrap();
    let refused = eventually(async || ask(&fleet, tls(&fleet, own()), "/metrics", "").await.err());
    assert!(refused.await.contains("CertificateRevoked"));
    let due = r#"weft_aggregator_tls_file_expiry_timestamp_seconds{setting="http-client-crl"}"#;
    let answer = ask(&fleet, tls(&fleet, None), "/metrics", "Authorization: Bearer all\r\n").await;
    assert!(answer.unwrap().2.contains(due));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_token_hears_nothing_of_hosts() {
    let (fleet, _agent) = guarded().await;
    let header = "Authorization: Bearer some\r\n";
    let (_, _, body) = ask(&fleet, tls(&fleet, None), "/api/v1/topology", header).await.unwrap();
    let document: Value = serde_json::from_str(&body).unwrap();
    for node in document["nodes"].as_array().unwrap() {
        let is_own = node["namespace"] == "shop";
        let hosts = node["hosts"].as_array().unwrap().len();
        assert_eq!(hosts, usize::from(is_own), "{node}");
        assert!(is_own || node["labels"].as_object().unwrap().is_empty(), "{node}");
    }
    let coverage = &document["coverage"];
    for count in ["nodes_expected", "nodes_reporting", "batches_lost", "inserts_refused"] {
        assert_eq!(coverage[count], 0, "{count}");
    }
    assert_eq!(coverage["nodes_silent"].as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_a_new_certificate_without_a_restart() {
    let (fleet, _agent) = guarded().await;
    let other = fleet.pki().join("other");
    pki::init(&other, "other", &[]).unwrap();
    // Together: the same files serve agents.
    for file in ["aggregator.key", "aggregator.crt"] {
        fs::rename(other.join(file), fleet.pki().join(file)).unwrap();
    }
    eventually(async || ask(&fleet, tls(&fleet, None), "/healthz", "").await.err()).await;
    fs::copy(other.join("ca.crt"), fleet.pki().join("ca.crt")).unwrap();
    assert_eq!(status(&fleet, "/healthz", None).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_not_answered_where_tls_is_spoken() {
    let (fleet, _agent) = guarded().await;
    let mut stream = TcpStream::connect(fleet.aggregator.http_address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_not_waited_for() {
    let fleet = Fleet::start().await;
    let mut stream = TcpStream::connect(fleet.aggregator.http_address).await.unwrap();
    let request = "GET /api/v1/topology HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 400];
    let length = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).to_lowercase();
    assert!(answer.starts_with("http/1.1 413"), "{answer}");
    assert!(answer.contains("content-type: application/problem+json"), "{answer}");
}
