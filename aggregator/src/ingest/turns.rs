//! Whose turn it is to shake hands: first come, first served, and nobody takes all turns for himself.
//!
//! When a fleet comes back at once, those who came first are done first. Would all be served at a time, all would be done
//! late, and give up.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes at a time: they cost CPU, and until they are done nobody knows who it is.
const AT_A_TIME: usize = 256;

/// Those of them that come from one address. Nodes may share one behind an address translation.
const OF_AN_ADDRESS: usize = 64;

/// Bits of an IPv6 address that tell networks apart: whoever has one of them has all its addresses.
const NETWORK: u128 = !0 << 64;

/// Whose turn it is.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, Address>>,
}

/// An address, for as long as somebody comes from it.
struct Address {
    turns: Arc<Semaphore>,
    /// Those who have one, and those who wait.
    users: usize,
}

/// A turn.
pub(super) struct Turn {
    _one: Option<OwnedSemaphorePermit>,
    _of_address: OfAddress,
}

struct OfAddress {
    turns: Arc<Turns>,
    address: IpAddr,
    permit: Option<OwnedSemaphorePermit>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(AT_A_TIME)), by_address: Mutex::default() }
    }
}

impl Turns {
    /// Waits for one.
    pub(super) async fn take(self: &Arc<Self>, address: IpAddr) -> Turn {
        let address = network(address);
        let turns = {
            let mut all = self.addresses();
            let entry = all.entry(address).or_insert_with(|| Address {
                turns: Arc::new(Semaphore::new(OF_AN_ADDRESS)),
                users: 0,
            });
            entry.users += 1;
            Arc::clone(&entry.turns)
        };
        let mut of_address = OfAddress { turns: Arc::clone(self), address, permit: None };
        // Neither is ever closed.
        of_address.permit = turns.acquire_owned().await.ok();
        let one = Arc::clone(&self.all).acquire_owned().await.ok();
        Turn { _one: one, _of_address: of_address }
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, Address>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut all = self.turns.addresses();
        if let Some(entry) = all.get_mut(&self.address) {
            entry.users -= 1;
            if entry.users == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// Who counts as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & NETWORK)),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn is_let_in(turns: &Arc<Turns>, address: &str) -> Option<Turn> {
        let take = turns.take(address.parse().unwrap());
        timeout(Duration::from_millis(50), take).await.ok()
    }

    #[tokio::test]
    async fn an_address_does_not_take_the_turns_of_the_others() {
        let turns = Arc::<Turns>::default();
        let mut taken = Vec::new();
        for last in 0..OF_AN_ADDRESS {
            // One network, whatever the rest of the address.
            taken.push(is_let_in(&turns, &format!("2001:db8::{last:x}")).await.unwrap());
        }
        assert!(is_let_in(&turns, "2001:db8::ffff:1").await.is_none());
        assert!(is_let_in(&turns, "2001:db8:0:1::1").await.is_some());
        assert!(is_let_in(&turns, "::ffff:10.0.0.1").await.is_some());
        taken.pop();
        assert!(is_let_in(&turns, "2001:db8::ffff:1").await.is_some());
        drop(taken);
        assert!(turns.addresses().is_empty(), "nothing is left of those who were there");
    }

    #[tokio::test]
    async fn turns_come_in_the_order_of_those_who_wait() {
        let turns = Arc::<Turns>::default();
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let mut taken = Vec::new();
        for _ in 0..OF_AN_ADDRESS {
            taken.push(turns.take(address).await);
        }
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..10 {
            let (waiting, sender) = (Arc::clone(&turns), sender.clone());
            tokio::spawn(async move {
                let turn = waiting.take(address).await;
                sender.send(number).unwrap();
                drop(turn);
            });
            // It stands in the queue.
            while turns.addresses().get(&address).unwrap().users < OF_AN_ADDRESS + 1 + number {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
        }
        drop(taken.pop());
        for number in 0..10 {
            assert_eq!(order.recv().await, Some(number));
        }
    }
}
