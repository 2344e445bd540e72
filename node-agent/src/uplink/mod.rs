//! The stream to the aggregator: one at a time, made anew whenever it breaks.
//!
//! The uplink knows nothing of what a batch holds. It hands the sending end of each new stream to
//! the collector, together with the number up to which the aggregator has taken over the
//! session's batches; what to send then is the report's matter.

mod backoff;
mod connect;
mod record;

use std::{fs::File, io::Read as _, time::Duration};

use proto::{
    tls,
    v1::{self, agent_message, aggregator_message},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use topology::model::Tuple;

use crate::{config::AggregatorAddress, metrics::Metrics};
use backoff::Backoff;
use connect::{ConnectError, Connection};
pub use record::Recorder;

/// Batches waiting for the network. The collector holds back what does not fit.
const BATCHES_WAITING: usize = 4;

/// Events waiting for the collector. When it is busy, the uplink waits, and the aggregator's
/// acknowledgements with it.
pub const EVENTS_WAITING: usize = 64;

/// Name look-up, TCP and TLS together.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// From the `Hello` to the `Welcome`.
const WELCOME_TIME: Duration = Duration::from_secs(10);

/// A stream that lived for this long was a good one: the next wait is short again.
const GOOD_STREAM: Duration = Duration::from_secs(5);

/// What the collector hears.
#[derive(Debug)]
pub enum Event {
    /// A stream begins.
    Up(Stream),
    /// Every batch up to this one is taken over.
    Acked(u64),
    /// Whose were these connections?
    Asked(Vec<Tuple>),
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
    #[error("{}", status_line(.0))]
    Refused(Box<tonic::Status>),
    #[error("the aggregator broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the aggregator closed the stream")]
    Closed,
    #[error("batches were not acknowledged in time")]
    HungUp,
    #[error("the collector is gone")]
    NoCollector,
}

impl From<tonic::Status> for StreamError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

fn status_line(status: &tonic::Status) -> String {
    format!("{}: {}", status.code(), status.message().lines().next().unwrap_or_default())
}

/// Keeps a stream up.
#[derive(Debug)]
pub struct Uplink {
    /// Where to.
    pub address: AggregatorAddress,
    /// PEM files of the agent.
    pub tls: tls::Files,
    /// First message of each stream.
    pub hello: v1::Hello,
    /// Takes down what is sent.
    pub recorder: Option<Recorder>,
    /// To the collector; of [`EVENTS_WAITING`].
    pub events: mpsc::Sender<Event>,
    /// Counted into.
    pub metrics: Metrics,
}

impl Uplink {
    /// Runs until `shutdown` resolves or the collector is gone.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = self.keep_up() => {}
            () = shutdown => {}
        }
        self.metrics.connected.set(0);
    }

    async fn keep_up(&self) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let mut welcomed = false;
            let error = match self.stream(&mut welcomed).await {
                Err(StreamError::NoCollector) => return,
                Err(error) => error,
                Ok(never) => match never {},
            };
            self.metrics.connected.set(0);
            self.metrics.disconnects.inc();
            if welcomed && self.events.send(Event::Down).await.is_err() {
                return;
            }
            if welcomed && began.elapsed() >= GOOD_STREAM {
                backoff.reset();
            }
            let wait = backoff.next(random());
            let (aggregator, retry_ms) = (&self.address, wait.as_millis() as u64);
            tracing::warn!(%aggregator, retry_ms, "no stream to the aggregator: {error}");
            tokio::time::sleep(wait).await;
        }
    }

    /// One stream, from the connection to its end.
    async fn stream(&self, welcomed: &mut bool) -> Result<std::convert::Infallible, StreamError> {
        let connection = timeout(CONNECT_TIME, connect::connect(&self.address, &self.tls)).await;
        let Connection { mut client, certificate_expires_unix_s } =
            connection.map_err(|_| StreamError::Silent(CONNECT_TIME))??;
        let (batches, outgoing) = mpsc::channel(BATCHES_WAITING);
        let hello = agent_message::Body::Hello(self.hello.clone());
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
        let greeting = timeout(WELCOME_TIME, greeting).await;
        let (mut incoming, first) = greeting.map_err(|_| StreamError::Silent(WELCOME_TIME))??;
        let Some(aggregator_message::Body::Welcome(welcome)) = first.body else {
            return Err(StreamError::Protocol("its first message is not a welcome"));
        };
        let (hang_up, mut hung_up) = oneshot::channel();
        let acked = welcome.acked_seq;
        let stream = Stream { acked, batches, certificate_expires_unix_s, hang_up };
        self.tell(Event::Up(stream)).await?;
        *welcomed = true;
        self.metrics.connected.set(1);
        tracing::info!(aggregator = %self.address, acked, "streaming");
        loop {
            let message = tokio::select! {
                message = incoming.message() => message?.ok_or(StreamError::Closed)?,
                _ = &mut hung_up => return Err(StreamError::HungUp),
            };
            match message.body {
                Some(aggregator_message::Body::Ack(ack)) => {
                    self.tell(Event::Acked(ack.seq)).await?
                }
                Some(aggregator_message::Body::Resolve(resolve)) => {
                    self.tell(Event::Asked(tuples(resolve))).await?;
                }
                Some(aggregator_message::Body::Welcome(_)) => {
                    return Err(StreamError::Protocol("a second welcome"));
                }
                // From a later version; nothing that an agent has to act on.
                None => {}
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

/// A number nobody can foresee; 0 when the system has none.
#[must_use]
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map(|()| u64::from_ne_bytes(bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
