//! A simulated agent: counts, sends, keeps what is not acknowledged, reconnects.
//!
//! - `book` is what it has counted and how it tells it, `ids` and `definitions` are parts of that,
//! - `outbox` holds batches until they are acknowledged and makes the preface of a new stream,
//! - `stream` connects, over a socket of `wire` that counts bytes.

mod book;
mod definitions;
mod ids;
mod outbox;
mod stream;
mod wire;

#[cfg(test)]
mod tests;

use std::{
    future::{Future, pending},
    ops::RangeInclusive,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use proto::{
    reconnect::Backoff,
    v1::{AgentMessage, AggregatorMessage, Hello, aggregator_message::Body},
};
use rustls::ClientConfig;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tonic::Streaming;

pub use book::{Book, Ledger};
pub use outbox::PrefaceError;
pub use stream::{Ends, Stream, StreamError, open};
pub use wire::WireBytes;

use crate::{
    fleet::{Phase, Shared},
    world::{Random, Tick},
};
use outbox::{Acked, Outbox};

/// Batches on the way while an agent sends as fast as they are acknowledged: as many as it takes for so many records of the
/// whole fleet, since acknowledgements come ten times a second however few there are.
const RECORDS_IN_FLIGHT: usize = 80_000;
const IN_FLIGHT: RangeInclusive<usize> = 4..=64;

/// What an agent is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Lose the connection.
    Cut,
    /// End, once everything is acknowledged, and start again with a new map generation.
    Restart,
}

