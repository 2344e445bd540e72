//! Taking in what agents report.
//!
//! - `acceptor` accepts connections and does TLS, `turns` says who is next, `connection` is one of them,
//! - `admitted` knows all of them, so that those can be ended whose certificate is no longer good, or that are of no
//!   use, as `activity` knows,
//! - `service` opens a stream, `stream` is the task of it, `limits` what it may bring, `streams` knows which there are.
//!
//! What a batch does is `core`'s matter.

mod acceptor;
mod activity;
mod admitted;
mod connection;
mod limits;
mod service;
mod stream;
mod streams;
mod turns;

use std::{sync::Arc, time::Duration};

use proto::{tls::Server as Tls, v1::ingest_server::IngestServer};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

pub use admitted::Admitted;
pub use streams::Streams;

use crate::state::Shared;
use acceptor::Acceptor;
use service::IngestService;

/// Connections whose TLS is done and that wait to be served.
const ACCEPTED: usize = 64;

/// How often an idle connection is asked whether the agent is still there, and how long it
/// may take to answer. A host that vanished frees its name after both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// An agent needs one stream; a second one may overlap with a stream that is ending.
const STREAMS_PER_CONNECTION: u32 = 4;

/// Serves agents until `shutdown` says so, then ends their streams. There are so many `places` for connections.
pub(crate) async fn serve(
    listener: TcpListener,
    places: usize,
    tls: watch::Receiver<Arc<Tls>>,
    admitted: Arc<Admitted>,
    trust_domain: Option<String>,
    shared: Arc<Shared>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let (accepted, connections) = mpsc::channel(ACCEPTED);
    let acceptor = Acceptor::new(listener, places, tls, admitted, Arc::clone(&shared), accepted);
    let accepting = tokio::spawn(acceptor.run(wait(shutdown.clone())));
    let service = IngestServer::new(IngestService::new(shared, trust_domain, shutdown.clone()))
        .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(16 * 1024)
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), wait(shutdown))
        .await;
    accepting.abort();
    served
}

/// Ends when `shutdown` turns true, or nobody is left who could turn it.
async fn wait(mut shutdown: watch::Receiver<bool>) {
    // An error means that the sender is gone.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
