//! A connection that does not wait for ever for a reader who does not read.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long a reader may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// To take any of what it is sent.
    pub(super) any: Duration,
    /// To take all of it, as long as there is more.
    pub(super) all: Duration,
}

/// A connection whose writes fail when the other side takes nothing for a while, or too little.
pub(super) struct Patient<S> {
    stream: S,
    limits: Limits,
    waiting: Option<Pin<Box<Sleep>>>,
    /// Since the other side was last up to date.
    behind: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, limits: Limits) -> Self {
        Self { stream, limits, waiting: None, behind: None }
    }

    /// What came of an attempt to write, or of waiting for too long.
    fn within<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Limits { any, all } = self.limits;
        let behind = self.behind.get_or_insert_with(|| Box::pin(sleep(all)));
        if behind.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(any)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.within(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        if outcome.is_ready() {
            (self.waiting, self.behind) = (None, None);
            return outcome;
        }
        self.within(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.within(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.within(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for() {
        let (near, mut far) = duplex(16);
        let any = Duration::from_millis(50);
        let mut near = Patient::new(near, Limits { any, all: 9 * any });
        near.write_all(&[0; 16]).await.unwrap();
        far.read_exact(&mut [0; 16]).await.unwrap();
        let error = near.write_all(&[0; 17]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_a_little_at_a_time_is_not_waited_for_either() {
        let (near, mut far) = duplex(16);
        let limits = Limits { any: Duration::from_secs(30), all: Duration::from_secs(60) };
        let mut near = Patient::new(near, limits);
        tokio::spawn(async move {
            while far.read_exact(&mut [0]).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        // As much as it keeps up with.
        for _ in 0..9 {
            near.write_all(&[0; 16]).await.unwrap();
            near.flush().await.unwrap();
        }
        let begin = tokio::time::Instant::now();
        let error = near.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() <= Duration::from_secs(61));
    }
}
