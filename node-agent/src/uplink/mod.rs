//! The stream to an aggregator: one at a time, made anew whenever it breaks.
//!
//! The uplink knows nothing of what a batch holds. It hands the sending end of each new stream to
//! the collector, together with the number up to which the aggregator has taken over the
//! session's batches; what to send then is the collector's matter. What earlier sessions left in files
//! it delivers itself, before that.
//!
//! Of several aggregators the first is preferred: the others are tried in turn when a stream breaks,
//! and while one of them is in charge the first is asked now and then. Only when it has
//! welcomed the session is the other stream given up.

mod connect;
mod credentials;
mod deliver;
mod record;

use std::{collections::VecDeque, fs::File, io::Read as _, time::Duration};

use proto::{
    reconnect::{Backoff, CONNECT_TIME},
    v1::{self, agent_message, aggregator_message},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Streaming};
use topology::model::{Endpoint, Tuple};

use crate::{config::AggregatorAddress, metrics::Metrics, queue::leftover::Leftover};
use connect::ConnectError;

pub use credentials::Credentials;
pub use deliver::Patience;
pub use record::Recorder;

/// Batches waiting for the network. The collector holds back what does not fit.
const BATCHES_WAITING: usize = 4;

/// Events waiting for the collector. When it is busy, the uplink waits, and the aggregator's
/// acknowledgements with it.
pub const EVENTS_WAITING: usize = 64;

/// The preferred aggregator is asked this often while another one is in charge; the second half is
/// drawn.
const PREFERRED_EVERY: Duration = Duration::from_secs(8);

/// Versions that do not fit will not fit in a moment.
const INCOMPATIBLE_WAIT: Duration = Duration::from_secs(60);

/// What the collector hears.
#[derive(Debug)]
pub enum Event {
    /// A stream begins.
    Up(Stream),
    /// Every batch up to this one is taken over.
    Acked(u64),
    /// Whose were these connections?
    Asked(Vec<Tuple>),
    /// Connections to these are to be told apart.
    Split(Vec<Endpoint>),
    /// The stream ended.
    Down,
}

/// The sending end of a stream.
#[derive(Debug)]
pub struct Stream {
    /// The last batch of this session that the aggregator has taken over.
    pub acked: u64,
    /// Takes batches.
    pub batches: mpsc::Sender<v1::AgentMessage>,
    /// End of the agent's certificate, in seconds since the epoch.
    pub certificate_expires_unix_s: i64,
    /// Dropping or using it breaks the stream.
    pub hang_up: oneshot::Sender<()>,
}

/// Why a stream ended, or never began.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("{0}")]
    Incompatible(String),
    #[error("{}", status_line(.0))]
    Refused(Box<tonic::Status>),
    #[error("the aggregator broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the aggregator closed the stream")]
    Closed,
    #[error("batches were not acknowledged in time")]
    HungUp,
    #[error("the node has a new certificate")]
    Renewed,
    #[error("what an earlier process left is due")]
    LeftoverDue,
    #[error("what an earlier process left is not acknowledged")]
    Unacknowledged,
    #[error("the collector is gone")]
    NoCollector,
}

impl From<tonic::Status> for StreamError {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            // The aggregator says which of the two to upgrade.
            Code::FailedPrecondition => Self::Incompatible(first_line(&status).to_owned()),
            _ => Self::Refused(Box::new(status)),
        }
    }
}

fn status_line(status: &tonic::Status) -> String {
    format!("{}: {}", status.code(), first_line(status))
}

fn first_line(status: &tonic::Status) -> &str {
    status.message().lines().next().unwrap_or_default()
}

/// A stream whose `Hello` was welcomed.
struct Open {
    incoming: Streaming<v1::AggregatorMessage>,
    batches: mpsc::Sender<v1::AgentMessage>,
    acked: u64,
    certificate_expires_unix_s: i64,
}

/// Keeps a stream up.
#[derive(Debug)]
pub struct Uplink {
    /// Where to, the preferred one first; at least one.
    pub aggregators: Vec<AggregatorAddress>,
    /// Certificate, key and CA.
    pub credentials: Credentials,
    /// First message of each stream of this session.
    pub hello: v1::Hello,
    /// What earlier sessions left, the oldest first.
    pub leftovers: VecDeque<Leftover>,
    /// How long they are tried for.
    pub patience: Patience,
    /// Takes down what is sent.
    pub recorder: Option<Recorder>,
    /// To the collector; of [`EVENTS_WAITING`].
    pub events: mpsc::Sender<Event>,
    /// Counted into.
    pub metrics: Metrics,
}

