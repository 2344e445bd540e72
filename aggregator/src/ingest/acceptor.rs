//! Accepts connections. TLS is done here and not by tonic, whose settings know neither
//! revocation lists nor certificates that change while it runs.

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use proto::{identity::Identity, tls::Server};
use tokio::{
    io::Interest,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    admitted::{Admission, Admitted},
    connection::{Connection, Peer},
    turns::Turns,
};
use crate::{accept::Refusals, clock, state::Shared};

/// How long the first words of a handshake may take, and how long when places are scarce. Until they are all there, a
/// connection takes a place and nothing else; a host that is busy with a fleet of its own may take its time.
const SILENCE_TIMEOUT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));

/// Places are scarce when no more than this part of them is left.
const SCARCE: usize = 4;

/// How often it is looked whether they are, the first time and at last.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long a handshake has a turn. One that takes longer waits for the other side, and goes on without.
const TURN: Duration = Duration::from_secs(1);

/// How long it may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The head of a TLS record: its kind, two bytes of version, and its length.
const HEAD: usize = 1 + 2 + 2;

/// The kind that a handshake begins with.
const HANDSHAKE: u8 = 22;

pub(super) struct Acceptor {
    listener: TcpListener,
    handshake: Handshake,
    /// One for each connection, those in their handshake included.
    places: Arc<Semaphore>,
    all_places: usize,
}

/// A connection of somebody unknown.
struct Incoming {
    stream: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
    /// How long it may say nothing.
    silence: Duration,
}

#[derive(Clone)]
struct Handshake {
    turns: Arc<Turns>,
    tls: watch::Receiver<Arc<Server>>,
    admitted: Arc<Admitted>,
    shared: Arc<Shared>,
    accepted: mpsc::Sender<io::Result<Connection>>,
}

impl Acceptor {
    pub(super) fn new(
        listener: TcpListener,
        all_places: usize,
        tls: watch::Receiver<Arc<Server>>,
        admitted: Arc<Admitted>,
        shared: Arc<Shared>,
        accepted: mpsc::Sender<io::Result<Connection>>,
    ) -> Self {
        let turns = Arc::default();
        let places = Arc::new(Semaphore::new(all_places));
        let handshake = Handshake { turns, tls, admitted, shared, accepted };
        Self { listener, handshake, places, all_places }
    }

    /// Accepts until `shutdown` ends.
    pub(super) async fn run(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.accept_all() => {}
        }
    }

    async fn accept_all(self) {
        let waiting = &self.handshake.shared.metrics.accepts_delayed;
        let mut refusals = Refusals::new("agents", waiting.with_label_values(&["agents"]));
        loop {
            if self.places.available_permits() == 0 {
                refusals.full(self.all_places);
            }
            // It is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    refusals.accepted();
                    let silence = self.silence();
                    let (task, incoming) =
                        (self.handshake.clone(), Incoming { stream, address, place, silence });
                    tokio::spawn(async move { task.run(incoming).await });
                }
                Err(error) => refusals.failed(&error).await,
            }
        }
    }

    /// How long the next one may say nothing.
    fn silence(&self) -> Duration {
        let (long, short) = SILENCE_TIMEOUT;
        if self.places.available_permits() > self.all_places / SCARCE { long } else { short }
    }
}

impl Handshake {
    async fn run(self, incoming: Incoming) {
        let address = incoming.address;
        let connected = {
            // Counted for as long as it is under way.
            let handshakes = &self.shared.metrics.tls.handshakes;
            handshakes.inc();
            let connected = self.connect(incoming).await;
            handshakes.dec();
            connected
        };
        match connected {
            Ok(connection) => {
                // Nobody takes it when the server is stopping.
                let _ = self.accepted.send(Ok(connection)).await;
            }
            Err(error) => {
                self.shared.metrics.tls.handshakes_failed.inc();
                tracing::info!(%address, %error, "an agent's TLS handshake failed");
            }
        }
    }

    /// Waits for the other side to begin, then for a turn.
    async fn connect(&self, incoming: Incoming) -> io::Result<Connection> {
        let Incoming { stream, address, place, silence } = incoming;
        timeout(silence, first_words(&stream)).await??;
        let turn = self.turns.take(address.ip()).await;
        // Who has given up while it waited is not to take the time of those who have not.
        if stream.ready(Interest::READABLE).await?.is_read_closed() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let mut shaking = pin!(timeout(HANDSHAKE_TIMEOUT, self.shake(stream, address, place)));
        let shaken = match timeout(TURN, shaking.as_mut()).await {
            Ok(shaken) => shaken,
            Err(_) => {
                drop(turn);
                shaking.await
            }
        };
        shaken?
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
        let until_unix_s = server.clients.until(chain);
        if until_unix_s < clock::unix_s() {
            return Err(io::Error::other("the certificate of its CA has expired"));
        }
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        let peer = Peer { address, identity, activity: Arc::default() };
        let (admission, ended) = self.admitted.admit(Admission::new(&peer, until_unix_s, chain))?;
        if ended {
            let counter = &self.shared.metrics.tls.connections_ended;
            counter.with_label_values(&["too_many"]).inc();
        }
        // Whoever comes in while the files change is looked at by the new ones too: here, or by
        // those who go through all that are admitted.
        let current = Arc::clone(&self.tls.borrow());
        if !Arc::ptr_eq(&server, &current) {
            current.clients.verify(&admission.chain).map_err(io::Error::other)?;
        }
        Ok(Connection { stream, peer, admission, _place: place })
    }
}

/// Waits until the first record is there, without taking it: what it costs to read it is for those who have a turn.
async fn first_words(stream: &TcpStream) -> io::Result<()> {
    let mut head = [0; HEAD];
    let (mut pause, longest) = LOOK_EVERY;
    loop {
        let there = stream.peek(&mut head).await?;
        if there == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head[0] != HANDSHAKE {
            // Whatever it is, it is refused without delay.
            return Ok(());
        }
        if there == HEAD {
            let length = HEAD + usize::from(u16::from_be_bytes([head[3], head[4]]));
            if stream.peek(&mut vec![0; length]).await? >= length {
                return Ok(());
            }
        }
        sleep(pause).await;
        pause = (2 * pause).min(longest);
    }
}
