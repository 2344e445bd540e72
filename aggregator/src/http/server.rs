//! Accepts readers.

use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, http::Request};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::{access::Certificate, live::Live, patient::Patient, routes, tls, tls::Tls};
use crate::{config::HttpAccess, state::Shared};

/// Readers at a time.
const CONNECTIONS: u32 = 512;

/// How long a reader may take, so that slow ones do not keep the others out.
#[derive(Clone, Copy)]
struct Patience {
    /// For TLS.
    handshake: Duration,
    /// To say what it wants, or to want something again.
    header: Duration,
    /// To take any of what it is sent.
    write: Duration,
}

const PATIENCE: Patience = Patience {
    handshake: Duration::from_secs(10),
    header: Duration::from_secs(10),
    write: Duration::from_secs(30),
};

/// How long running requests may go on once the aggregator stops.
const DRAIN: Duration = Duration::from_secs(3);

/// How long a connection may still be used once there are new certificates.
const AFTER_CHANGE: Duration = Duration::from_secs(1);

/// How long to wait when the system refuses a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How readers come in.
pub struct Entrance {
    /// Where.
    pub listener: TcpListener,
    /// By whose leave.
    pub access: HttpAccess,
    /// Plain HTTP without.
    pub tls: Option<watch::Receiver<Arc<Tls>>>,
}

/// Serves readers until `shutdown` says so, then lets running requests end.
pub async fn serve(entrance: Entrance, shared: Arc<Shared>, shutdown: watch::Receiver<bool>) {
    let Entrance { listener, access, tls } = entrance;
    let live = Live::new(shutdown.clone());
    let router = routes::router(shared, &access, live);
    serve_router(listener, router, tls, PATIENCE, shutdown).await;
}

async fn serve_router(
    listener: TcpListener,
    router: Router,
    tls: Option<watch::Receiver<Arc<Tls>>>,
    patience: Patience,
    mut shutdown: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let Some((stream, address, place)) = accepted else { continue };
        let reader = Reader {
            router: router.clone(),
            tls: tls.clone(),
            patience,
            shutdown: shutdown.clone(),
        };
        tokio::spawn(async move {
            reader.run(stream, address).await;
            drop(place);
        });
    }
    drop(listener);
    // It has all places once nobody has one.
    if timeout(DRAIN, places.acquire_many(CONNECTIONS)).await.is_err() {
        tracing::warn!("requests were still running when the aggregator stopped");
    }
}

/// The next connection, and its place among all there may be; `None` when there was none.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, place)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a reader's connection");
            sleep(ACCEPT_BACKOFF).await;
            None
        }
    }
}

/// One connection of a reader.
struct Reader {
    router: Router,
    tls: Option<watch::Receiver<Arc<Tls>>>,
    patience: Patience,
    shutdown: watch::Receiver<bool>,
}

impl Reader {
    async fn run(mut self, stream: TcpStream, address: SocketAddr) {
        let Some(mut tls) = self.tls.take() else {
            return self.serve(stream, None, std::future::pending()).await;
        };
        let config = Arc::clone(&tls.borrow_and_update().config);
        let handshake = TlsAcceptor::from(config).accept(stream);
        match timeout(self.patience.handshake, handshake).await {
            Ok(Ok(stream)) => {
                let certificate = tls::reader(stream.get_ref().1.peer_certificates());
                // Whom the new files would not let in is to notice; but who has just come in is to
                // have an answer first.
                let changed = async move {
                    let _ = tls.changed().await;
                    sleep(AFTER_CHANGE).await;
                };
                self.serve(stream, certificate, changed).await;
            }
            Ok(Err(error)) => tracing::debug!(%address, %error, "a reader's handshake failed"),
            Err(_) => tracing::debug!(%address, "a reader's handshake took too long"),
        }
    }

    /// Answers until the reader goes, or it is time to end.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        mut self,
        stream: S,
        certificate: Option<Certificate>,
        changed: impl Future<Output = ()>,
    ) {
        let router = self.router.map_request(move |mut request: Request<_>| {
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            request
        });
        let mut builder = Builder::new(hyper_util::rt::TokioExecutor::new()).http1_only();
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.patience.header);
        let stream = TokioIo::new(Patient::new(stream, self.patience.write));
        let mut connection =
            pin!(builder.serve_connection(stream, TowerToHyperService::new(router)));
        tokio::select! {
            // A reader that goes away in the middle is its own business.
            _ = connection.as_mut() => return,
            _ = self.shutdown.wait_for(|stop| *stop) => {}
            () = changed => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_says_nothing_is_sent_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "here"));
        let patience = Patience { header: Duration::from_millis(200), ..PATIENCE };
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(serve_router(listener, router, None, patience, stopping));
        for said in ["", "GET / HTTP/1.1\r\nHost: a", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let read = timeout(Duration::from_secs(9), stream.read_to_end(&mut answer)).await;
            assert!(read.is_ok(), "still open after {said:?}");
            let answered = answer.starts_with(b"HTTP/1.1 200");
            assert_eq!(answered, said.ends_with("\r\n\r\n"));
        }
        stop.send_replace(true);
        serving.await.unwrap();
    }
}
