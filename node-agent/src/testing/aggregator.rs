//! An aggregator on loopback, over real mTLS.

use std::{
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use proto::{
    tls,
    v1::{
        Ack, Address, AgentMessage, AggregatorMessage, Endpoint, Hello, Resolve, Split, Tuple,
        Welcome, agent_message, aggregator_message,
        ingest_server::{Ingest, IngestServer},
    },
};
use tokio::{io::copy_bidirectional, net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::{pki::Pki, receiver::Receiver};
use crate::config::AggregatorAddress;

/// What an aggregator does with a stream, in the order of the streams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// Welcomes, asks one question, applies and acknowledges each batch.
    Good,
    /// Welcomes and closes.
    Closes,
    /// As a good one, and closes after so many batches.
    Leaves(usize),
    /// Answers with something else than a welcome.
    Rude,
    /// Welcomes, and acknowledges nothing, as one does whose disk is full.
    Withholds,
    /// Refuses.
    Refuses,
    /// Refuses for its version.
    Newer,
    /// Welcomes, and speaks the next version of the protocol.
    Next,
    /// As a good one, of a later minor version: it says things that the agent has never heard of.
    Later,
    /// Welcomes, and finds fault with the first batch.
    Finicky,
}

struct Service {
    manners: Mutex<std::vec::IntoIter<Manner>>,
    hellos: mpsc::Sender<Hello>,
    receiver: Arc<Mutex<Receiver>>,
}

/// The test's handle.
pub(crate) struct Aggregator {
    pub(crate) listens: SocketAddr,
    pub(crate) hellos: mpsc::Receiver<Hello>,
    receiver: Arc<Mutex<Receiver>>,
}

impl Aggregator {
    /// Listens; the streams after those with a manner of their own are good.
    pub(crate) async fn start(pki: &Pki, manners: Vec<Manner>, receiver: Receiver) -> Self {
        Self::start_at(pki.path(), manners, receiver).await
    }

    /// The same, with the files of a folder.
    pub(crate) async fn start_at(pki: &Path, manners: Vec<Manner>, receiver: Receiver) -> Self {
        let files = tls::Files {
            ca: pki.join("ca.crt"),
            cert: pki.join("aggregator.crt"),
            key: pki.join("aggregator.key"),
        };
        let acceptor = TlsAcceptor::from(tls::Server::read(&files, None).unwrap().config);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let listens = listener.local_addr().unwrap();
        let connections = TcpListenerStream::new(listener).then(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let mut encrypted = acceptor.accept(stream?).await?;
                let (near, mut far) = tokio::io::duplex(1 << 16);
                tokio::spawn(async move { copy_bidirectional(&mut encrypted, &mut far).await });
                Ok::<_, std::io::Error>(near)
            }
        });
        let (sender, hellos) = mpsc::channel(16);
        let receiver = Arc::new(Mutex::new(receiver));
        let service = Service {
            manners: Mutex::new(manners.into_iter()),
            hellos: sender,
            receiver: Arc::clone(&receiver),
        };
        tokio::spawn(async move {
            let mut server = tonic::transport::Server::builder();
            let server = server.add_service(IngestServer::new(service));
            server.serve_with_incoming(connections.filter(Result::is_ok)).await
        });
        Self { listens, hellos, receiver }
    }

    /// Its address, by the name in its certificate.
    pub(crate) fn address(&self) -> AggregatorAddress {
        AggregatorAddress { host: "localhost".to_owned(), port: self.listens.port() }
    }

    /// What it has received.
    pub(crate) fn receiver(&self) -> MutexGuard<'_, Receiver> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl Ingest for Service {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<AggregatorMessage, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let manner = self.manners.lock().unwrap().next().unwrap_or(Manner::Good);
        let mut incoming = request.into_inner();
        let Some(agent_message::Body::Hello(hello)) = incoming.message().await?.unwrap().body
        else {
            panic!("the first message is a hello");
        };
        self.hellos.send(hello).await.unwrap();
        let say = |body| Ok(AggregatorMessage { body: Some(body) });
        let acked_seq = self.receiver.lock().unwrap().restart();
        let welcome = Welcome {
            aggregator_version: "t".to_owned(),
            instance: 1,
            acked_seq,
            // An older one does not say.
            protocol_version: match manner {
                Manner::Next => proto::PROTOCOL_VERSION + 1,
                Manner::Later => proto::PROTOCOL_VERSION,
                _ => 0,
            },
            protocol_minor: if manner == Manner::Later { proto::PROTOCOL_MINOR + 1 } else { 0 },
        };
        let welcome = say(aggregator_message::Body::Welcome(welcome));
        let ack = move |seq| say(aggregator_message::Body::Ack(Ack { seq }));
        Ok(Response::new(match manner {
            Manner::Refuses => return Err(Status::permission_denied("no such node\nat all")),
            Manner::Newer => {
                return Err(Status::failed_precondition("version 1, not 2: upgrade the agent"));
            }
            Manner::Finicky => {
                let fault = incoming.map(|_| Err(Status::invalid_argument("no batch")));
                Box::pin(tokio_stream::once(welcome).chain(fault))
            }
            Manner::Withholds => {
                let nothing = incoming.map(move |_| ack(0));
                Box::pin(tokio_stream::once(welcome).chain(nothing))
            }
            Manner::Closes => Box::pin(tokio_stream::once(welcome)),
            Manner::Rude => Box::pin(tokio_stream::once(ack(1))),
            Manner::Good | Manner::Leaves(_) | Manner::Next | Manner::Later => {
                let most = if let Manner::Leaves(most) = manner { most } else { usize::MAX };
                let receiver = Arc::clone(&self.receiver);
                let acks =
                    incoming.take(most).filter_map(move |message| match message.ok()?.body? {
                        agent_message::Body::Batch(batch) => {
                            let acked = receiver.lock().unwrap().apply(&batch);
                            (!batch.more).then(|| ack(acked))
                        }
                        agent_message::Body::Hello(_) => None,
                    });
                // What a later version says in a way of its own arrives as nothing.
                let newer = [say(split()), Ok(AggregatorMessage::default())];
                let newer = newer.into_iter().filter(move |_| manner == Manner::Later);
                let first = [welcome, say(question())].into_iter().chain(newer);
                Box::pin(tokio_stream::iter(first).chain(acks))
            }
        }))
    }
}

/// Two connections, of which one makes no sense.
fn question() -> aggregator_message::Body {
    let address = |last| Some(Address { ip: vec![10, 0, 0, last], scope: None });
    let good =
        Tuple { client: address(1), client_port: 4_000, server: address(2), server_port: 80 };
    let bad = Tuple { client: None, ..good.clone() };
    aggregator_message::Body::Resolve(Resolve { tuples: vec![bad, good] })
}

/// Two servers, of which one makes no sense.
fn split() -> aggregator_message::Body {
    let address = Some(Address { ip: vec![10, 0, 0, 2], scope: None });
    let endpoints = vec![Endpoint { address: None, port: 80 }, Endpoint { address, port: 80 }];
    aggregator_message::Body::Split(Split { endpoints })
}
