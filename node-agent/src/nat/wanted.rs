//! Whose a translated connection is.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use proto::MAX_ENDS;
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
    /// It has open connections, or has changed lately.
    pub live: bool,
    /// When it was last looked for, another with the same ends was live as well, and nothing else is known of it.
    pub unclear: bool,
}

/// The side, the client's address, the server's and its port, and the client's port where that matters.
type Key = (Role, IpAddr, IpAddr, u16, u16);

/// A half, and where it is.
#[derive(Clone, Copy, Debug)]
struct Place {
    half: u32,
    network_namespace: u64,
    live: bool,
    unclear: bool,
}

/// Halves by their ends.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    halves: HashMap<Key, Vec<Place>>,
    namespaces: BTreeSet<u64>,
}

/// What has been found out.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What the other ends of halves see: one more than there is room for at most.
    pub(super) ends: HashMap<u32, BTreeSet<Ends>>,
    /// Halves whose addresses are translated, but so are another's with the same.
    pub(super) unclear: BTreeSet<u32>,
}

impl Wanted {
    pub(super) fn of(slots: impl Iterator<Item = SlotEnds>) -> Self {
        let mut wanted = Wanted::default();
        for slot in slots {
            let SlotEnds { half, network_namespace, live, unclear, .. } = slot;
            let (client, server) = match slot.role {
                Role::Client => (slot.local, slot.peer),
                Role::Server => (slot.peer, slot.local),
            };
            let key = (slot.role, client, server, slot.server_port, slot.client_port);
            let place = Place { half, network_namespace, live, unclear };
            wanted.halves.entry(key).or_default().push(place);
            wanted.namespaces.insert(network_namespace);
        }
        for places in wanted.halves.values_mut() {
            places.sort_unstable_by_key(|place| (place.half, place.network_namespace, !place.live));
            places.dedup_by_key(|place| (place.half, place.network_namespace));
        }
        wanted
    }

    /// Network namespaces of halves other than this one.
    pub(super) fn namespaces(&self, host: Option<u64>) -> BTreeSet<u64> {
        self.namespaces.iter().copied().filter(|cookie| Some(*cookie) != host).collect()
    }

    /// Finds whose a connection is that the host's namespace translates.
    pub(super) fn in_host(&self, entry: Entry, scopes: &Scopes, found: &mut Findings) {
        let host = scopes.host();
        for (role, own, other) in sides(entry) {
            // An address of the host's is the same in all of its namespaces, but for those that are worlds of their own.
            let inner = own.client.is_loopback() || own.server.is_loopback();
            let places = self
                .places(role, own)
                .filter(move |place| !inner || place.network_namespace == host);
            let live = places.clone().filter(|place| place.live);
            if is_one_world(places.clone()) {
                places.for_each(|place| found.put(place.half, other, scopes, host));
            } else if is_one_world(live.clone()) {
                // The others' were those of one that had the address before. Where both were seen too late for that, what is
                // tracked is of either, and either was translated: else it would be an edge to an address that is nobody's.
                let known = places.filter(|place| place.live || place.unclear);
                known.for_each(|place| found.put(place.half, other, scopes, host));
            } else {
                found.unclear.extend(live.map(|place| place.half));
            }
        }
    }

    /// The same of a connection that another namespace translates.
    pub(super) fn in_namespace(
        &self,
        cookie: u64,
        entry: Entry,
        scopes: &Scopes,
        found: &mut Findings,
    ) {
        for (role, own, other) in sides(entry) {
            for place in self.places(role, own).filter(|place| place.network_namespace == cookie) {
                found.put(place.half, other, scopes, cookie);
            }
        }
    }

    fn places(&self, role: Role, own: Seen) -> impl Iterator<Item = Place> + Clone {
        [own.client_port, 0].into_iter().flat_map(move |client_port| {
            let key = (role, own.client, own.server, own.server_port, client_port);
            self.halves.get(&key).into_iter().flatten().copied()
        })
    }
}

impl Findings {
    fn put(&mut self, half: u32, seen: Seen, scopes: &Scopes, network_namespace: u64) {
        let ends = self.ends.entry(half).or_default();
        if ends.len() <= MAX_ENDS {
            ends.insert(Ends {
                client: scopes.of(seen.client, network_namespace),
                server: scopes.of(seen.server, network_namespace),
                server_port: seen.server_port,
            });
        }
    }
}

fn is_one_world(mut places: impl Iterator<Item = Place>) -> bool {
    let first = places.next().map(|place| place.network_namespace);
    places.all(|place| Some(place.network_namespace) == first)
}

