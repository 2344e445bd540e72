//! The connections that were let in, so that they can be ended: when their certificate is no longer good, which nothing
//! else would look at while a stream is open; and when they are of no use.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Context,
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{sync::oneshot, time::Instant};

use super::{activity::Activity, connection::Peer};

/// Connections of one node at a time. It needs one; another overlaps with it while it changes over, and some may be left
/// of a host that vanished.
const OF_A_NODE: usize = 8;

/// A connection that has no stream for this long is of no use.
const IDLE: Duration = Duration::from_secs(30);

/// Certificates as the handshake had them, the agent's own first.
type Chain = Arc<[CertificateDer<'static>]>;

/// All connections that were let in and have not ended.
#[derive(Default)]
pub struct Admitted {
    next: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_number: HashMap<u64, Entry>,
    of_node: HashMap<String, Vec<u64>>,
}

/// Who is let in.
#[derive(Clone)]
pub(super) struct Admission {
    address: SocketAddr,
    node: String,
    /// When the first certificate of its chain expires.
    until_unix_s: i64,
    chain: Chain,
    activity: Arc<Activity>,
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
    pub(super) fn new(peer: &Peer, until_unix_s: i64, chain: Chain) -> Self {
        let node = peer.identity.node.as_ref().map(|node| node.name.clone());
        Self {
            address: peer.address,
            node: node.unwrap_or_default(),
            until_unix_s,
            chain,
            activity: Arc::clone(&peer.activity),
        }
    }
}

impl Entries {
    fn insert(&mut self, number: u64, entry: Entry) {
        self.of_node.entry(entry.admission.node.clone()).or_default().push(number);
        self.by_number.insert(number, entry);
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.by_number.remove(&number)?;
        if let Some(numbers) = self.of_node.get_mut(&entry.admission.node) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.of_node.remove(&entry.admission.node);
            }
        }
        Some(entry)
    }

    /// The connection of a node that has had no stream for longest.
    fn idlest(&self, numbers: &[u64]) -> Option<u64> {
        let idle = numbers.iter().filter_map(|number| {
            let since = self.by_number.get(number)?.admission.activity.idle_since()?;
            Some((since, *number))
        });
        idle.min().map(|(_, number)| number)
    }
}

