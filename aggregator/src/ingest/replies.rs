//! What an agent is told, and the work that comes to it.
//!
//! The work of a stream is done by whoever wants to send what comes of it: the task of HTTP/2 that there is anyway. A
//! batch of a few records costs hardly more than waking those who have to do with it, so there is one less to wake,
//! once for the batch and once for its acknowledgement.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use proto::v1::AggregatorMessage;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

type Message = Result<AggregatorMessage, Status>;

/// What an agent is told. Dropping it, as happens when the connection is lost, ends the work where it waits.
pub(super) struct Replies {
    /// `None` once it is done.
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    messages: mpsc::Receiver<Message>,
}

impl Replies {
    /// Messages of a work that has the other end of them.
    pub(super) fn new(
        work: impl Future<Output = ()> + Send + 'static,
        messages: mpsc::Receiver<Message>,
    ) -> Self {
        Self { work: Some(Box::pin(work)), messages }
    }
}

impl Stream for Replies {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        if let Some(work) = &mut self.work
            && work.as_mut().poll(cx).is_ready()
        {
            self.work = None;
        }
        // With its end, the work drops the sender.
        self.messages.poll_recv(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_while_its_messages_are_taken_and_ends_with_them() {
        let (sender, receiver) = mpsc::channel(2);
        let work = async move {
            for _ in 0..5 {
                // More than there is room for.
                sender.send(Ok(AggregatorMessage::default())).await.unwrap();
            }
            tokio::task::yield_now().await;
            sender.send(Err(Status::aborted("over"))).await.unwrap();
        };
        let told: Vec<_> = Replies::new(work, receiver).collect().await;
        assert_eq!(told.iter().filter(|one| one.is_ok()).count(), 5);
        assert_eq!(told.last().unwrap().as_ref().unwrap_err().message(), "over");
    }

    #[tokio::test]
    async fn work_ends_when_nobody_listens() {
        let (sender, receiver) = mpsc::channel(1);
        let (keep, over) = tokio::sync::oneshot::channel::<()>();
        let mut replies = Replies::new(
            async move {
                sender.send(Ok(AggregatorMessage::default())).await.unwrap();
                let _ = over.await;
            },
            receiver,
        );
        replies.next().await.unwrap().unwrap();
        assert!(!keep.is_closed());
        drop(replies);
        assert!(keep.is_closed());
    }
}
