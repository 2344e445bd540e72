//! Who gets in.

use std::sync::Arc;

use proto::v1::agent_message::Body;
use rustls::{ClientConfig, RootCertStore, version::TLS13};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use crate::{
    agent::{Agent, channel, hello, open},
    fleet::{Fleet, eventually},
};

/// How an attempt with a TLS configuration fails: while connecting, or at the first message.
pub async fn attempt(fleet: &Fleet, tls: ClientConfig) -> Result<(), String> {
    let channel = channel(fleet.aggregator.grpc_address, tls).await?;
    let opened = open(channel, vec![Body::Hello(hello("a", 1))]).await;
    let (_to, mut from) = opened.map_err(|status| format!("{status:?}"))?;
    from.message().await.map(|_| ()).map_err(|status| format!("{status:?}"))
}

pub fn without_certificate(fleet: &Fleet) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in proto::tls::read_certificates(&fleet.pki().join("ca.crt")).unwrap() {
        roots.add(root).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    tls
}

#[tokio::test(flavor = "multi_thread")]
async fn only_certificates_of_the_ca_get_in() {
    let fleet = Fleet::start().await;
    let good = fleet.node("a");
    attempt(&fleet, proto::tls::client_config(&good).unwrap()).await.unwrap();

    attempt(&fleet, without_certificate(&fleet)).await.unwrap_err();

    // A node of the same name, of another fleet.
    let other = Fleet::start().await;
    let mut files = other.node("a");
    files.ca = good.ca.clone();
    attempt(&fleet, proto::tls::client_config(&files).unwrap()).await.unwrap_err();

    // The aggregator's own certificate is for servers.
    let mut files = good.clone();
    files.cert = fleet.pki().join("aggregator.crt");
    files.key = fleet.pki().join("aggregator.key");
    attempt(&fleet, proto::tls::client_config(&files).unwrap()).await.unwrap_err();

    // The other way round: the agent knows its aggregator.
    let mut files = good.clone();
    files.ca = other.node("a").ca;
    attempt(&fleet, proto::tls::client_config(&files).unwrap()).await.unwrap_err();

    let failed = "weft_aggregator_tls_handshakes_failed_total";
    eventually(async || fleet.series(failed).await.filter(|failed| *failed >= 3.0)).await;
    let nodes = fleet.get("/api/v1/nodes").await.json();
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_is_not_answered() {
    let fleet = Fleet::start().await;
    let mut stream = TcpStream::connect(fleet.aggregator.grpc_address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // Closed or reset, with no more than a TLS alert.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.len() < 16, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_has_the_name_of_its_certificate() {
    let fleet = Fleet::start().await;
    let refused = Agent::try_connect(&fleet, "a", hello("b", 1)).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("\"a\"") && refused.message().contains("\"b\""));
    let reason = r#"weft_aggregator_streams_refused_total{reason="identity"}"#;
    assert_eq!(fleet.series(reason).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_trust_domain_is_required() {
    let fleet =
        Fleet::start_with(|config| config.trust_domain = Some("example.org".to_owned())).await;
    let refused = Agent::try_connect(&fleet, "a", hello("a", 1)).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("weft.local"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_with_one_name_are_an_error_that_names_both() {
    let fleet = Fleet::start().await;
    let (_first, _) = Agent::connect(&fleet, "a", 0xaaaa).await;
    let refused = Agent::try_connect(&fleet, "a", hello("a", 0xbbbb)).await.err().unwrap();
    assert_eq!(refused.code(), Code::AlreadyExists);
    for part in ["\"a\"", "aaaa", "bbbb", "127.0.0.1"] {
        assert!(refused.message().contains(part), "{}", refused.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_comes_first_and_speaks_this_protocol() {
    let fleet = Fleet::start().await;
    let mut newer = hello("a", 1);
    newer.protocol_version += 1;
    let refused = Agent::try_connect(&fleet, "a", newer).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("upgrade the aggregator"), "{}", refused.message());

    let mut odd = hello("a", 1);
    odd.boot_id = vec![1; 3];
    let refused = Agent::try_connect(&fleet, "a", odd).await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let tls = proto::tls::client_config(&fleet.node("a")).unwrap();
    let channel = channel(fleet.aggregator.grpc_address, tls).await.unwrap();
    let (_to, mut from) = open(channel, vec![Body::Batch(Default::default())]).await.unwrap();
    assert_eq!(from.message().await.unwrap_err().code(), Code::InvalidArgument);
}
