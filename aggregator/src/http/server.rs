//! Accepts readers.

use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, http::Request};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use prometheus::IntCounter;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::{
    access::Certificate,
    live::Live,
    patient::{Limits, Patient},
    places::{Place, Places},
    routes, tls,
    tls::Tls,
};
use crate::{accept::Refusals, config::HttpAccess, state::Shared};

/// How long a reader may take, so that slow ones do not keep the others out.
#[derive(Clone, Copy)]
struct Patience {
    /// For TLS.
    handshake: Duration,
    /// To say what it wants, or to want something again.
    header: Duration,
    /// To take what it is sent.
    write: Limits,
}

const PATIENCE: Patience = Patience {
    handshake: Duration::from_secs(10),
    header: Duration::from_secs(10),
    write: Limits { any: Duration::from_secs(30), all: Duration::from_secs(60) },
};

/// How long running requests may go on once the aggregator stops.
const DRAIN: Duration = Duration::from_secs(3);

/// How long an answer may go on that was begun before new certificates, or before the end.
const LAST_ANSWER: Duration = Duration::from_secs(30);

/// How long a connection may still be used once there are new certificates.
const AFTER_CHANGE: Duration = Duration::from_secs(1);

/// How often somebody idle is looked for while all places are taken.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How readers come in.
pub struct Entrance {
    /// Where.
    pub listener: TcpListener,
    /// How many at a time.
    pub places: usize,
    /// By whose leave.
    pub access: HttpAccess,
    /// Plain HTTP without.
    pub tls: Option<watch::Receiver<Arc<Tls>>>,
}

/// Serves readers until `shutdown` says so, then lets running requests end.
pub async fn serve(entrance: Entrance, shared: Arc<Shared>, shutdown: watch::Receiver<bool>) {
    let Entrance { listener, places, access, tls } = entrance;
    let metrics = &shared.metrics;
    let delayed = metrics.accepts_delayed.with_label_values(&["readers"]);
    let door = Door {
        listener,
        places: Places::new(places),
        refusals: Refusals::new("readers", delayed),
        ended: metrics.readers_ended.clone(),
    };
    let live = Live::new(shutdown.clone());
    let router = routes::router(shared, &access, live);
    serve_router(door, router, tls, PATIENCE, shutdown).await;
}

/// Where readers come in.
struct Door {
    listener: TcpListener,
    places: Arc<Places>,
    refusals: Refusals,
    ended: IntCounter,
}

async fn serve_router(
    mut door: Door,
    router: Router,
    tls: Option<watch::Receiver<Arc<Tls>>>,
    patience: Patience,
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = door.accept() => accepted,
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
            reader.run(stream, address, &place).await;
            drop(place);
        });
    }
    let Door { listener, places, .. } = door;
    drop(listener);
    if timeout(DRAIN, places.empty()).await.is_err() {
        tracing::warn!("requests were still running when the aggregator stopped");
    }
}

impl Door {
    /// The next connection, and its place among all there may be; `None` when there was none.
    async fn accept(&mut self) -> Option<(TcpStream, SocketAddr, Place)> {
        // Nobody is sent away for a place that nobody wants.
        let accepted = self.listener.accept().await;
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                self.refusals.failed(&error).await;
                return None;
            }
        };
        let mut place = pin!(self.places.take());
        loop {
            if self.places.are_taken() {
                self.refusals.full(self.places.all());
                self.ended.inc_by(u64::from(self.places.make_room()));
            } else {
                self.refusals.accepted();
            }
            if let Ok(place) = timeout(LOOK_EVERY, place.as_mut()).await {
                return Some((stream, address, place?));
            }
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
    async fn run(mut self, stream: TcpStream, address: SocketAddr, place: &Place) {
        let Some(mut tls) = self.tls.take() else {
            return self.serve(stream, None, place, std::future::pending()).await;
        };
        let current = Arc::clone(&tls.borrow_and_update());
        let handshake = TlsAcceptor::from(Arc::clone(&current.config)).accept(stream);
        let handshake = timeout(self.patience.handshake, handshake);
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            () = place.seat.is_wanted() => return,
        };
        match shaken {
            Ok(Ok(stream)) => {
                let certificate = tls::reader(&current, stream.get_ref().1.peer_certificates());
                // Whom the new files would not let in is to notice; but who has just come in is to
                // have an answer first.
                let changed = async move {
                    let _ = tls.changed().await;
                    sleep(AFTER_CHANGE).await;
                };
                self.serve(stream, certificate, place, changed).await;
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
        place: &Place,
        changed: impl Future<Output = ()>,
    ) {
        let seat = Arc::clone(&place.seat);
        let router = tower::service_fn(move |mut request: Request<_>| {
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            let busy = seat.answer();
            let answer = self.router.clone().oneshot(request);
            async move { answer.await.map(|answer| busy.until_taken(answer)) }
        });
        let mut builder = Builder::new(hyper_util::rt::TokioExecutor::new()).http1_only();
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.patience.header);
        let stream = TokioIo::new(Patient::new(stream, self.patience.write));
        let mut connection =
            pin!(builder.serve_connection(stream, TowerToHyperService::new(router)));
        tokio::select! {
            // A reader that goes away in the middle is its own business.
            _ = connection.as_mut() => return,
            () = place.seat.is_wanted() => return,
            _ = self.shutdown.wait_for(|stop| *stop) => {}
            () = changed => {}
        }
        connection.as_mut().graceful_shutdown();
        // A stream of changes has no end of its own.
        let _ = timeout(LAST_ANSWER, connection).await;
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
        let serving =
            tokio::spawn(serve_router(door(listener, 2), router, None, patience, stopping));
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

    fn door(listener: TcpListener, places: usize) -> Door {
        let counter = |name| IntCounter::new(name, "of a test").unwrap();
        let refusals = Refusals::new("readers", counter("delayed"));
        Door { listener, places: Places::new(places), refusals, ended: counter("ended") }
    }

    /// Asks, and reads the answer.
    async fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"here") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn who_has_been_idle_for_longest_makes_room_for_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "here"));
        let door = door(listener, 2);
        let ended = door.ended.clone();
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(serve_router(door, router, None, PATIENCE, stopping));
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        for stream in [&mut second, &mut first] {
            ask(stream).await.unwrap();
        }
        let mut third = TcpStream::connect(address).await.unwrap();
        timeout(PATIENCE.header / 2, ask(&mut third)).await.unwrap().unwrap();
        assert_eq!(ended.get(), 1);
        ask(&mut first).await.unwrap();
        ask(&mut second).await.unwrap_err();
        stop.send_replace(true);
        serving.await.unwrap();
    }
}
