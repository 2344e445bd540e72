//! Accepts connections. TLS is done here and not by tonic, whose settings know neither
//! revocation lists nor certificates that change while it runs.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use proto::{identity::Identity, tls::Server};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    admitted::{Admission, Admitted},
    connection::{Connection, Peer},
};
use crate::state::Shared;

/// Connections there may be at a time, those in their handshake included.
const CONNECTIONS: usize = 16_384;

/// Handshakes at a time: they cost CPU, and until they are done nobody knows who it is.
const HANDSHAKES: usize = 256;

/// How long the first word of a handshake may take. Until it comes, a connection takes a place and nothing else.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait when the system refuses a connection, for lack of file descriptors say.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

pub(super) struct Acceptor {
    listener: TcpListener,
    handshake: Handshake,
    places: Arc<Semaphore>,
}

#[derive(Clone)]
struct Handshake {
    at_a_time: Arc<Semaphore>,
    tls: watch::Receiver<Arc<Server>>,
    admitted: Arc<Admitted>,
    shared: Arc<Shared>,
    accepted: mpsc::Sender<io::Result<Connection>>,
}

impl Acceptor {
    pub(super) fn new(
        listener: TcpListener,
        tls: watch::Receiver<Arc<Server>>,
        admitted: Arc<Admitted>,
        shared: Arc<Shared>,
        accepted: mpsc::Sender<io::Result<Connection>>,
    ) -> Self {
        Self {
            listener,
            handshake: Handshake {
                at_a_time: Arc::new(Semaphore::new(HANDSHAKES)),
                tls,
                admitted,
                shared,
                accepted,
            },
            places: Arc::new(Semaphore::new(CONNECTIONS)),
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
            // It is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let task = self.handshake.clone();
                    tokio::spawn(async move { task.run(stream, address, place).await });
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
        match timeout(SILENCE_TIMEOUT, stream.readable()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return self.failed(address, &error),
            Err(_) => return self.failed(address, &io::ErrorKind::TimedOut.into()),
        }
        // It is never closed.
        let Ok(_turn) = self.at_a_time.acquire().await else { return };
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
        let server = Arc::clone(&self.tls.borrow());
        let stream = TlsAcceptor::from(Arc::clone(&server.config)).accept(stream).await?;
        let chain = stream.get_ref().1.peer_certificates();
        let chain = chain.filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| io::Error::other("no client certificate"))?;
        let identity = Identity::of(&chain[0]).map_err(io::Error::other)?;
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        let peer = Peer { address, identity };
        let admission = self.admitted.admit(Admission::new(&peer, chain));
        // Whoever comes in while the files change is looked at by the new ones too: here, or by
        // those who go through all that are admitted.
        let current = Arc::clone(&self.tls.borrow());
        if !Arc::ptr_eq(&server, &current) {
            current.verify(&admission.chain).map_err(io::Error::other)?;
        }
        Ok(Connection { stream, peer, admission, _place: place })
    }

    fn failed(&self, address: SocketAddr, error: &io::Error) {
        self.shared.metrics.tls.handshakes_failed.inc();
        tracing::info!(%address, %error, "an agent's TLS handshake failed");
    }
}