impl Admitted {
    /// Lets somebody in, if need be in place of a connection of the same node that is of no use; whether that was so.
    pub(super) fn admit(self: &Arc<Self>, admission: Admission) -> io::Result<(Ticket, bool)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (keep, over) = oneshot::channel();
        let chain = Arc::clone(&admission.chain);
        let mut entries = self.entries();
        let of_node = entries.of_node.get(&admission.node).map_or(&[][..], Vec::as_slice);
        let is_full = of_node.len() >= OF_A_NODE;
        if is_full {
            let Some(idlest) = entries.idlest(of_node) else {
                let reason =
                    format!("node {:?} has {OF_A_NODE} connections in use", admission.node);
                return Err(io::Error::other(reason));
            };
            entries.remove(idlest);
        }
        entries.insert(number, Entry { admission, _keep: keep });
        drop(entries);
        let ticket = Ticket { number, admitted: Arc::clone(self), over, is_over: false, chain };
        Ok((ticket, is_full))
    }

    /// Ends those whose certificate has expired; returns how many.
    pub fn end_expired(&self, now_unix_s: i64) -> u64 {
        self.end_where("certificate expired", |admission| admission.until_unix_s < now_unix_s)
    }

    /// Ends those without a stream; returns how many.
    pub fn end_idle(&self) -> u64 {
        let now = Instant::now();
        self.end_where("it was not used", |admission| {
            admission.activity.idle_since().is_some_and(|since| now - since >= IDLE)
        })
    }

    fn end_where(&self, reason: &str, is_over: impl Fn(&Admission) -> bool) -> u64 {
        let mut entries = self.entries();
        let over = entries.by_number.iter().filter(|(_, entry)| is_over(&entry.admission));
        let over: Vec<_> = over.map(|(number, _)| *number).collect();
        let mut ended = 0;
        for number in over {
            let Some(Entry { admission, .. }) = entries.remove(number) else { continue };
            ended += 1;
            let Admission { node, address, .. } = admission;
            tracing::warn!(node, %address, "agent's connection ended: {reason}");
        }
        ended
    }

    /// Ends those that `verify` no longer accepts, and notes of the others until when it does; returns how many were
    /// ended. Nobody else waits meanwhile.
    pub fn end_refused(
        &self,
        verify: impl Fn(&[CertificateDer<'static>]) -> Result<i64, rustls::Error>,
    ) -> u64 {
        let all: Vec<_> = {
            let entries = self.entries();
            let all = entries.by_number.iter();
            all.map(|(number, entry)| (*number, entry.admission.clone())).collect()
        };
        let mut ended = 0;
        for (number, Admission { address, node, chain, .. }) in all {
            match verify(&chain) {
                Ok(until_unix_s) => {
                    if let Some(entry) = self.entries().by_number.get_mut(&number) {
                        entry.admission.until_unix_s = until_unix_s;
                    }
                }
                Err(error) => {
                    self.entries().remove(number);
                    ended += 1;
                    tracing::warn!(node, %address, %error, "agent's connection ended");
                }
            }
        }
        ended
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.admitted.entries().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use proto::identity::{Identity, NodeIdentity};

    use super::*;

    fn admission(node: &str, until_unix_s: i64) -> (Admission, Arc<Activity>) {
        let node = NodeIdentity { trust_domain: "t".to_owned(), name: node.to_owned() };
        let identity = Identity { node: Some(node), not_after_unix_s: i64::MAX };
        let activity = Arc::<Activity>::default();
        let address = ([127, 0, 0, 1], 1).into();
        let peer = Peer { address, identity, activity: Arc::clone(&activity) };
        (Admission::new(&peer, until_unix_s, Arc::new([])), activity)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_used_ends_and_what_is_used_stays() {
        let admitted = Arc::<Admitted>::default();
        let (used, activity) = admission("a", 100);
        let stream = activity.begin();
        let _used = admitted.admit(used).unwrap();
        let _idle = admitted.admit(admission("b", 100).0).unwrap();
        tokio::time::advance(IDLE).await;
        assert_eq!((admitted.end_idle(), admitted.end_idle()), (1, 0));
        drop(stream);
        assert_eq!(admitted.end_idle(), 0, "from the end of its stream on");
        tokio::time::advance(IDLE).await;
        assert_eq!(admitted.end_idle(), 1);
        assert!(admitted.entries().of_node.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_makes_room_for_itself_and_for_nobody_else() {
        let admitted = Arc::<Admitted>::default();
        let mut tickets = Vec::new();
        let mut streams = Vec::new();
        for number in 0..OF_A_NODE {
            let (one, activity) = admission("a", 100);
            if number > 0 {
                streams.push(activity.begin());
            }
            let (ticket, ended) = admitted.admit(one).unwrap();
            assert!(!ended);
            tickets.push(ticket);
        }
        assert!(!admitted.admit(admission("b", 100).0).unwrap().1);
        let (one, activity) = admission("a", 100);
        streams.push(activity.begin());
        let (ticket, ended) = admitted.admit(one).unwrap();
        assert!(ended);
        assert!(
            tickets[0].over.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Closed)
        );
        tickets.push(ticket);
        assert!(admitted.admit(admission("a", 100).0).is_err(), "all of them are in use");
    }

    #[tokio::test]
    async fn new_files_say_until_when_a_certificate_is_good() {
        let admitted = Arc::<Admitted>::default();
        let _ticket = admitted.admit(admission("a", 100).0).unwrap();
        assert_eq!(admitted.end_refused(|_| Ok(200)), 0);
        assert_eq!((admitted.end_expired(150), admitted.end_expired(201)), (0, 1));
    }
}
