//! The stream as the collector sees it: what was sent and is not acknowledged.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proto::v1::{self, agent_message::Body};
use tokio::{sync::mpsc::error::TrySendError, time::Instant};

use crate::{metrics::Metrics, report::Report, uplink::Stream};

/// Batches sent and not acknowledged; beyond, numbers wait in the report.
const MOST_IN_FLIGHT: usize = 16;

/// A stream whose oldest batch is not acknowledged for this long is given up.
const ACK_TIME: Duration = Duration::from_secs(30);

/// What came of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// There is nothing left to send.
    All,
    /// The rest waits for acknowledgements, or for the network.
    Waiting,
    /// The stream is broken.
    Broken,
}

#[derive(Debug)]
pub(super) struct Outgoing {
    stream: Stream,
    in_flight: VecDeque<(u64, Instant)>,
}

impl Outgoing {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, in_flight: VecDeque::new() }
    }

    /// Sends what the report holds, as far as there is room.
    pub(super) fn send(&mut self, report: &mut Report, metrics: &Metrics) -> Sent {
        while !report.is_clean() {
            if self.in_flight.len() >= MOST_IN_FLIGHT {
                return Sent::Waiting;
            }
            let permit = match self.stream.batches.try_reserve() {
                Ok(permit) => permit,
                Err(TrySendError::Full(())) => return Sent::Waiting,
                Err(TrySendError::Closed(())) => return Sent::Broken,
            };
            let Some(mut batch) = report.build() else { return Sent::Broken };
            batch.sent_unix_ns = unix_ns();
            self.in_flight.push_back((batch.seq, Instant::now()));
            permit.send(v1::AgentMessage { body: Some(Body::Batch(batch)) });
            metrics.batches_sent.inc();
        }
        Sent::All
    }

    /// Notes an acknowledgement.
    pub(super) fn acked(&mut self, seq: u64, metrics: &Metrics) {
        while let Some((oldest, sent)) = self.in_flight.front().copied() {
            if oldest > seq {
                break;
            }
            self.in_flight.pop_front();
            metrics.batches_acked.inc();
            metrics.ack_seconds.observe(sent.elapsed().as_secs_f64());
        }
    }

    /// Whether every batch is acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Whether the aggregator has been silent for too long.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.in_flight.front().is_some_and(|(_, sent)| now.duration_since(*sent) >= ACK_TIME)
    }
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
