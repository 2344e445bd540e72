//! The connections that were let in, so that they can be ended when their certificate is
//! no longer good: nothing else would look at it again while a stream is open.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Context,
};

use rustls::pki_types::CertificateDer;
use tokio::sync::oneshot;

use super::connection::Peer;

/// Certificates as the handshake had them, the agent's own first.
type Chain = Arc<[CertificateDer<'static>]>;

/// All connections that were let in and have not ended.
#[derive(Default)]
pub struct Admitted {
    next: AtomicU64,
    by_number: Mutex<HashMap<u64, Entry>>,
}

/// Who is let in.
#[derive(Clone)]
pub(super) struct Admission {
    address: SocketAddr,
    node: String,
    not_after_unix_s: i64,
    chain: Chain,
}

struct Entry {
    admission: Admission,
    /// Dropped to end the connection.
    _keep: oneshot::Sender<()>,
}

/// What a connection holds for as long as it lives.
pub(super) struct Ticket {
    number: u64,
    admitted: Arc<Admitted>,
    over: oneshot::Receiver<()>,
    is_over: bool,
    pub(super) chain: Chain,
}

impl Admission {
    pub(super) fn new(peer: &Peer, chain: Chain) -> Self {
        let node = peer.identity.node.as_ref().map(|node| node.name.clone());
        Self {
            address: peer.address,
            node: node.unwrap_or_default(),
            not_after_unix_s: peer.identity.not_after_unix_s,
            chain,
        }
    }
}

impl Admitted {
    pub(super) fn admit(self: &Arc<Self>, admission: Admission) -> Ticket {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (keep, over) = oneshot::channel();
        let chain = Arc::clone(&admission.chain);
        self.entries().insert(number, Entry { admission, _keep: keep });
        Ticket { number, admitted: Arc::clone(self), over, is_over: false, chain }
    }

    /// Ends those whose certificate has expired; returns how many.
    pub fn end_expired(&self, now_unix_s: i64) -> u64 {
        let mut ended = 0;
        self.entries().retain(|_, Entry { admission, .. }| {
            let good = admission.not_after_unix_s >= now_unix_s;
            if !good {
                ended += 1;
                let Admission { node, address, .. } = admission;
                tracing::warn!(node, %address, "agent's connection ended: certificate expired");
            }
            good
        });
        ended
    }

    /// Ends those that `verify` no longer accepts; returns how many. Nobody else waits meanwhile.
    pub fn end_refused(
        &self,
        verify: impl Fn(&[CertificateDer<'static>]) -> Result<(), rustls::Error>,
    ) -> u64 {
        let all: Vec<_> = {
            let entries = self.entries();
            entries.iter().map(|(number, entry)| (*number, entry.admission.clone())).collect()
        };
        let mut ended = 0;
        for (number, Admission { address, node, chain, .. }) in all {
            if let Err(error) = verify(&chain) {
                self.entries().remove(&number);
                ended += 1;
                tracing::warn!(node, %address, %error, "agent's connection ended");
            }
        }
        ended
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.by_number.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Whether the connection is to end; otherwise its task is woken when it is.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        // It must not be asked again once it has answered.
        self.is_over = self.is_over || Pin::new(&mut self.over).poll(cx).is_ready();
        self.is_over
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.admitted.entries().remove(&self.number);
    }
}
