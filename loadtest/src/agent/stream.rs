//! A stream to the aggregator, as an agent opens it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use proto::{
    reconnect::CONNECT_TIME,
    v1::{
        AgentMessage, AggregatorMessage, Hello, Welcome, agent_message, aggregator_message,
        ingest_client::IngestClient,
    },
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use super::wire::{Counted, WireBytes};

/// Messages between an agent and its connection.
const WAITING: usize = 4;

pub struct Stream {
    pub to: mpsc::Sender<AgentMessage>,
    pub from: Streaming<AggregatorMessage>,
    pub welcome: Welcome,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("{}: {}", .0.code(), .0.message())]
    Refused(Box<tonic::Status>),
    #[error("the aggregator's first message is no welcome")]
    NoWelcome,
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
}

impl From<tonic::Status> for StreamError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The address of the agent's host, if it is to be told from others.
    pub from: Option<Ipv4Addr>,
    pub to: SocketAddr,
}

impl Ends {
    /// To an aggregator, from wherever that goes out.
    pub const fn to(to: SocketAddr) -> Self {
        Self { from: None, to }
    }

    /// To an aggregator, from the host of this number: on the loopback device there are addresses for all of them, and
    /// the aggregator does not take the fleet for one host that wants all to itself.
    pub fn of_host(number: u32, to: SocketAddr) -> Self {
        let from = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number);
        Self { from: (to.is_ipv4() && to.ip().is_loopback()).then_some(from), to }
    }

    async fn connect(self) -> io::Result<TcpStream> {
        let Some(from) = self.from else { return TcpStream::connect(self.to).await };
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        socket.connect(self.to).await
    }
}

/// Connects, says hello and waits for the welcome, as long as `patience` lasts once there is a connection.
pub async fn open(
    ends: Ends,
    tls: Arc<ClientConfig>,
    bytes: Arc<WireBytes>,
    hello: Hello,
    patience: Duration,
) -> Result<Stream, StreamError> {
    let opened = timeout(CONNECT_TIME + patience, try_open(ends, tls, bytes, hello)).await;
    opened.map_err(|_| StreamError::Silent(patience))?
}

async fn try_open(
    ends: Ends,
    tls: Arc<ClientConfig>,
    bytes: Arc<WireBytes>,
    hello: Hello,
) -> Result<Stream, StreamError> {
    let connector = TlsConnector::from(tls);
    let connect = move |_| {
        let (connector, bytes) = (connector.clone(), Arc::clone(&bytes));
        async move {
            let stream = timeout(CONNECT_TIME, ends.connect()).await??;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
            let stream = connector.connect(name, Counted { stream, bytes }).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    };
    let endpoint = Endpoint::from_static("http://localhost").buffer_size(WAITING);
    let channel = endpoint.connect_with_connector(tower::service_fn(connect)).await?;
    let (to, outgoing) = mpsc::channel(WAITING);
    // The channel is empty: this does not wait.
    let hello = AgentMessage { body: Some(agent_message::Body::Hello(hello)) };
    let _ = to.try_send(hello);
    let mut client = IngestClient::new(channel)
        .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
    let mut from = client.stream(ReceiverStream::new(outgoing)).await?.into_inner();
    let first = from.message().await?.and_then(|message| message.body);
    match first {
        Some(aggregator_message::Body::Welcome(welcome)) => Ok(Stream { to, from, welcome }),
        _ => Err(StreamError::NoWelcome),
    }
}
