//! Accepts connections. TLS is done here and not by tonic, whose settings know neither
//! revocation lists nor certificates that change while it runs.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use proto::identity::Identity;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::connection::{Connection, Peer};
use crate::state::Shared;

/// Connections there may be at a time, those in their handshake included.
const CONNECTIONS: usize = 16_384;

/// Handshakes at a time: they cost CPU, and until they are done nobody knows who it is.
const HANDSHAKES: usize = 256;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait when the system refuses a connection, for lack of file descriptors say.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

pub(super) struct Acceptor {
    listener: TcpListener,
    handshake: Handshake,
    places: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

#[derive(Clone)]
struct Handshake {
    tls: watch::Receiver<Arc<ServerConfig>>,
    shared: Arc<Shared>,
    accepted: mpsc::Sender<io::Result<Connection>>,
}

impl Acceptor {
    pub(super) fn new(
        listener: TcpListener,
        tls: watch::Receiver<Arc<ServerConfig>>,
        shared: Arc<Shared>,
        accepted: mpsc::Sender<io::Result<Connection>>,
    ) -> Self {
        Self {
            listener,
            handshake: Handshake { tls, shared, accepted },
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
        }
    }

    /// Accepts until `shutdown` ends.
    pub(super) async fn run(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.accept_all() => {}
        }
    }

    async fn accept_all(self) {
        loop {
            let places = Arc::clone(&self.places).acquire_owned().await;
            let handshakes = Arc::clone(&self.handshakes).acquire_owned().await;
            // Neither semaphore is ever closed.
            let (Ok(place), Ok(handshake)) = (places, handshakes) else { return };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let task = self.handshake.clone();
                    tokio::spawn(async move {
                        task.run(stream, address, place).await;
                        drop(handshake);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of an agent");
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }
}

impl Handshake {
    async fn run(self, stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
        match timeout(HANDSHAKE_TIMEOUT, self.shake(stream, address, place)).await {
            Ok(Ok(connection)) => {
                // Nobody takes it when the server is stopping.
                let _ = self.accepted.send(Ok(connection)).await;
            }
            Ok(Err(error)) => self.failed(address, &error),
            Err(_) => self.failed(address, &io::ErrorKind::TimedOut.into()),
        }
    }

    async fn shake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        let config = Arc::clone(&self.tls.borrow());
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.ok_or_else(|| io::Error::other("no client certificate"))?;
        let identity = Identity::of(certificate).map_err(io::Error::other)?;
        Ok(Connection { stream, peer: Peer { address, identity }, _place: place })
    }

    fn failed(&self, address: SocketAddr, error: &io::Error) {
        self.shared.metrics.handshakes_failed.inc();
        tracing::info!(%address, %error, "an agent's TLS handshake failed");
    }
}
