//! An agent of few words.

use std::{net::SocketAddr, sync::Arc};

use hyper_util::rt::TokioIo;
use prost::Message;
use proto::v1::{
    AgentMessage, Batch, Hello, Resolve, Section, SectionKind, Welcome, agent_message,
    aggregator_message::Body, ingest_client::IngestClient,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::fleet::{Fleet, PATIENCE};

pub struct Agent {
    to: mpsc::Sender<AgentMessage>,
    from: Streaming<proto::v1::AggregatorMessage>,
    pub next: u64,
}

pub fn hello(node: &str, session: u64) -> Hello {
    Hello {
        protocol_version: proto::PROTOCOL_VERSION,
        protocol_minor: proto::PROTOCOL_MINOR,
        node: node.to_owned(),
        agent_version: "1.2.3".to_owned(),
        kernel: "6.1.0-test".to_owned(),
        boot_id: vec![7; 16],
        generation: 1,
        session,
        interval_ns: 1_000_000_000,
    }
}

/// A channel over TLS with whatever configuration.
pub async fn channel(address: SocketAddr, tls: ClientConfig) -> Result<Channel, String> {
    let connector = TlsConnector::from(Arc::new(tls));
    let connect = move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    };
    let endpoint = Endpoint::from_static("http://localhost");
    let connected = endpoint.connect_with_connector(tower::service_fn(connect)).await;
    connected.map_err(|error| format!("{error:?}"))
}

/// Opens a stream with these first messages.
pub async fn open(
    channel: Channel,
    first: Vec<agent_message::Body>,
) -> Result<(mpsc::Sender<AgentMessage>, Streaming<proto::v1::AggregatorMessage>), Status> {
    let (to, messages) = mpsc::channel(16);
    for body in first {
        to.send(AgentMessage { body: Some(body) }).await.unwrap();
    }
    let from = IngestClient::new(channel).stream(ReceiverStream::new(messages)).await?;
    Ok((to, from.into_inner()))
}

impl Agent {
    pub async fn connect(fleet: &Fleet, node: &str, session: u64) -> (Self, Welcome) {
        Self::try_connect(fleet, node, hello(node, session)).await.unwrap()
    }

    pub async fn try_connect(
        fleet: &Fleet,
        certificate_of: &str,
        hello: Hello,
    ) -> Result<(Self, Welcome), Status> {
        Self::connect_to(fleet.aggregator.grpc_address, &fleet.node(certificate_of), hello).await
    }

    pub async fn connect_to(
        address: SocketAddr,
        files: &proto::tls::Files,
        hello: Hello,
    ) -> Result<(Self, Welcome), Status> {
        let tls = proto::tls::client_config(files).unwrap();
        let channel = channel(address, tls).await.unwrap();
        let (to, mut from) = open(channel, vec![agent_message::Body::Hello(hello)]).await?;
        match from.message().await?.and_then(|message| message.body) {
            Some(Body::Welcome(welcome)) => {
                let next = welcome.acked_seq + 1;
                Ok((Self { to, from, next }, welcome))
            }
            other => panic!("no welcome but {other:?}"),
        }
    }

    /// Sends the next batch and waits until it is acknowledged.
    pub async fn report(&mut self, sections: Vec<Section>) -> u64 {
        let seq = self.next;
        self.next += 1;
        let acked = self.send(seq, sections).await.unwrap();
        assert_eq!(acked, seq);
        seq
    }

    /// Sends a batch with any number; returns the number that is acknowledged.
    pub async fn send(&mut self, seq: u64, sections: Vec<Section>) -> Result<u64, Status> {
        let sent_unix_ns =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
                as u64;
        let batch = Batch { seq, sent_unix_ns, sections, ..Batch::default() };
        self.send_batch(batch).await?;
        self.acknowledged().await
    }

    /// Sends a batch of a preface.
    pub async fn preface(&mut self, seq: u64, more: bool, sections: Vec<Section>) {
        let batch = Batch { seq, sections, preface: true, more, ..Batch::default() };
        self.send_batch(batch).await.unwrap();
    }

    /// Sends the next batch without waiting.
    pub async fn post(&mut self, sections: Vec<Section>) {
        let seq = self.next;
        self.next += 1;
        self.send_batch(Batch { seq, sections, ..Batch::default() }).await.unwrap();
    }

    /// Waits until no more than so many batches are not acknowledged.
    pub async fn catch_up(&mut self, unacknowledged: u64, acked: &mut u64) {
        while *acked + unacknowledged + 1 < self.next {
            *acked = self.acknowledged().await.unwrap();
        }
    }

    async fn send_batch(&self, batch: Batch) -> Result<(), Status> {
        let body = Some(agent_message::Body::Batch(batch));
        self.to
            .send(AgentMessage { body })
            .await
            .map_err(|_| Status::new(Code::Unknown, "the stream is closed"))
    }

    /// Waits for an acknowledgement.
    pub async fn acknowledged(&mut self) -> Result<u64, Status> {
        loop {
            let Some(message) = self.from.message().await? else {
                return Err(Status::unknown("the stream has ended"));
            };
            match message.body {
                Some(Body::Ack(ack)) => return Ok(ack.seq),
                Some(Body::Resolve(_) | Body::Split(_)) => {}
                other => panic!("no acknowledgement but {other:?}"),
            }
        }
    }

    /// Waits for a question.
    pub async fn question(&mut self) -> Resolve {
        match self.from.message().await.unwrap().and_then(|message| message.body) {
            Some(Body::Resolve(resolve)) => resolve,
            other => panic!("no question but {other:?}"),
        }
    }

    /// Waits for the stream to end; returns how it did.
    pub async fn ended(&mut self) -> Status {
        let end = async {
            loop {
                match self.from.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Status::ok(""),
                    Err(status) => return status,
                }
            }
        };
        tokio::time::timeout(PATIENCE, end).await.unwrap()
    }
}

pub fn section(kind: SectionKind, payload: &impl Message) -> Section {
    Section { kind: kind as u32, payload: payload.encode_to_vec().into() }
}
