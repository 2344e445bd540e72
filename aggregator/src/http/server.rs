//! Accepts readers.

use std::{sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use super::routes;
use crate::state::Shared;

/// Readers at a time.
const CONNECTIONS: usize = 512;

/// How long a reader may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long running requests may go on once the aggregator stops.
const DRAIN: Duration = Duration::from_secs(3);

/// How long to wait when the system refuses a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Serves readers until `shutdown` says so, then lets running requests end.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut shutdown: watch::Receiver<bool>,
) {
    let router = routes::router(shared);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let running = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let Some((stream, place)) = accepted else { continue };
        let mut builder = Builder::new(hyper_util::rt::TokioExecutor::new()).http1_only();
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = running.watch(connection);
        tokio::spawn(async move {
            // A reader that goes away in the middle is its own business.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    if timeout(DRAIN, running.shutdown()).await.is_err() {
        tracing::warn!("requests were still running when the aggregator stopped");
    }
}

/// The next connection, and its place among all there may be; `None` when there was none.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a reader's connection");
            sleep(ACCEPT_BACKOFF).await;
            None
        }
    }
}