impl Uplink {
    /// Runs until `shutdown` resolves or the collector is gone.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let metrics = self.metrics.clone();
        tokio::select! {
            () = self.keep_up() => {}
            () = shutdown => {}
        }
        metrics.connected.set(0);
    }

    async fn keep_up(&mut self) {
        let (mut backoff, mut postponed) = (Backoff::default(), None);
        let (mut at, mut failed) = (0, 0);
        let mut said = String::new();
        loop {
            let (mut used, mut welcomed) = (at, None);
            let opening = backoff.patience(self.aggregators.len() > 1);
            let attempt = self.attempt(&mut used, opening, &mut welcomed, &mut postponed);
            let error = match attempt.await {
                Ok(()) => continue,
                Err(StreamError::NoCollector) => return,
                Err(error) => error,
            };
            self.metrics.connected.set(0);
            if matches!(error, StreamError::Renewed) {
                tracing::info!("the node has a new certificate: connecting with it");
            }
            if matches!(error, StreamError::Renewed | StreamError::LeftoverDue) {
                at = used;
                continue;
            }
            self.metrics.disconnects.inc();
            failed += 1;
            if welcomed.is_some_and(|welcomed: Instant| backoff.ended(welcomed.elapsed())) {
                failed = 1;
            }
            at = (used + 1) % self.aggregators.len().max(1);
            // The others are tried at once.
            let wait = if failed < self.aggregators.len() {
                Duration::ZERO
            } else {
                backoff.next(random())
            };
            let Some(aggregator) = self.aggregators.get(used) else { return };
            let retry_ms = wait.as_millis() as u64;
            let wait = match &error {
                StreamError::Incompatible(reason) if self.aggregators.len() == 1 => {
                    if *reason != said {
                        tracing::error!(%aggregator, "not reporting: {reason}");
                        said.clone_from(reason);
                    }
                    INCOMPATIBLE_WAIT
                }
                error => {
                    tracing::warn!(%aggregator, retry_ms, "no stream to the aggregator: {error}");
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.credentials.renewed() => {}
            }
        }
    }

    /// One stream, from the connection to its end, or one leftover that is delivered. `at` follows
    /// when the preferred aggregator takes over; leftovers are not tried before `postponed`.
    async fn attempt(
        &mut self,
        at: &mut usize,
        opening: Duration,
        welcomed: &mut Option<Instant>,
        postponed: &mut Option<Instant>,
    ) -> Result<(), StreamError> {
        let now = Instant::now();
        if let Some(leftover) = self.leftovers.front()
            && postponed.is_none_or(|until| until <= now)
        {
            let open = self.open(*at, leftover.hello(), opening).await?;
            *welcomed = Some(Instant::now());
            let delivered = self.deliver(open, leftover).await;
            return self.delivered(delivered, postponed);
        }
        let mut open = self.open(*at, &self.hello, opening).await?;
        *welcomed = Some(Instant::now());
        loop {
            let served = self.serve(*at, open, *postponed).await;
            self.tell(Event::Down).await?;
            open = served?;
            *at = 0;
        }
    }

    /// Connects and introduces a session.
    async fn open(
        &self,
        at: usize,
        hello: &v1::Hello,
        patience: Duration,
    ) -> Result<Open, StreamError> {
        let address = self.aggregators.get(at).ok_or(StreamError::Protocol("no aggregator"))?;
        let certificate_expires_unix_s = self.credentials.expires_unix_s();
        let begin = Instant::now();
        let connecting = connect::connect(address, self.credentials.config());
        let connected = timeout(CONNECT_TIME + patience, connecting).await;
        let mut client = connected.map_err(|_| StreamError::Silent(patience))??;
        let (batches, outgoing) = mpsc::channel(BATCHES_WAITING);
        let ours = hello.protocol_version;
        let hello = agent_message::Body::Hello(hello.clone());
        let hello = v1::AgentMessage { body: Some(hello) };
        batches.send(hello).await.map_err(|_| StreamError::Closed)?;
        let recorder = self.recorder.clone();
        let outgoing = ReceiverStream::new(outgoing).map(move |message| {
            recorder.iter().for_each(|recorder| recorder.note(&message));
            message
        });
        let greeting = async {
            let response = client.stream(outgoing).await?;
            let mut incoming = response.into_inner();
            let first = incoming.message().await?.ok_or(StreamError::Closed)?;
            Ok::<_, StreamError>((incoming, first))
        };
        let left = (CONNECT_TIME + patience).saturating_sub(begin.elapsed());
        let greeting = timeout(left, greeting).await;
        let (incoming, first) = greeting.map_err(|_| StreamError::Silent(patience))??;
        let Some(aggregator_message::Body::Welcome(welcome)) = first.body else {
            return Err(StreamError::Protocol("its first message is not a welcome"));
        };
        // One that does not say so is of the first.
        let theirs = welcome.protocol_version.max(1);
        if let Some(reason) = proto::misunderstanding(ours, theirs) {
            return Err(StreamError::Incompatible(reason));
        }
        Ok(Open { incoming, batches, acked: welcome.acked_seq, certificate_expires_unix_s })
    }

    /// Hands a stream to the collector and listens, until it breaks or a preferred aggregator
    /// has welcomed the session.
    async fn serve(
        &self,
        at: usize,
        open: Open,
        postponed: Option<Instant>,
    ) -> Result<Open, StreamError> {
        let Open { mut incoming, batches, acked, certificate_expires_unix_s } = open;
        let (hang_up, mut hung_up) = oneshot::channel();
        let stream = Stream { acked, batches, certificate_expires_unix_s, hang_up };
        self.tell(Event::Up(stream)).await?;
        self.metrics.connected.set(1);
        if let Some(aggregator) = self.aggregators.get(at) {
            tracing::info!(%aggregator, acked, "streaming");
        }
        let leftover_due = postponed.filter(|_| !self.leftovers.is_empty());
        let preferred = self.preferred();
        tokio::pin!(preferred);
        loop {
            let message = tokio::select! {
                message = incoming.message() => message?.ok_or(StreamError::Closed)?,
                _ = &mut hung_up => return Err(StreamError::HungUp),
                () = self.credentials.renewed() => return Err(StreamError::Renewed),
                open = &mut preferred, if at > 0 => return Ok(open),
                () = sleep_until(leftover_due.unwrap_or_else(Instant::now)),
                    if leftover_due.is_some() => return Err(StreamError::LeftoverDue),
            };
            match message.body {
                Some(aggregator_message::Body::Ack(ack)) => {
                    self.tell(Event::Acked(ack.seq)).await?
                }
                Some(aggregator_message::Body::Resolve(resolve)) => {
                    self.tell(Event::Asked(tuples(resolve))).await?;
                }
                Some(aggregator_message::Body::Split(split)) => {
                    self.tell(Event::Split(endpoints(split))).await?;
                }
                Some(aggregator_message::Body::Welcome(_)) => {
                    return Err(StreamError::Protocol("a second welcome"));
                }
                // From a later version; nothing that an agent has to act on.
                None => {}
            }
        }
    }

    /// A stream to the preferred aggregator, once there can be one.
    async fn preferred(&self) -> Open {
        loop {
            let half = PREFERRED_EVERY / 2;
            let drawn = half.mul_f64((random() >> 11) as f64 / (1_u64 << 53) as f64);
            tokio::time::sleep(half + drawn).await;
            match self.open(0, &self.hello, CONNECT_TIME).await {
                Ok(open) => return open,
                Err(error) => tracing::debug!("the preferred aggregator is still away: {error}"),
            }
        }
    }

    async fn tell(&self, event: Event) -> Result<(), StreamError> {
        self.events.send(event).await.map_err(|_| StreamError::NoCollector)
    }
}

/// The questions that can be understood; to the others there is no answer.
fn tuples(resolve: v1::Resolve) -> Vec<Tuple> {
    let tuples = resolve.tuples.into_iter().take(proto::MAX_TUPLES);
    tuples.filter_map(|tuple| Tuple::try_from(tuple).ok()).collect()
}

/// Those that can be understood.
fn endpoints(split: v1::Split) -> Vec<Endpoint> {
    let endpoints = split.endpoints.into_iter().take(proto::MAX_ENDPOINTS);
    endpoints.filter_map(|endpoint| Endpoint::try_from(endpoint).ok()).collect()
}

/// A number nobody can foresee; 0 when the system has none.
#[must_use]
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map(|()| u64::from_ne_bytes(bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
