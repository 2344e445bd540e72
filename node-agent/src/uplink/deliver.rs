//! Delivering what an earlier session left.

use std::time::Duration;

use proto::v1::{self, agent_message, aggregator_message};
use tokio::time::{Instant, sleep_until};
use tonic::Code;

use super::{Open, StreamError, Uplink, first_line};
use crate::queue::leftover::Leftover;

/// How long a leftover may keep the session of this process waiting.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Without an acknowledgement it is put off for so long,
    pub silence: Duration,
    /// and tried again after this.
    pub again: Duration,
}

impl Default for Patience {
    /// The aggregator remembers for ten minutes what it was told of a session that ended: the next attempt has to come
    /// well before that, or what it counted without acknowledging it would count twice.
    fn default() -> Self {
        Self { silence: Duration::from_secs(10), again: Duration::from_secs(60) }
    }
}

/// How long the aggregator may take to end a stream that the agent has ended.
const END_TIME: Duration = Duration::from_secs(2);

impl Uplink {
    /// Sends all batches of a leftover, and waits until they are taken over. Returns how many.
    pub(super) async fn deliver(
        &self,
        open: Open,
        leftover: &Leftover,
    ) -> Result<u64, StreamError> {
        let Open { mut incoming, batches, mut acked, .. } = open;
        self.metrics.connected.set(1);
        let mut delivery = leftover.delivery(&self.hello);
        let (mut next, mut sent, mut last) = (delivery.next(), 0, 0);
        let mut silent_from = Instant::now();
        while next.is_some() || acked < last {
            tokio::select! {
                permit = batches.reserve(), if next.is_some() => {
                    let permit = permit.map_err(|_| StreamError::Closed)?;
                    if let Some(batch) = next.take() {
                        last = last.max(batch.seq);
                        sent += u64::from(!batch.preface);
                        let body = Some(agent_message::Body::Batch(batch));
                        permit.send(v1::AgentMessage { body });
                    }
                    next = delivery.next();
                }
                message = incoming.message() => {
                    let message = message?.ok_or(StreamError::Closed)?;
                    if let Some(aggregator_message::Body::Ack(ack)) = message.body {
                        if ack.seq > acked {
                            silent_from = Instant::now();
                        }
                        acked = acked.max(ack.seq);
                    }
                }
                () = self.credentials.renewed() => return Err(StreamError::Renewed),
                () = sleep_until(silent_from + self.patience.silence) => {
                    return Err(StreamError::Unacknowledged);
                }
            }
        }
        // One session of a node at a time: the aggregator is to see the end of this one first.
        drop(batches);
        let end = async { while let Ok(Some(_)) = incoming.message().await {} };
        let _ = tokio::time::timeout(END_TIME, end).await;
        Ok(sent)
    }

    /// What came of it.
    pub(super) fn delivered(
        &mut self,
        outcome: Result<u64, StreamError>,
        postponed: &mut Option<Instant>,
    ) -> Result<(), StreamError> {
        match outcome {
            // What is live must not wait for it.
            Err(StreamError::Unacknowledged) => {
                if postponed.is_none() {
                    tracing::warn!(
                        again_s = self.patience.again.as_secs(),
                        "what an earlier process left is not acknowledged; going on, and trying again"
                    );
                }
                self.metrics.spool_postponed.inc();
                *postponed = Some(Instant::now() + self.patience.again);
                Ok(())
            }
            Ok(batches) => {
                tracing::info!(batches, "delivered what an earlier process had left");
                self.metrics.spool_delivered.inc_by(batches);
                *postponed = None;
                if let Some(leftover) = self.leftovers.pop_front() {
                    leftover.remove();
                }
                Ok(())
            }
            Err(StreamError::Refused(status)) if status.code() == Code::InvalidArgument => {
                if let Some(leftover) = self.leftovers.pop_front() {
                    leftover.put_aside(first_line(&status));
                }
                Err(StreamError::Refused(status))
            }
            Err(error) => Err(error),
        }
    }
}