/// What each side sees, and what the other does.
fn sides(entry: Entry) -> [(Role, Seen, Seen); 2] {
    [(Role::Client, entry.before, entry.after), (Role::Server, entry.after, entry.before)]
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
        SlotEnds {
            half,
            network_namespace,
            role,
            local,
            peer,
            server_port,
            client_port: 0,
            live: true,
            unclear: false,
        }
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

    fn host(wanted: &Wanted, entry: Entry) -> Findings {
        let mut found = Findings::default();
        for _ in 0..2 {
            wanted.in_host(entry, &Scopes::default(), &mut found);
        }
        found
    }

    fn halves(found: &Findings) -> (BTreeSet<u32>, Vec<u32>) {
        (found.ends.keys().copied().collect(), found.unclear.iter().copied().collect())
    }

    #[test]
    fn each_side_is_told_what_the_other_sees() {
        let slots = [
            slot(1, 5, Role::Client, "10.0.0.1", "10.96.0.1"),
            slot(2, 6, Role::Server, "10.0.0.2", "10.0.0.9"),
            slot(3, 6, Role::Server, "10.0.0.2", "10.0.0.1"),
        ];
        let wanted = Wanted::of(slots.into_iter());
        let found = host(&wanted, entry());
        let expected = [
            (1, [global("10.0.0.9", "10.0.0.2", 8080)].into()),
            (2, [global("10.0.0.1", "10.96.0.1", 80)].into()),
        ];
        assert_eq!(found.ends, expected.into());
        assert!(found.unclear.is_empty());
        assert_eq!(wanted.namespaces(Some(5)), [6].into());
    }

    #[test]
    fn two_worlds_with_the_same_addresses_are_unclear_to_the_host_alone() {
        let slots =
            [5, 6].map(|space| slot(space as u32, space, Role::Client, "10.0.0.1", "10.96.0.1"));
        let wanted = Wanted::of(slots.into_iter());
        let mut found = host(&wanted, entry());
        assert_eq!(halves(&found), ([].into(), vec![5, 6]), "each once");
        wanted.in_namespace(6, entry(), &Scopes::default(), &mut found);
        assert_eq!(found.ends.into_keys().collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn one_that_had_the_address_before_makes_nothing_unclear() {
        let [mut old, new] =
            [5, 6].map(|space| slot(space as u32, space, Role::Client, "10.0.0.1", "10.96.0.1"));
        old.live = false;
        let (quiet, third) = (SlotEnds { live: false, ..new }, SlotEnds { half: 7, ..new });
        let wanted = Wanted::of([old, quiet, new].into_iter());
        assert_eq!(halves(&host(&wanted, entry())), ([6].into(), vec![]), "one slot is enough");
        let third = SlotEnds { network_namespace: 7, ..third };
        let wanted = Wanted::of([old, new, third].into_iter());
        assert_eq!(halves(&host(&wanted, entry())), ([].into(), vec![6, 7]), "two are left");
        let wanted = Wanted::of([old, quiet].into_iter());
        assert_eq!(halves(&host(&wanted, entry())), ([].into(), vec![]), "none is");
        let wanted = Wanted::of([old].into_iter());
        assert_eq!(halves(&host(&wanted, entry())), ([5].into(), vec![]), "there is no other");
    }

    #[test]
    fn two_that_were_live_at_once_and_are_quiet_were_both_translated() {
        let slots = [5, 6].map(|space| SlotEnds {
            live: false,
            unclear: true,
            ..slot(space as u32, space, Role::Client, "10.0.0.1", "10.96.0.1")
        });
        let [old, new] = slots;
        for new in [new, SlotEnds { live: true, ..new }] {
            let wanted = Wanted::of([old, new].into_iter());
            assert_eq!(halves(&host(&wanted, entry())), ([5, 6].into(), vec![]));
        }
    }

    #[test]
    fn loopback_of_the_host_is_that_of_no_other_namespace() {
        let entry = Entry { before: seen("127.0.0.1", "127.0.0.1", 80), after: entry().after };
        let slots =
            [5, 6].map(|space| slot(space as u32, space, Role::Client, "127.0.0.1", "127.0.0.1"));
        let scopes = Scopes::on_host(6);
        for (slots, expected) in [(&slots[..], vec![6]), (&slots[..1], vec![])] {
            let mut found = Findings::default();
            Wanted::of(slots.iter().copied()).in_host(entry, &scopes, &mut found);
            assert_eq!(halves(&found), (expected.into_iter().collect(), vec![]));
        }
    }

    #[test]
    fn a_single_connection_is_found_by_its_port_besides_those_of_all_ports() {
        let one =
            SlotEnds { client_port: 40_000, ..slot(1, 5, Role::Server, "10.0.0.2", "10.0.0.9") };
        let other = SlotEnds { half: 2, client_port: 40_001, ..one };
        let all = SlotEnds { half: 3, client_port: 0, ..one };
        let wanted = Wanted::of([one, other, all, one].into_iter());
        assert_eq!(halves(&host(&wanted, entry())), ([1, 3].into(), vec![]));
    }

    #[test]
    fn no_more_is_noted_of_a_half_than_there_is_room_for() {
        let wanted = Wanted::of([slot(1, 5, Role::Client, "10.0.0.1", "10.96.0.1")].into_iter());
        let mut found = Findings::default();
        for port in 1..1_000 {
            let after = Seen { server_port: port, ..entry().after };
            wanted.in_host(Entry { after, ..entry() }, &Scopes::default(), &mut found);
        }
        assert_eq!(found.ends[&1].len(), MAX_ENDS + 1);
    }
}
