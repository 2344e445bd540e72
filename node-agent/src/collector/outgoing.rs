//! The stream as the collector sees it: what was sent and is not acknowledged.

use std::{collections::VecDeque, time::Duration};

use prost::Message as _;
use proto::v1::{self, agent_message::Body};
use tokio::{sync::mpsc::error::TrySendError, time::Instant};

use crate::{
    clock::Moment,
    metrics::Metrics,
    queue::{Found, Preface, Prefaces, Queue},
    uplink::Stream,
};

/// Bytes sent and not acknowledged. An acknowledgement may take as long as a slow disk: with a
/// second for each, a spool of 256 MB is still delivered within half a minute.
const MOST_IN_FLIGHT: usize = 8 << 20;

/// A stream whose oldest batch is not acknowledged for this long is given up, unless the aggregator has said in the
/// meantime where it stands: then it lives and cannot write, which another stream would not change.
const ACK_TIME: Duration = Duration::from_secs(30);

/// What came of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// There is nothing left to send.
    All,
    /// The rest waits for acknowledgements.
    Waiting,
    /// The rest waits for the network.
    Full,
    /// The stream is broken.
    Broken,
}

/// A batch on its way.
#[derive(Debug)]
struct InFlight {
    seq: u64,
    bytes: usize,
    sent: Instant,
}

#[derive(Debug)]
pub(super) struct Outgoing {
    stream: Stream,
    /// What is left of the preface.
    preface: Preface,
    /// The batch after the preface, or after the last one sent.
    next: u64,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// When the aggregator last said where it stands.
    heard: Instant,
    /// What was sent last has another part.
    more: bool,
}

impl Outgoing {
    /// A stream that begins with the oldest batch that is not acknowledged.
    pub(super) fn new(stream: Stream, queue: &mut Queue, prefaces: &mut impl Prefaces) -> Self {
        let (preface, next) = queue.preface(prefaces);
        let in_flight = VecDeque::new();
        let heard = Instant::now();
        Self { stream, preface, next, in_flight, in_flight_bytes: 0, heard, more: false }
    }

    /// Sends what the queue holds, as far as there is room.
    pub(super) fn send(
        &mut self,
        queue: &mut Queue,
        prefaces: &mut impl Prefaces,
        metrics: &Metrics,
    ) -> Sent {
        loop {
            // The parts of a preface are acknowledged with the last of them, so they go out whatever they take.
            if self.in_flight_bytes >= MOST_IN_FLIGHT && !self.more {
                return Sent::Waiting;
            }
            let batch = match self.preface.is_empty() {
                false => None,
                true => match queue.find(self.next) {
                    Found::Here(entry) => Some(entry),
                    Found::NotYet => return Sent::All,
                    Found::Gone => {
                        // Folded before it could be sent.
                        (self.preface, self.next) = queue.preface_from(self.next, prefaces);
                        continue;
                    }
                },
            };
            let permit = match self.stream.batches.try_reserve() {
                Ok(permit) => permit,
                Err(TrySendError::Full(())) => return Sent::Full,
                Err(TrySendError::Closed(())) => return Sent::Broken,
            };
            let now = Moment::now();
            let batch = match batch {
                None => self.preface.next(&now),
                Some(entry) => {
                    self.next = entry.seq + 1;
                    let batch = entry.batch(&now, now.since(&entry.ended));
                    batch.inspect_err(|error| tracing::error!(%error, "lost a batch")).ok()
                }
            };
            let Some(batch) = batch else { continue };
            let bytes = batch.encoded_len();
            self.in_flight_bytes += bytes;
            self.more = batch.more;
            self.in_flight.push_back(InFlight { seq: batch.seq, bytes, sent: Instant::now() });
            metrics.batches_sent.inc();
            permit.send(v1::AgentMessage { body: Some(Body::Batch(batch)) });
        }
    }

    /// Ready when the stream takes another batch, or nothing any more.
    pub(super) async fn room(&self) {
        // Which of the two, sending will tell.
        let _ = self.stream.batches.reserve().await;
    }

    /// Notes an acknowledgement, perhaps of nothing new.
    pub(super) fn acked(&mut self, seq: u64, metrics: &Metrics) {
        self.heard = Instant::now();
        while self.in_flight.front().is_some_and(|oldest| oldest.seq <= seq) {
            let Some(oldest) = self.in_flight.pop_front() else { break };
            self.in_flight_bytes -= oldest.bytes;
            metrics.batches_acked.inc();
            metrics.ack_seconds.observe(oldest.sent.elapsed().as_secs_f64());
        }
    }

    /// Whether the aggregator has been silent for too long.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        let silent = |since: Instant| now.duration_since(since) >= ACK_TIME;
        self.in_flight.front().is_some_and(|oldest| silent(oldest.sent)) && silent(self.heard)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::testing::world::World;

    #[tokio::test]
    async fn an_aggregator_that_says_where_it_stands_is_not_given_up() {
        let mut world = World::with(1 << 20, None);
        world.gain(0, 0, 80, 1);
        world.build();
        let ((batches, _taken), (hang_up, _)) = (mpsc::channel(4), oneshot::channel());
        let stream = Stream { acked: 0, batches, certificate_expires_unix_s: 0, hang_up };
        let metrics = Metrics::new().unwrap();
        let mut outgoing = Outgoing::new(stream, &mut world.queue, &mut world.report);
        outgoing.send(&mut world.queue, &mut world.report, &metrics);
        let later = Instant::now() + ACK_TIME;
        assert!(outgoing.is_stalled(later));
        tokio::time::sleep(Duration::from_millis(2)).await;
        outgoing.acked(0, &metrics);
        assert!(!outgoing.is_stalled(later));
        assert!(
            outgoing.is_stalled(Instant::now() + ACK_TIME),
            "nor is it waited for without an end"
        );
    }
}
