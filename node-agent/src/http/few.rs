//! The connections of those who read the metrics: few, and none for long. They must not take the file descriptors that the
//! agent needs for its aggregator and to look into `/proc`.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use prometheus::IntCounter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

/// How long to wait when the system refuses a connection, for lack of file descriptors say.
const PAUSE: Duration = Duration::from_millis(500);

/// How many there may be, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 16, lifetime: Duration::from_secs(20) }
    }
}

/// Accepts a few connections at a time.
pub(super) struct Few {
    listener: TcpListener,
    places: Arc<Semaphore>,
    lifetime: Duration,
    /// Connections that the system refused; and whether that was said.
    refused: IntCounter,
    is_said: bool,
}

/// A connection, until its time is over.
pub(super) struct Brief {
    stream: TcpStream,
    over: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Few {
    pub(super) fn new(listener: TcpListener, limits: Limits, refused: IntCounter) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections));
        Self { listener, places, lifetime: limits.lifetime, refused, is_said: false }
    }
}

impl Listener for Few {
    type Io = Brief;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Brief, SocketAddr) {
        // It is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    self.is_said = false;
                    let over = Box::pin(sleep(self.lifetime));
                    return (Brief { stream, over, _place: place }, address);
                }
                Err(error) => {
                    self.refused.inc();
                    if !std::mem::replace(&mut self.is_said, true) {
                        tracing::warn!("whoever reads the metrics has to wait: {error}");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Brief {
    /// What came of an attempt, or of waiting for too long.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.over.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => outcome,
        }
    }
}

impl AsyncRead for Brief {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.in_time(cx, outcome)
    }
}

impl AsyncWrite for Brief {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.in_time(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
