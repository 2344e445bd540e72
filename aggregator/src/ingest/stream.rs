//! The task of one stream: hello, welcome, then batches and acknowledgements.

use std::{sync::Arc, time::Duration};

use proto::{
    MAX_TUPLES, PROTOCOL_VERSION,
    convert::Hello,
    v1::{
        Ack, AgentMessage, AggregatorMessage, Batch, Resolve, Welcome, agent_message,
        aggregator_message::Body,
    },
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::{Status, Streaming};
use topology::{AgentFacts, Connection, Incarnation, model::Tuple};

use super::{apply, batch::Prepared, connection::Peer, tables::Tables};
use crate::{clock, state::Shared};

/// How long the first message may take.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct StreamTask {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Peer,
    /// Name in the certificate.
    pub(super) node: String,
    pub(super) incoming: Streaming<AgentMessage>,
    pub(super) outgoing: mpsc::Sender<Result<AggregatorMessage, Status>>,
    pub(super) shutdown: watch::Receiver<bool>,
}

/// A node that is connected for as long as this lives, however the task ends.
struct Present {
    shared: Arc<Shared>,
    connection: Connection,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.shared.metrics.streams.dec();
        self.shared.graph().node_disconnected(self.connection, clock::now());
    }
}

/// How often an agent that has nothing to report is asked what the graph wants to know.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What belongs to the stream once the agent is let in.
struct Open {
    present: Present,
    session: u64,
    tables: Tables,
    /// Last batch seen on this stream.
    seen: u64,
    replaced: Arc<Notify>,
}

/// What an open stream does next.
enum Next {
    Message(Option<AgentMessage>),
    Ask,
}

impl StreamTask {
    pub(super) async fn run(mut self) {
        let address = self.peer.address;
        match self.serve().await {
            Ok(()) => tracing::info!(node = self.node, %address, "agent disconnected"),
            Err(status) => {
                let (code, reason) = (status.code(), status.message().to_owned());
                tracing::warn!(node = self.node, %address, ?code, reason, "agent's stream ended");
                // The agent may be gone already.
                let _ = self.outgoing.send(Err(status)).await;
            }
        }
    }

