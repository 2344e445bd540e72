//! The certificate matrix: which certificates get in, and what becomes of streams when
//! certificates, keys, CAs and revocation lists change under them.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aggregator::pki;
use proto::{identity::spiffe_id, tls::Files};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::Code;

use crate::{
    agent::{Agent, hello},
    fleet::{Fleet, eventually},
    security::{attempt, without_certificate},
};

const HOUR: Duration = Duration::from_secs(3600);

/// A certificate to be made.
struct Made {
    uris: Vec<String>,
    from: SystemTime,
    to: SystemTime,
}

impl Made {
    /// A good one for the node `a`.
    fn good() -> Self {
        let now = SystemTime::now();
        Self { uris: vec![spiffe_id("weft.local", "a")], from: now - HOUR, to: now + HOUR }
    }

    /// Made by the CA in a folder, or by itself, into `fleet`'s folder.
    fn make(self, fleet: &Fleet, name: &str, ca: Option<&Path>) -> Files {
        let mut params = CertificateParams::default();
        let uris = self.uris.into_iter().map(|uri| SanType::URI(uri.try_into().unwrap()));
        params.subject_alt_names = uris.collect();
        (params.not_before, params.not_after) = (self.from.into(), self.to.into());
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = match ca {
            Some(dir) => {
                let read = |name| fs::read_to_string(dir.join(name)).unwrap();
                let ca_key = KeyPair::from_pem(&read("ca.key")).unwrap();
                let issuer = Issuer::from_ca_cert_pem(&read("ca.crt"), ca_key).unwrap();
                params.signed_by(&key, &issuer).unwrap()
            }
            None => params.self_signed(&key).unwrap(),
        };
        let at = |kind| fleet.pki().join(format!("{name}.{kind}"));
        replace(&at("crt"), certificate.pem().as_bytes());
        replace(&at("key"), key.serialize_pem().as_bytes());
        Files { ca: fleet.pki().join("ca.crt"), cert: at("crt"), key: at("key") }
    }
}

/// Replaces a file at once, as tools that rotate certificates do.
fn replace(path: &Path, bytes: &[u8]) {
    let draft = path.with_extension("draft");
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&draft).unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    fs::rename(&draft, path).unwrap();
}

/// A fleet that watches a revocation list with nobody in it that matters.
async fn fleet_with_list() -> Fleet {
    Fleet::start_with(|config| {
        let dir = config.tls.ca.parent().unwrap();
        pki::node(dir, "nobody").unwrap();
        config.tls_crl = Some(pki::revoke(dir, "nobody").unwrap());
    })
    .await
}

async fn connect(fleet: &Fleet, files: &Files, session: u64) -> Agent {
    let (agent, _) =
        Agent::connect_to(fleet.aggregator.grpc_address, files, hello("a", session)).await.unwrap();
    agent
}

async fn gets_in(fleet: &Fleet, files: &Files) -> Result<(), String> {
    attempt(fleet, proto::tls::client_config(files).unwrap()).await
}

