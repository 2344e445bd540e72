//! Opening a stream.

use std::sync::Arc;

use proto::v1::{AgentMessage, AggregatorMessage, ingest_server::Ingest};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{connection::Peer, stream::StreamTask};
use crate::state::Shared;

/// Messages that wait to be sent to an agent. When it does not read them, its batches wait.
const OUTGOING: usize = 16;

pub(super) struct IngestService {
    shared: Arc<Shared>,
    trust_domain: Option<String>,
    shutdown: watch::Receiver<bool>,
}

impl IngestService {
    pub(super) fn new(
        shared: Arc<Shared>,
        trust_domain: Option<String>,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Self { shared, trust_domain, shutdown }
    }

    /// The node that a connection's certificate stands for.
    fn node_of(&self, peer: &Peer) -> Result<String, Status> {
        let Some(node) = &peer.identity.node else {
            return Err(Status::permission_denied("the certificate is not that of a node"));
        };
        match &self.trust_domain {
            Some(domain) if *domain != node.trust_domain => {
                Err(Status::permission_denied(format!(
                    "the certificate is of trust domain {}, this aggregator serves {domain}",
                    node.trust_domain
                )))
            }
            _ => Ok(node.name.clone()),
        }
    }
}

#[tonic::async_trait]
impl Ingest for IngestService {
    type StreamStream = ReceiverStream<Result<AggregatorMessage, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the connection has no identity"))?;
        let node = self.node_of(&peer).inspect_err(|_| {
            self.shared.metrics.streams_refused.with_label_values(&["identity"]).inc();
        })?;
        let (outgoing, receiver) = mpsc::channel(OUTGOING);
        let in_use = peer.activity.begin();
        let task = StreamTask {
            shared: Arc::clone(&self.shared),
            peer,
            node,
            incoming: request.into_inner(),
            outgoing,
            shutdown: self.shutdown.clone(),
        };
        // A task of its own: it takes in what has arrived also when the connection that it came by is gone.
        tokio::spawn(async move {
            task.run().await;
            drop(in_use);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
