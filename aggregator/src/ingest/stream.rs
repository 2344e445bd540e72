//! The task of one stream: hello, welcome, then batches and acknowledgements.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message;
use proto::{
    PROTOCOL_MINOR, PROTOCOL_VERSION,
    convert::Hello,
    misunderstanding,
    v1::{
        Ack, AgentMessage, AggregatorMessage, Batch, Welcome, agent_message,
        aggregator_message::Body,
    },
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};
use tonic::{Status, Streaming};
use topology::{AgentFacts, Connection, Incarnation};

use super::{connection::Peer, limits::Limits};
use crate::{
    core::{Prepared, Questions, Refused},
    state::Shared,
};

/// How long the first message may take.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// An agent whose batches cannot be acknowledged for this long is told so, by what it was told last. It would take
/// silence for a stream that hangs.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// How often an agent that has nothing to report is asked what the graph wants to know. Longer than the interval of
/// one that reports, so that it is not woken between its reports.
const ASK_EVERY: Duration = Duration::from_millis(1_500);

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
    node: String,
    connection: Connection,
    replaced: Arc<Notify>,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.shared.metrics.streams.dec();
        self.shared.streams.end(&self.node, &self.replaced);
        let now = self.shared.now();
        self.shared.core().disconnect(self.connection, now);
    }
}

/// Batches that are taken over and wait to be acknowledged: position in the journal, number, and since when.
#[derive(Default)]
struct Waiting(VecDeque<(u64, u64, Instant)>);

impl Waiting {
    fn push(&mut self, position: u64, seq: u64) {
        self.0.push_back((position, seq, Instant::now()));
    }

    /// The position that the next acknowledgement waits for.
    fn next(&self) -> Option<u64> {
        self.0.front().map(|(position, ..)| *position)
    }

    /// What can be acknowledged once the journal has everything up to a position.
    fn take(&mut self, durable: u64) -> Option<u64> {
        let due = self.0.iter().take_while(|(position, ..)| *position <= durable).count();
        self.0.drain(..due).next_back().map(|(_, seq, _)| seq)
    }

    /// Whether something has waited for this long.
    fn is_late(&self, by: Duration) -> bool {
        self.0.front().is_some_and(|(.., since)| since.elapsed() >= by)
    }
}

