//! Whose a translated connection is.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use topology::model::{Ends, Role};

use super::conntrack::{Entry, Seen};
use crate::addresses::Scopes;

/// The ends of a half as its sockets have them, and where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotEnds {
    /// The half.
    pub half: u32,
    /// Cookie of the sockets' network namespace.
    pub network_namespace: u64,
    /// Which side it is.
    pub role: Role,
    /// Its own address.
    pub local: IpAddr,
    /// The other side's.
    pub peer: IpAddr,
    /// The server's port.
    pub server_port: u16,
    /// The client's own port, of a half that is a single connection.
    pub client_port: u16,
}

/// The side, the client's address, the server's, and its port.
type Key = (Role, IpAddr, IpAddr, u16);

/// Halves by their ends.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    halves: HashMap<Key, Vec<SlotEnds>>,
    namespaces: BTreeSet<u64>,
}

impl Wanted {
    pub(super) fn of(slots: impl Iterator<Item = SlotEnds>) -> Self {
        let mut wanted = Wanted::default();
        for slot in slots {
            let (client, server) = match slot.role {
                Role::Client => (slot.local, slot.peer),
                Role::Server => (slot.peer, slot.local),
            };
            let halves =
                wanted.halves.entry((slot.role, client, server, slot.server_port)).or_default();
            if !halves.contains(&slot) {
                halves.push(slot);
            }
            wanted.namespaces.insert(slot.network_namespace);
        }
        wanted
    }

    /// Network namespaces of halves other than this one.
    pub(super) fn namespaces(&self, host: Option<u64>) -> Vec<u64> {
        self.namespaces.iter().copied().filter(|cookie| Some(*cookie) != host).collect()
    }

    /// Finds whose a connection is that the host's namespace translates. Returns how many sides of it are unclear.
    pub(super) fn in_host(
        &self,
        entry: Entry,
        scopes: &Scopes,
        found: &mut HashMap<u32, Vec<Ends>>,
    ) -> u64 {
        let mut unclear = 0;
        for (role, own, other) in sides(entry) {
            let halves = self.halves(role, own);
            // An address of the host's is the same in all of its namespaces, but for those that are worlds of their own.
            let first = halves.clone().next().map(|slot| slot.network_namespace);
            if halves.clone().any(|slot| Some(slot.network_namespace) != first) {
                unclear += 1;
                continue;
            }
            for slot in halves {
                put(found, slot.half, ends(other, scopes, scopes.host()));
            }
        }
        unclear
    }

    /// The same of a connection that another namespace translates.
    pub(super) fn in_namespace(
        &self,
        cookie: u64,
        entry: Entry,
        scopes: &Scopes,
        found: &mut HashMap<u32, Vec<Ends>>,
    ) {
        for (role, own, other) in sides(entry) {
            for slot in self.halves(role, own).filter(|slot| slot.network_namespace == cookie) {
                put(found, slot.half, ends(other, scopes, cookie));
            }
        }
    }

    fn halves(&self, role: Role, own: Seen) -> impl Iterator<Item = &SlotEnds> + Clone {
        let key = (role, own.client, own.server, own.server_port);
        let halves = self.halves.get(&key).map(Vec::as_slice).unwrap_or_default();
        halves
            .iter()
            .filter(move |slot| slot.client_port == 0 || slot.client_port == own.client_port)
    }
}

/// What each side sees, and what the other does.
fn sides(entry: Entry) -> [(Role, Seen, Seen); 2] {
    [(Role::Client, entry.before, entry.after), (Role::Server, entry.after, entry.before)]
}

fn ends(seen: Seen, scopes: &Scopes, network_namespace: u64) -> Ends {
    Ends {
        client: scopes.of(seen.client, network_namespace),
        server: scopes.of(seen.server, network_namespace),
        server_port: seen.server_port,
    }
}

fn put(found: &mut HashMap<u32, Vec<Ends>>, half: u32, ends: Ends) {
    let all = found.entry(half).or_default();
    if !all.contains(&ends) {
        all.push(ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::model::{Address, Scope};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn seen(client: &str, server: &str, server_port: u16) -> Seen {
        Seen { client: ip(client), client_port: 40_000, server: ip(server), server_port }
    }

    fn slot(half: u32, network_namespace: u64, role: Role, local: &str, peer: &str) -> SlotEnds {
        let server_port = if role == Role::Client { 80 } else { 8080 };
        let (local, peer) = (ip(local), ip(peer));
        SlotEnds { half, network_namespace, role, local, peer, server_port, client_port: 0 }
    }

    fn global(client: &str, server: &str, server_port: u16) -> Ends {
        let address = |text| Address { ip: ip(text), scope: Scope::Global };
        Ends { client: address(client), server: address(server), server_port }
    }

    /// 10.0.0.1 to 10.96.0.1:80, led to 10.0.0.2:8080.
    fn entry() -> Entry {
        let (before, after) =
            (seen("10.0.0.1", "10.96.0.1", 80), seen("10.0.0.9", "10.0.0.2", 8080));
        Entry { before, after }
    }

    #[test]
    fn each_side_is_told_what_the_other_sees() {
        let halves = [
            slot(1, 5, Role::Client, "10.0.0.1", "10.96.0.1"),
            slot(2, 6, Role::Server, "10.0.0.2", "10.0.0.9"),
            slot(3, 6, Role::Server, "10.0.0.2", "10.0.0.1"),
        ];
        let (wanted, mut found) = (Wanted::of(halves.into_iter()), HashMap::new());
        for _ in 0..2 {
            assert_eq!(wanted.in_host(entry(), &Scopes::default(), &mut found), 0);
        }
        let expected = [
            (1, vec![global("10.0.0.9", "10.0.0.2", 8080)]),
            (2, vec![global("10.0.0.1", "10.96.0.1", 80)]),
        ];
        assert_eq!(found, expected.into());
        assert_eq!(wanted.namespaces(Some(5)), [6]);
    }

    #[test]
    fn two_worlds_with_the_same_addresses_are_unclear_to_the_host_alone() {
        let halves =
            [5, 6].map(|space| slot(space as u32, space, Role::Client, "10.0.0.1", "10.96.0.1"));
        let (wanted, mut found) = (Wanted::of(halves.into_iter()), HashMap::new());
        assert_eq!(wanted.in_host(entry(), &Scopes::default(), &mut found), 1);
        assert!(found.is_empty());
        wanted.in_namespace(6, entry(), &Scopes::default(), &mut found);
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn a_single_connection_is_found_by_its_port() {
        let one =
            SlotEnds { client_port: 40_000, ..slot(1, 5, Role::Server, "10.0.0.2", "10.0.0.9") };
        let halves = [one, SlotEnds { half: 2, client_port: 40_001, ..one }];
        let (wanted, mut found) = (Wanted::of(halves.into_iter()), HashMap::new());
        assert_eq!(wanted.in_host(entry(), &Scopes::default(), &mut found), 0);
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [1]);
    }
}