/// Why an agent gives up. Losing its connection is no reason.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("a record cannot be written: {0}")]
    Encode(#[from] proto::columns::EncodeError),
    #[error("no preface: {0}")]
    Preface(#[from] PrefaceError),
}

type Connecting = Pin<Box<dyn Future<Output = Result<Stream, StreamError>> + Send>>;

pub struct Agent {
    number: u32,
    shared: Arc<Shared>,
    tls: Arc<ClientConfig>,
    commands: mpsc::Receiver<Command>,
    phase: watch::Receiver<Phase>,
    ledgers: mpsc::UnboundedSender<Ledger>,
    random: Random,
    /// How often it has been started.
    lives: u64,
    book: Book,
    outbox: Outbox,
    /// The tick that comes next.
    next: Tick,
    restarting: bool,
    connecting: Option<Connecting>,
    to: Option<mpsc::Sender<AgentMessage>>,
    from: Option<Streaming<AggregatorMessage>>,
    backoff: Backoff,
    /// When the stream was welcomed.
    welcomed: Option<Instant>,
    tried: bool,
    was_connected: bool,
    /// The last batch of the first tick.
    first: u64,
    defined: bool,
    over: bool,
}

impl Agent {
    pub fn new(
        number: u32,
        shared: Arc<Shared>,
        tls: Arc<ClientConfig>,
        plan: Vec<(u32, crate::world::Side)>,
        commands: mpsc::Receiver<Command>,
        ledgers: mpsc::UnboundedSender<Ledger>,
    ) -> Self {
        let random = Random::of(&[shared.seed, u64::from(number), 0xa9e27]);
        let book = Book::new(Arc::clone(&shared.world), plan);
        let phase = shared.phase.subscribe();
        Self {
            number,
            shared,
            tls,
            commands,
            phase,
            ledgers,
            random,
            lives: 1,
            book,
            outbox: Outbox::default(),
            next: 0,
            restarting: false,
            connecting: None,
            to: None,
            from: None,
            backoff: Backoff::default(),
            welcomed: None,
            tried: false,
            was_connected: false,
            first: 0,
            defined: false,
            over: false,
        }
    }

    /// Runs until the fleet is over.
    pub async fn run(mut self) -> Result<(), AgentError> {
        loop {
            if *self.phase.borrow_and_update() == Phase::Over {
                return Ok(());
            }
            self.settle();
            if self.from.is_none() && self.connecting.is_none() {
                self.connecting = Some(self.connect());
            }
            let due = self.due();
            let has_next = self.outbox.has_next();
            tokio::select! {
                _ = self.phase.changed() => {}
                Some(command) = self.commands.recv() => self.obey(command),
                () = until(due) => self.tick()?,
                stream = connected(&mut self.connecting) => self.connected(stream)?,
                message = received(&mut self.from) => self.received(message).await,
                permit = reserved(&self.to, has_next) => match permit {
                    Some(permit) => {
                        if let Some(message) = self.outbox.next() {
                            drop(permit.send(message));
                        }
                    }
                    None => self.disconnect(),
                },
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Cut => {
                self.connecting = None;
                self.disconnect();
            }
            Command::Restart => self.restarting = true,
        }
    }

    /// When the next tick is to be counted; `None` when something has to happen before.
    fn due(&self) -> Option<Instant> {
        let start = match *self.phase.borrow() {
            Phase::Connecting | Phase::Over => return None,
            Phase::Running { start, .. } => start,
        };
        if self.restarting || self.next > self.shared.last_tick.load(Relaxed) {
            return None;
        }
        if self.shared.paced {
            return Some(start + self.shared.interval * self.next + self.offset());
        }
        let go = self.next == 0 || matches!(*self.phase.borrow(), Phase::Running { go: true, .. });
        let in_flight = RECORDS_IN_FLIGHT / (2 * self.shared.world.links.len()).max(1);
        let in_flight = in_flight.clamp(*IN_FLIGHT.start(), *IN_FLIGHT.end());
        (go && self.outbox.len() < in_flight).then_some(start)
    }

    /// Agents do not report in step.
    fn offset(&self) -> Duration {
        let share = Random::of(&[self.shared.seed, u64::from(self.number)]).unit();
        self.shared.interval.mul_f64(share)
    }

    fn tick(&mut self) -> Result<(), AgentError> {
        let now = Instant::now();
        for draft in self.book.tick(self.next)? {
            self.shared.stats.records_counted.fetch_add(draft.records, Relaxed);
            self.outbox.push(draft, now);
        }
        if self.next == 0 {
            self.first = self.book.seq;
        }
        self.shared.newest_tick.fetch_max(self.next, Relaxed);
        self.next += 1;
        Ok(())
    }

    /// What follows from what is acknowledged.
    fn settle(&mut self) {
        if self.next > 0 && self.outbox.acked >= self.first && !self.defined {
            self.defined = true;
            self.shared.stats.defined.fetch_add(1, Relaxed);
        }
        if self.outbox.len() > 0 {
            return;
        }
        if self.restarting {
            self.restarting = false;
            self.lives += 1;
            self.book.renew();
            self.outbox = Outbox::default();
            // An attempt that is under way would say the old session's hello.
            self.connecting = None;
            self.disconnect();
            self.shared.stats.restarts.fetch_add(1, Relaxed);
        }
        if self.next > self.shared.last_tick.load(Relaxed) && !self.over {
            self.over = true;
            // Nobody wants it any more when the run was given up.
            let _ = self.ledgers.send(self.book.ledger());
        }
    }

    fn connect(&mut self) -> Connecting {
        let wait = match std::mem::replace(&mut self.tried, true) {
            false => Duration::ZERO,
            true => self.backoff.next(self.random.next()),
        };
        let patience = self.backoff.patience(false);
        let hello = self.hello();
        let (shared, tls) = (Arc::clone(&self.shared), Arc::clone(&self.tls));
        let ends = Ends::of_host(self.number, shared.address);
        Box::pin(async move {
            sleep(wait).await;
            // At the beginning the fleet comes one after the other, later as it happens.
            let beginning = *shared.phase.borrow() == Phase::Connecting;
            let turn = match beginning {
                true => shared.turns.acquire().await.ok(),
                false => None,
            };
            let bytes = Arc::clone(&shared.stats.bytes);
            let stream = open(ends, tls, bytes, hello, patience).await;
            drop(turn);
            stream
        })
    }

    fn hello(&self) -> Hello {
        let mut random = Random::of(&[self.shared.seed, u64::from(self.number), self.lives, 1]);
        Hello {
            protocol_version: proto::PROTOCOL_VERSION,
            protocol_minor: proto::PROTOCOL_MINOR,
            node: node_name(self.number),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: "6.1.0-simulated".to_owned(),
            boot_id: u128::from(self.number + 1).to_be_bytes().to_vec(),
            generation: random.next(),
            session: random.next(),
            interval_ns: self.shared.interval.as_nanos() as u64,
        }
    }

    fn connected(&mut self, stream: Result<Stream, StreamError>) -> Result<(), AgentError> {
        self.connecting = None;
        match stream {
            Ok(stream) => {
                // An answer that was lost is told again.
                let acked = self.outbox.welcome(stream.welcome.acked_seq);
                self.acked(&acked);
                self.outbox.rewind(&self.book)?;
                (self.to, self.from) = (Some(stream.to), Some(stream.from));
                self.welcomed = Some(Instant::now());
                self.shared.stats.connected.fetch_add(1, Relaxed);
                if std::mem::replace(&mut self.was_connected, true) {
                    self.shared.stats.reconnects.fetch_add(1, Relaxed);
                }
            }
            Err(error) => self.shared.stats.failed(&error),
        }
        Ok(())
    }

    fn disconnect(&mut self) {
        if self.from.take().is_some() {
            self.to = None;
            if let Some(welcomed) = self.welcomed.take() {
                self.backoff.ended(welcomed.elapsed());
            }
            self.shared.stats.connected.fetch_sub(1, Relaxed);
        }
    }

    async fn received(&mut self, message: Result<Option<AggregatorMessage>, tonic::Status>) {
        match message.map(|message| message.map(|message| message.body)) {
            Ok(Some(Some(Body::Ack(ack)))) => {
                let acked = self.outbox.ack(ack.seq);
                self.acked(&acked);
            }
            Ok(Some(Some(Body::Resolve(resolve)))) => {
                // An address is one workload's: there is nothing to ask, and nothing is answered.
                self.shared.stats.asked.fetch_add(resolve.tuples.len() as u64, Relaxed);
            }
            Ok(Some(_)) => {}
            Ok(None) => self.disconnect(),
            Err(status) => {
                self.shared.stats.failed(&StreamError::from(status));
                self.disconnect();
            }
        }
    }

    fn acked(&mut self, batches: &[Acked]) {
        let now = Instant::now();
        let stats = &self.shared.stats;
        for acked in batches {
            stats.records.fetch_add(acked.records, Relaxed);
            stats.batches.fetch_add(1, Relaxed);
            stats.latency.record(now.duration_since(acked.ended));
        }
        self.book.acked(self.outbox.acked);
    }
}

/// The name of a node, as its certificate has it.
pub fn node_name(number: u32) -> String {
    format!("node-{number}")
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().await,
    }
}

async fn connected(connecting: &mut Option<Connecting>) -> Result<Stream, StreamError> {
    match connecting {
        Some(connecting) => connecting.await,
        None => pending().await,
    }
}

async fn received(
    from: &mut Option<Streaming<AggregatorMessage>>,
) -> Result<Option<AggregatorMessage>, tonic::Status> {
    match from {
        Some(from) => from.message().await,
        None => pending().await,
    }
}

/// Room for a message, when there is one to send; `None` when the stream is gone.
async fn reserved(
    to: &Option<mpsc::Sender<AgentMessage>>,
    has_next: bool,
) -> Option<mpsc::OwnedPermit<AgentMessage>> {
    match to.as_ref().filter(|_| has_next) {
        Some(to) => to.clone().reserve_owned().await.ok(),
        None => pending().await,
    }
}