/// What an open stream does next.
enum Next {
    Message(Option<AgentMessage>),
    Acknowledge(u64),
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
        self.shared.held().soon().await;
        let (present, acked_seq, position) = self.connect(hello)?;
        // What is said to be taken over must be so for good. Nothing said costs nothing: what comes again is
        // acknowledged once it is.
        let is_durable = self.shared.until_durable(position).await;
        let acked_seq = if is_durable { acked_seq } else { 0 };
        let welcome = Body::Welcome(Welcome {
            aggregator_version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.shared.store.instance(),
            acked_seq,
            protocol_version: PROTOCOL_VERSION,
            protocol_minor: PROTOCOL_MINOR,
        });
        let ended = self.talk(&present, welcome, acked_seq).await;
        // The state takes note of the end.
        self.shared.held().soon().await;
        drop(present);
        ended
    }

    /// Welcomes the agent, takes its batches and acknowledges them, until the stream ends.
    async fn talk(
        &mut self,
        present: &Present,
        welcome: Body,
        acked_seq: u64,
    ) -> Result<(), Status> {
        if !self.send(welcome).await {
            return Ok(());
        }
        let mut durable = self.shared.store.journal().durable();
        let mut waiting = Waiting::default();
        let rate = self.shared.budget.stream_bytes_per_second;
        let mut limits = Limits::new(rate, Instant::now());
        let mut told = (acked_seq, Instant::now());
        let mut ask = interval(ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Waits once, not anew for each batch: all streams wait for the same.
        let mut over = pin!(over(&present.replaced, self.shutdown.clone()));
        loop {
            let due = waiting.next();
            let next = tokio::select! {
                biased;
                status = &mut over => return Err(status),
                Ok(durable) = durable.wait_for(|at| due.is_some_and(|due| due <= *at)),
                    if due.is_some() => Next::Acknowledge(*durable),
                // What came too fast has to wait before there is more.
                message = async {
                    if limits.resume > Instant::now() {
                        sleep_until(limits.resume.into()).await;
                    }
                    self.incoming.message().await
                } => Next::Message(message?),
                _ = ask.tick() => Next::Ask,
            };
            if matches!(next, Next::Message(Some(_)) | Next::Ask) {
                self.shared.held().soon().await;
            }
            let questions = match next {
                Next::Message(None) => return Ok(()),
                Next::Message(Some(AgentMessage {
                    body: Some(agent_message::Body::Batch(batch)),
                })) => {
                    // Its answer has the questions there are.
                    ask.reset();
                    self.apply(present, batch, &mut waiting, &mut limits)?
                }
                Next::Message(Some(_)) => return Err(Status::invalid_argument("expected a batch")),
                Next::Acknowledge(durable) => {
                    if let Some(seq) = waiting.take(durable) {
                        told = (seq, Instant::now());
                        if !self.send(Body::Ack(Ack { seq })).await {
                            return Ok(());
                        }
                    }
                    continue;
                }
                Next::Ask => {
                    let now = self.shared.now();
                    self.shared.core().take_questions(present.connection.node, now)
                }
            };
            let (seq, at) = told;
            if waiting.is_late(TOLD_EVERY) && at.elapsed() >= TOLD_EVERY {
                told.1 = Instant::now();
                if !self.send(Body::Ack(Ack { seq })).await {
                    return Ok(());
                }
            }
            for question in questions.messages() {
                if !self.send(question).await {
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
        if let Some(message) = misunderstanding(hello.protocol_version, PROTOCOL_VERSION) {
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

    /// Lets the agent in. Also returns its last batch that was taken over, and where the journal has all that.
    fn connect(&self, hello: Hello) -> Result<(Present, u64, u64), Status> {
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
        let (connection, acked, position) = {
            let mut core = self.shared.core();
            let connected =
                core.connect(&self.node, incarnation, facts, hello.interval, self.shared.now());
            let (connection, acked) = connected
                .map_err(|error| self.refuse("name", Status::already_exists(error.to_string())))?;
            (connection, acked, core.position())
        };
        self.shared.metrics.streams.inc();
        let present = Present {
            shared: Arc::clone(&self.shared),
            node: self.node.clone(),
            connection,
            replaced: self.shared.streams.begin(&self.node),
        };
        tracing::info!(node = self.node, address = %self.peer.address, "agent connected");
        Ok((present, acked, position))
    }

    /// Takes over a batch; returns what the graph wants to know.
    fn apply(
        &self,
        present: &Present,
        batch: Batch,
        waiting: &mut Waiting,
        limits: &mut Limits,
    ) -> Result<Questions, Status> {
        let metrics = &self.shared.metrics;
        let (seq, more) = (batch.seq, batch.more);
        let bytes = batch.encode_to_vec();
        let prepared = Prepared::read(batch).map_err(|error| {
            Status::invalid_argument(Refused::Unreadable(seq, error).to_string())
        })?;
        metrics.sections_unknown.inc_by(prepared.unknown);
        metrics.batch_bytes.inc_by(bytes.len() as u64);
        let timer = metrics.apply_seconds.start_timer();
        let expires = self.peer.identity.not_after_unix_s;
        let applied = {
            let mut core = self.shared.core();
            core.batch(present.connection, prepared, &bytes, expires, self.shared.now())
        };
        timer.observe_duration();
        let applied = applied.map_err(|refused| {
            let message = refused.to_string();
            match refused {
                Refused::Replaced => Status::aborted(message),
                Refused::Unnumbered | Refused::Unreadable(..) => Status::invalid_argument(message),
            }
        })?;
        applied.tally.count(metrics);
        self.limit(limits, bytes.len(), applied.folded);
        if applied.replayed { &metrics.batches_replayed } else { &metrics.batches }.inc();
        if !more {
            waiting.push(applied.position, applied.seq);
        }
        Ok(applied.questions)
    }

    /// Sees to it that one node does not take what is everybody's.
    fn limit(&self, limits: &mut Limits, bytes: usize, folded: u64) {
        let (node, now) = (&self.node, Instant::now());
        if let Some(wait) = limits.spend(bytes, now) {
            self.shared.streams.hold_up(node, wait);
            self.shared.metrics.streams_held_up_seconds.inc_by(wait.as_secs_f64());
            if limits.too_fast.is_news(now) {
                tracing::warn!(node, "an agent reports faster than allowed and is read later");
            }
        }
        if folded > 0 && limits.no_room.is_news(now) {
            tracing::warn!(
                node,
                "an agent reports more than its node has room for: the rest counts for `other`"
            );
        }
    }
}

/// Ends when the stream is to end, and says why.
async fn over(replaced: &Notify, mut shutdown: watch::Receiver<bool>) -> Status {
    tokio::select! {
        () = replaced.notified() => Status::aborted("a later stream of this agent took its place"),
        _ = shutdown.wait_for(|stop| *stop) => {
            Status::unavailable("the aggregator is shutting down")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_durable_is_acknowledged() {
        let mut waiting = Waiting::default();
        assert_eq!((waiting.next(), waiting.take(9)), (None, None));
        for (position, seq) in [(10, 1), (20, 2), (30, 3)] {
            waiting.push(position, seq);
        }
        assert_eq!((waiting.next(), waiting.take(9)), (Some(10), None));
        assert_eq!(waiting.take(25), Some(2));
        assert_eq!((waiting.next(), waiting.take(30)), (Some(30), Some(3)));
    }
}
