//! A connection to the aggregator: TCP, TLS with certificates on both ends, HTTP/2.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use proto::{MAX_MESSAGE_BYTES, reconnect::CONNECT_TIME, v1::ingest_client::IngestClient};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use crate::config::AggregatorAddress;

/// The peer is asked for a sign of life this often, and given as long to answer: another aggregator
/// is to take over within seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("`{0}` cannot be the name in a certificate")]
    ServerName(String),
    #[error("{}", chain(.0))]
    Transport(#[from] tonic::transport::Error),
}

/// Connects.
pub(super) async fn connect(
    address: &AggregatorAddress,
    tls: Arc<ClientConfig>,
) -> Result<IngestClient<Channel>, ConnectError> {
    let connector = TlsConnector::from(tls);
    let name = ServerName::try_from(address.host.clone())
        .map_err(|_| ConnectError::ServerName(address.host.clone()))?;
    // The scheme is for the transport, which must not bring TLS of its own.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let target = address.clone();
    let dial = tower::service_fn(move |_| {
        let (connector, name, target) = (connector.clone(), name.clone(), target.clone());
        async move { dial(&target, &connector, name).await.map(TokioIo::new) }
    });
    let channel = endpoint.connect_with_connector(dial).await?;
    Ok(IngestClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

async fn dial(
    target: &AggregatorAddress,
    connector: &TlsConnector,
    name: ServerName<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    let connecting = TcpStream::connect((target.host.as_str(), target.port));
    let stream = timeout(CONNECT_TIME, connecting).await??;
    stream.set_nodelay(true)?;
    connector.connect(name, stream).await
}

/// An error with all its causes in one line, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}
