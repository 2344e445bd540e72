//! Where a peer keeps what it counts.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    report::{Connection, End, Failure, KernelCount, Report, Side},
    socket::namespace_inode,
    wire::MAX_TOKEN,
};

/// Connections and failures kept; what comes later is only counted, so that a peer
/// that runs for days stays small.
const RECORDS: usize = 200_000;

/// Every connection and failure of a peer.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    connections: Mutex<Vec<Arc<Entry>>>,
    failures: Mutex<Vec<Failure>>,
    unrecorded: AtomicU64,
}

/// One connection's line in the ledger.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) side: Side,
    local: SocketAddr,
    peer: SocketAddr,
    token: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    end: Mutex<(End, Option<KernelCount>)>,
}

impl Ledger {
    pub(super) fn open(&self, side: Side, local: SocketAddr, peer: SocketAddr) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            side,
            local,
            peer,
            token: AtomicU64::new(if side == Side::Client { new_token() } else { 0 }),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            end: Mutex::new((End::Open, None)),
        });
        self.keep(&self.connections, Arc::clone(&entry));
        entry
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.keep(&self.failures, failure);
    }

    pub(super) fn report(&self) -> Report {
        Report {
            namespace: namespace_inode(),
            connections: lock(&self.connections).iter().map(|entry| entry.line()).collect(),
            failures: lock(&self.failures).clone(),
            unrecorded: self.unrecorded.load(Ordering::Relaxed),
        }
    }

    fn keep<T>(&self, list: &Mutex<Vec<T>>, item: T) {
        let mut list = lock(list);
        if list.len() < RECORDS {
            list.push(item);
        } else {
            self.unrecorded.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Entry {
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What the client calls the connection; 0 as long as its server has not heard it.
    pub(super) fn token(&self) -> u64 {
        self.token.load(Ordering::Relaxed)
    }

    /// The client has said what it calls the connection.
    pub(super) fn called(&self, token: u64) {
        self.token.store(token, Ordering::Relaxed);
    }

    /// What the application has handed over and taken.
    pub(super) fn moved(&self) -> KernelCount {
        KernelCount {
            acked: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }

    pub(super) fn end(&self, end: End, kernel: Option<KernelCount>) {
        *lock(&self.end) = (end, kernel);
    }

    fn line(&self) -> Connection {
        let (end, kernel) = *lock(&self.end);
        Connection {
            side: self.side,
            local: self.local,
            peer: self.peer,
            token: self.token(),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            end,
            kernel,
        }
    }
}

/// A name for a connection that no other has, of this process or of another.
fn new_token() -> u64 {
    // Seeded by the system, differently each time.
    RandomState::new().build_hasher().finish() & MAX_TOKEN
}

/// A poisoned lock only means that some thread panicked; the numbers are still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