    async fn serve(&mut self) -> Result<(), Status> {
        let hello = match timeout(HELLO_TIMEOUT, self.incoming.message()).await {
            Ok(message) => self.hello(message?)?,
            Err(_) => return Err(Status::deadline_exceeded("no hello came")),
        };
        let mut open = self.connect(hello)?;
        let welcome = Body::Welcome(Welcome {
            aggregator_version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.shared.instance,
            acked_seq: self.shared.sessions.applied(&self.node, open.session),
        });
        if !self.send(welcome).await {
            return Ok(());
        }
        let replaced = Arc::clone(&open.replaced);
        let mut ask = interval(ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                message = self.incoming.message() => Next::Message(message?),
                _ = ask.tick() => Next::Ask,
                () = replaced.notified() => {
                    return Err(Status::aborted("a later stream of this agent took its place"));
                }
                _ = self.shutdown.wait_for(|stop| *stop) => {
                    return Err(Status::unavailable("the aggregator is shutting down"));
                }
            };
            let answers = match next {
                Next::Message(None) => return Ok(()),
                Next::Message(Some(AgentMessage {
                    body: Some(agent_message::Body::Batch(batch)),
                })) => self.apply(&mut open, batch)?,
                Next::Message(Some(_)) => return Err(Status::invalid_argument("expected a batch")),
                Next::Ask => {
                    let node = open.present.connection.node;
                    let questions = self.shared.graph().take_questions(node);
                    resolves(&questions).collect()
                }
            };
            for body in answers {
                if !self.send(body).await {
                    return Ok(());
                }
            }
        }
    }

    /// Sends a message; false when the agent is gone.
    async fn send(&self, body: Body) -> bool {
        self.outgoing.send(Ok(AggregatorMessage { body: Some(body) })).await.is_ok()
    }

    fn hello(&self, message: Option<AgentMessage>) -> Result<Hello, Status> {
        let Some(agent_message::Body::Hello(hello)) = message.and_then(|message| message.body)
        else {
            return Err(self.refuse("hello", Status::invalid_argument("expected a hello first")));
        };
        // The version goes first: of another one, nothing else can be relied on.
        if hello.protocol_version != PROTOCOL_VERSION {
            let older =
                if hello.protocol_version < PROTOCOL_VERSION { "agent" } else { "aggregator" };
            let message = format!(
                "the agent speaks version {} of the protocol, the aggregator version \
                 {PROTOCOL_VERSION}: upgrade the {older}",
                hello.protocol_version
            );
            return Err(self.refuse("protocol", Status::failed_precondition(message)));
        }
        let hello = Hello::try_from(hello).map_err(|error| {
            self.refuse("hello", Status::invalid_argument(format!("hello: {error}")))
        })?;
        if hello.node != self.node {
            let message = format!(
                "the agent calls itself {:?}, but its certificate is that of node {:?}",
                hello.node, self.node
            );
            return Err(self.refuse("identity", Status::permission_denied(message)));
        }
        Ok(hello)
    }

    fn refuse(&self, reason: &str, status: Status) -> Status {
        self.shared.metrics.streams_refused.with_label_values(&[reason]).inc();
        status
    }

    fn connect(&self, hello: Hello) -> Result<Open, Status> {
        let incarnation = Incarnation {
            boot_id: hello.boot_id,
            generation: hello.generation,
            session: hello.session,
        };
        let facts = AgentFacts {
            version: hello.agent_version,
            kernel: hello.kernel,
            from: self.peer.address.to_string(),
        };
        let connected =
            self.shared.graph().node_connected(&self.node, incarnation, facts, clock::now());
        let connection = connected
            .map_err(|error| self.refuse("name", Status::already_exists(error.to_string())))?;
        self.shared.metrics.streams.inc();
        let present = Present { shared: Arc::clone(&self.shared), connection };
        let replaced = self.shared.sessions.begin(&self.node, hello.session);
        tracing::info!(node = self.node, address = %self.peer.address, "agent connected");
        Ok(Open { present, session: hello.session, tables: Tables::default(), seen: 0, replaced })
    }

    /// Takes over a batch; returns what is to be sent then.
    fn apply(&self, open: &mut Open, batch: Batch) -> Result<Vec<Body>, Status> {
        let metrics = &self.shared.metrics;
        let (seq, sent_unix_ns) = (batch.seq, batch.sent_unix_ns);
        if seq == 0 {
            return Err(Status::invalid_argument("batches are numbered from 1"));
        }
        let (preface, more) = (batch.preface, batch.more);
        if seq <= open.seen && !preface {
            metrics.batches_replayed.inc();
            return Ok(vec![Body::Ack(Ack { seq: open.seen })]);
        }
        let prepared = Prepared::read(batch).map_err(|error| {
            Status::invalid_argument(format!("batch {seq} cannot be read: {error}"))
        })?;
        metrics.sections_unknown.inc_by(prepared.unknown);
        let (connection, now) = (open.present.connection, clock::now());
        let timer = metrics.apply_seconds.start_timer();
        let mut graph = self.shared.graph();
        if !graph.is_current(connection) {
            return Err(Status::aborted("a later stream of this agent took its place"));
        }
        graph.node_heard(connection.node, skew_seconds(sent_unix_ns, now.unix_ns()), now);
        let applied = self.shared.sessions.applied(&self.node, open.session);
        // What came on an earlier stream is not missing, and a stream may begin anywhere: it
        // begins with totals, and what a preface passes over is in its totals.
        let missing = match open.seen {
            0 => 0,
            _ if preface => 0,
            seen => (seq - 1).saturating_sub(seen.max(applied)),
        };
        if missing > 0 {
            graph.add_loss(connection.node, "batches_missing", missing);
        }
        let mut applier = apply::Applier {
            graph: &mut graph,
            tables: &mut open.tables,
            node: connection.node,
            now,
            certificate_expires_unix_s: self.peer.identity.not_after_unix_s,
            tally: apply::Tally::default(),
        };
        let outcome = applier.batch(prepared, seq <= applied);
        let tally = applier.tally;
        tally.report(&mut graph, connection.node);
        let questions = graph.take_questions(connection.node);
        outcome.map_err(|error| {
            Status::invalid_argument(format!("batch {seq} cannot be read: {error}"))
        })?;
        if !more {
            open.seen = open.seen.max(seq);
            self.shared.sessions.set_applied(&self.node, open.session, seq);
        }
        drop(graph);
        timer.observe_duration();
        tally.count(metrics);
        if seq <= applied {
            metrics.batches_replayed.inc()
        } else {
            metrics.batches.inc()
        }
        let acknowledged = (!more).then_some(Body::Ack(Ack { seq: open.seen }));
        Ok(acknowledged.into_iter().chain(resolves(&questions)).collect())
    }
}

/// Questions as messages.
fn resolves(questions: &[Tuple]) -> impl Iterator<Item = Body> {
    questions.chunks(MAX_TUPLES).map(|tuples| {
        Body::Resolve(Resolve { tuples: tuples.iter().map(|tuple| (*tuple).into()).collect() })
    })
}

/// How far the agent's clock is ahead, `None` when it did not say.
fn skew_seconds(sent_unix_ns: u64, now_unix_ns: u64) -> Option<f64> {
    let ahead = i128::from(sent_unix_ns) - i128::from(now_unix_ns);
    (sent_unix_ns != 0).then_some(ahead as f64 / 1e9)
}
