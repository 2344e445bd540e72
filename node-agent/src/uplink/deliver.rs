//! Delivering what an earlier session left.

use std::time::Duration;

use proto::v1::{self, agent_message, aggregator_message};
use tonic::Code;

use super::{Open, StreamError, Uplink, first_line};
use crate::queue::leftover::Leftover;

/// An aggregator that says nothing for this long is given up.
const ACK_TIME: Duration = Duration::from_secs(30);

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
                        acked = acked.max(ack.seq);
                    }
                }
                () = tokio::time::sleep(ACK_TIME) => return Err(StreamError::Silent(ACK_TIME)),
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
    ) -> Result<(), StreamError> {
        match outcome {
            Ok(batches) => {
                tracing::info!(batches, "delivered what an earlier process had left");
                self.metrics.spool_delivered.inc_by(batches);
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