/// What the aggregator says to a TLS client. One that says nothing itself: what it says could cross
/// with the aggregator's farewell and take its place.
async fn tls_says(fleet: &Fleet, tls: ClientConfig) -> String {
    let stream = TcpStream::connect(fleet.aggregator.grpc_address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = match TlsConnector::from(Arc::new(tls)).connect(name, stream).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    let mut greeting = [0];
    match stream.read(&mut greeting).await {
        // The beginning of HTTP/2.
        Ok(1) => "welcome".to_owned(),
        Ok(_) => "closed".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The same, for a node's files.
async fn says(fleet: &Fleet, files: &Files) -> String {
    tls_says(fleet, proto::tls::client_config(files).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_certificate_is_refused_or_accepted_as_it_should_be() {
    let fleet = fleet_with_list().await;
    let (dir, other) = (fleet.pki(), tempfile::tempdir().unwrap());
    pki::init(other.path(), "weft.local", &[]).unwrap();
    let now = SystemTime::now();
    let ca = Some(dir.as_path());

    // What TLS says to each certificate.
    for (name, made, ca, expected) in [
        ("good", Made::good(), ca, "welcome"),
        ("expired", Made { to: now - HOUR / 2, ..Made::good() }, ca, "CertificateExpired"),
        // The alert for "not currently valid" has this name.
        ("early", Made { from: now + HOUR / 2, ..Made::good() }, ca, "CertificateExpired"),
        ("other-ca", Made::good(), Some(other.path()), "UnknownCA"),
        ("self-signed", Made::good(), None, "UnknownCA"),
    ] {
        let files = made.make(&fleet, name, ca);
        let said = says(&fleet, &files).await;
        assert!(said.contains(expected), "{name}: {said}");
        assert_eq!(gets_in(&fleet, &files).await.is_ok(), expected == "welcome", "{name}");
    }
    let said = tls_says(&fleet, without_certificate(&fleet)).await;
    assert!(said.contains("CertificateRequired"), "{said}");
    // Listed as revoked from the beginning.
    let said = says(&fleet, &fleet.node("nobody")).await;
    assert!(said.contains("CertificateRevoked"), "{said}");

    // What the aggregator says to names.
    let named = |uris: &[String]| Made { uris: uris.to_vec(), ..Made::good() };
    let id = |name| spiffe_id("weft.local", name);
    for (name, uris, expected) in [
        ("wrong-name", vec![id("b")], "that of node"),
        ("no-name", vec![], "not that of a node"),
        ("not-a-node", vec!["spiffe://weft.local/aggregator".to_owned()], "not that of a node"),
        ("two-names", vec![id("a"), id("b")], ""),
    ] {
        let error = gets_in(&fleet, &named(&uris).make(&fleet, name, ca)).await.unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let nodes = fleet.get("/api/v1/nodes").await.json();
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1, "{nodes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tls_1_3_is_spoken() {
    let fleet = Fleet::start().await;
    // TLS 1.2: a hello without the list of versions that came with 1.3.
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3, 0, 11, 0, 2, 1, 0];
    body.extend([0, extensions.len() as u8]);
    body.extend(extensions);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(body);
    let mut stream = TcpStream::connect(fleet.aggregator.grpc_address).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    // A fatal alert: protocol version.
    assert_eq!((answer[0], &answer[5..]), (21, &[2, 70][..]), "{answer:?}");

    let files = fleet.node("a");
    let with_openssl = |version: &str| {
        Command::new("openssl")
            .args(["s_client", version, "-connect", &fleet.aggregator.grpc_address.to_string()])
            .args(["-alpn", "h2", "-verify_return_error", "-CAfile"])
            .args([&files.ca, Path::new("-cert"), &files.cert, Path::new("-key"), &files.key])
            .stdin(Stdio::null())
            .output()
    };
    match with_openssl("-tls1_2") {
        Ok(old) => {
            assert!(!old.status.success(), "{old:?}");
            let new = with_openssl("-tls1_3").unwrap();
            assert!(new.status.success(), "{new:?}");
        }
        #[allow(clippy::print_stderr)]
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "CI runs every test: openssl: {error}");
            eprintln!("SKIPPED: a TLS 1.2 client of another make: openssl: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_certificate_is_revoked() {
    let fleet = fleet_with_list().await;
    let mut a = connect(&fleet, &fleet.node("a"), 1).await;
    let (mut b, _) = Agent::connect(&fleet, "b", 2).await;
    a.report(vec![]).await;
    pki::revoke(&fleet.pki(), "a").unwrap();
    a.ended().await;
    let said = says(&fleet, &fleet.node("a")).await;
    assert!(said.contains("CertificateRevoked"), "{said}");
    b.report(vec![]).await;
    let ended = r#"weft_aggregator_connections_ended_total{reason="refused"}"#;
    assert_eq!(fleet.series(ended).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_certificate_expires() {
    let fleet = Fleet::start().await;
    let made = Made { to: SystemTime::now() + Duration::from_secs(3), ..Made::good() };
    let files = made.make(&fleet, "short", Some(&fleet.pki()));
    let mut agent = connect(&fleet, &files, 1).await;
    agent.report(vec![]).await;
    agent.ended().await;
    let said = says(&fleet, &files).await;
    assert!(said.contains("CertificateExpired"), "{said}");
    let ended = r#"weft_aggregator_connections_ended_total{reason="expired"}"#;
    assert_eq!(fleet.series(ended).await, Some(1.0));
}

/// A CA of its own, good until then, by the one in a folder or by itself; returns its certificate.
fn authority(dir: &Path, above: Option<&Path>, until: SystemTime) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, dir.display().to_string());
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.not_after = until.into();
    let key = KeyPair::generate().unwrap();
    let certificate = match above {
        Some(above) => params.signed_by(&key, &issuer(above)).unwrap().pem(),
        None => params.self_signed(&key).unwrap().pem(),
    };
    replace(&dir.join("ca.crt"), certificate.as_bytes());
    replace(&dir.join("ca.key"), key.serialize_pem().as_bytes());
    certificate
}

fn issuer(dir: &Path) -> Issuer<'static, KeyPair> {
    let read = |name| fs::read_to_string(dir.join(name)).unwrap();
    Issuer::from_ca_cert_pem(&read("ca.crt"), KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_what_its_certificate_rests_on_expires() {
    let fleet = Fleet::start().await;
    let ours = fs::read(fleet.pki().join("ca.crt")).unwrap();
    let [root, middle] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // The agent goes on trusting the aggregator's CA.
    let trusted = fleet.pki().join("trusted.crt");
    replace(&trusted, &ours);
    let expired = r#"weft_aggregator_connections_ended_total{reason="expired"}"#;
    for number in [1, 2] {
        let (soon, later) = (SystemTime::now() + Duration::from_secs(6), SystemTime::now() + HOUR);
        // First what stands between, then the root itself.
        let (root_until, middle_until) = if number == 1 { (later, soon) } else { (soon, later) };
        let top = authority(root.path(), None, root_until);
        let between = authority(middle.path(), Some(root.path()), middle_until);
        replace(&fleet.pki().join("ca.crt"), &[&ours[..], top.as_bytes()].concat());
        let mut files = Made::good().make(&fleet, "rests", Some(middle.path()));
        let own = fs::read_to_string(&files.cert).unwrap();
        replace(&files.cert, format!("{own}{between}").as_bytes());
        files.ca = trusted.clone();
        let mut agent = eventually(async || {
            let tls = proto::tls::client_config(&files).unwrap();
            attempt(&fleet, tls).await.ok()?;
            Some(connect(&fleet, &files, 1).await)
        })
        .await;
        agent.report(vec![]).await;
        agent.ended().await;
        gets_in(&fleet, &files).await.unwrap_err();
        let ended = fleet.series(expired).await.unwrap();
        assert!(ended >= f64::from(number), "{ended}");
    }
}

/// The certificate that the aggregator shows.
async fn shown(fleet: &Fleet) -> Vec<u8> {
    let tls = proto::tls::client_config(&fleet.node("looker")).unwrap();
    let stream = TcpStream::connect(fleet.aggregator.grpc_address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aggregators_certificate_is_replaced_under_a_stream() {
    let fleet = Fleet::start().await;
    let mut agent = connect(&fleet, &fleet.node("a"), 1).await;
    agent.report(vec![]).await;
    let before = shown(&fleet).await;
    let expiry = "weft_aggregator_certificate_expiry_timestamp_seconds";
    assert!(eventually(async || fleet.series(expiry).await.filter(|end| *end > 0.0)).await > 1.7e9);
    // Of the same CA: what `pki init` makes is all of one folder.
    let issued = {
        let dir = fleet.pki();
        for file in ["aggregator.crt", "aggregator.key"] {
            fs::rename(dir.join(file), dir.join(format!("old-{file}"))).unwrap();
        }
        server_certificate(&dir)
    };
    // First without its key: it is not used, and nothing stops.
    replace(&fleet.pki().join("aggregator.crt"), issued.0.as_bytes());
    let stale = r#"weft_aggregator_tls_stale{side="agents"}"#;
    eventually(async || fleet.series(stale).await.filter(|stale| *stale == 1.0)).await;
    assert_eq!(shown(&fleet).await, before);
    agent.report(vec![]).await;
    replace(&fleet.pki().join("aggregator.key"), issued.1.as_bytes());
    eventually(async || (shown(&fleet).await != before).then_some(())).await;
    agent.report(vec![]).await;
    gets_in(&fleet, &fleet.node("b")).await.unwrap_err(); // Its hello says `a`.
    assert_eq!(fleet.series(stale).await, Some(0.0));
    let reloads = r#"weft_aggregator_tls_reloads_total{result="ok",side="agents"}"#;
    assert_eq!(fleet.series(reloads).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_new_certificate_takes_the_stream_over() {
    let fleet = Fleet::start().await;
    let mut old = connect(&fleet, &fleet.node("a"), 1).await;
    old.report(vec![]).await;
    let files = Made::good().make(&fleet, "renewed", Some(&fleet.pki()));
    let (mut new, welcome) =
        Agent::connect_to(fleet.aggregator.grpc_address, &files, hello("a", 1)).await.unwrap();
    assert_eq!(welcome.acked_seq, 1, "the session goes on where it was");
    assert_eq!(old.ended().await.code(), Code::Aborted);
    new.report(vec![]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_is_replaced_by_way_of_both() {
    let fleet = fleet_with_list().await;
    let bundle = fleet.pki().join("ca.crt");
    let other = tempfile::tempdir().unwrap();
    pki::init(other.path(), "weft.local", &[]).unwrap();
    let (old_ca, new_ca) =
        (fs::read(&bundle).unwrap(), fs::read(other.path().join("ca.crt")).unwrap());
    let issuer = tempfile::tempdir().unwrap();
    fs::copy(&bundle, issuer.path().join("ca.crt")).unwrap();
    fs::copy(fleet.pki().join("ca.key"), issuer.path().join("ca.key")).unwrap();

    // What the node trusts stays as it is.
    let trusted = |mut files: Files| {
        files.ca = issuer.path().join("ca.crt");
        files
    };
    let old = trusted(Made::good().make(&fleet, "old", Some(issuer.path())));
    let new = trusted(Made::good().make(&fleet, "new", Some(other.path())));
    let mut agent = connect(&fleet, &old, 1).await;
    agent.report(vec![]).await;
    gets_in(&fleet, &new).await.unwrap_err();

    // Both: the stream goes on, and the new CA's nodes get in. It has no revocation list.
    replace(&bundle, &[old_ca, new_ca.clone()].concat());
    let mut renewed = eventually(async || {
        let tls = proto::tls::client_config(&new).unwrap();
        attempt(&fleet, tls).await.ok()?;
        Some(connect(&fleet, &new, 1).await)
    })
    .await;
    renewed.report(vec![]).await;
    let mut agent = connect(&fleet, &old, 1).await;
    agent.report(vec![]).await;

    // The new one alone: the old one's streams end.
    replace(&bundle, &new_ca);
    agent.ended().await;
    let said = says(&fleet, &old).await;
    assert!(said.contains("UnknownCA"), "{said}");
    connect(&fleet, &new, 1).await.report(vec![]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_used_leaves_the_old_one_in_force() {
    let fleet = fleet_with_list().await;
    let list = fleet.pki().join("crl.pem");
    let good = fs::read(&list).unwrap();
    let other = tempfile::tempdir().unwrap();
    pki::init(other.path(), "weft.local", &[]).unwrap();
    let stale = r#"weft_aggregator_tls_stale{side="agents"}"#;
    let is = async |wanted: f64| {
        eventually(async || fleet.series(stale).await.filter(|stale| *stale == wanted)).await
    };
    replace(&list, b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    is(1.0).await;
    gets_in(&fleet, &fleet.node("a")).await.unwrap();
    gets_in(&fleet, &fleet.node("nobody")).await.unwrap_err();
    replace(&list, &good);
    is(0.0).await;
    fs::remove_file(&list).unwrap();
    is(1.0).await;
    gets_in(&fleet, &fleet.node("nobody")).await.unwrap_err();
}

/// A certificate for the aggregator, and its key, by the CA of a folder.
fn server_certificate(dir: &Path) -> (String, String) {
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let ca_key = KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.crt"), ca_key).unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}
