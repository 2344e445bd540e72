//! Who is at an address?

use std::{collections::HashMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{basis::Basis, place::Place, services::ServiceIx};
use crate::{
    model::{Listener, NodeAddress},
    nodes::NodeIx,
};

/// Who is at an address, by the best evidence there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Service(ServiceIx),
    Host(NodeIx),
    External(IpAddr),
    /// Many that there was no room for.
    Other,
}

/// Where somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Ear {
    /// At one address.
    At(Place),
    /// At every address of a network namespace.
    Any { node: NodeIx, cookie: u64, v6: bool },
}

/// How often each service was seen somewhere: now, and in all that is remembered.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen(Vec<(ServiceIx, u32, u32)>);

impl Seen {
    fn count(&mut self, service: ServiceIx, now: i32, ever: i32) {
        let at = self.0.iter().position(|seen| seen.0 == service).unwrap_or_else(|| {
            self.0.push((service, 0, 0));
            self.0.len() - 1
        });
        let seen = &mut self.0[at];
        seen.1 = seen.1.saturating_add_signed(now);
        seen.2 = seen.2.saturating_add_signed(ever);
        if seen.2 == 0 {
            self.0.swap_remove(at);
        }
    }

    /// The only one that is there now or, when there is none, the only one that was.
    fn sole(&self) -> Option<ServiceIx> {
        let mut now = self.0.iter().filter(|seen| seen.1 > 0);
        match (now.next(), now.next()) {
            (Some(one), None) => Some(one.0),
            (None, _) if self.0.len() == 1 => Some(self.0[0].0),
            _ => None,
        }
    }
}

fn count<K: std::hash::Hash + Eq>(
    map: &mut HashMap<K, Seen>,
    key: K,
    service: ServiceIx,
    now: i32,
    ever: i32,
) {
    let seen = map.entry(key);
    if let std::collections::hash_map::Entry::Occupied(mut seen) = seen {
        seen.get_mut().count(service, now, ever);
        if seen.get().0.is_empty() {
            seen.remove();
        }
    } else if ever > 0 {
        seen.or_default().count(service, now, ever);
    }
}

/// Everything that tells who is at an address, apart from the halves of a link itself.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Evidence {
    /// Whose halves used an address as their own.
    users: HashMap<Place, Seen>,
    /// Whose server halves there are at an address and port.
    servers: HashMap<(Place, u16), Seen>,
    listeners: HashMap<(Ear, u16), Seen>,
    /// Which nodes announced an address, and in which network namespace it is.
    announced: HashMap<Place, Vec<(NodeIx, u64)>>,
    /// How many addresses each network namespace of a node has, 0 for all of a node's.
    own: HashMap<(NodeIx, Option<u64>), usize>,
    /// Each host's own network namespace, where it is known.
    host_namespaces: HashMap<NodeIx, u64>,
    /// Places in networks of single hosts by their address, and how often each is known of.
    local: HashMap<IpAddr, Vec<(Place, u32)>>,
}

/// What happens to a half or a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It comes.
    Comes,
    /// It ends, and is remembered.
    Ends,
    /// It was remembered, and is there again.
    Returns,
    /// What had ended is forgotten.
    Forgotten,
}

impl Change {
    const fn steps(self) -> (i32, i32) {
        match self {
            Change::Comes => (1, 1),
            Change::Ends => (-1, 0),
            Change::Returns => (1, 0),
            Change::Forgotten => (0, -1),
        }
    }
}

impl Evidence {
    /// A half with this own address; `served` is the port when it is a server half.
    pub(crate) fn half(
        &mut self,
        place: Place,
        served: Option<u16>,
        service: ServiceIx,
        change: Change,
    ) {
        if place == Place::Other {
            return;
        }
        let (now, ever) = change.steps();
        count(&mut self.users, place, service, now, ever);
        self.count_local(place, ever);
        if let Some(port) = served {
            count(&mut self.servers, (place, port), service, now, ever);
        }
    }

    /// A listener of a node opens or, with `open` false, closes.
    pub(crate) fn listener<W>(
        &mut self,
        node: NodeIx,
        boot: u32,
        listener: &Listener<W>,
        service: ServiceIx,
        open: bool,
    ) {
        let ip = listener.address.ip.to_canonical();
        let ear = if ip.is_unspecified() {
            Ear::Any { node, cookie: listener.network_namespace, v6: ip.is_ipv6() }
        } else {
            Ear::At(Place::of(node, boot, listener.address))
        };
        let step = if open { 1 } else { -1 };
        count(&mut self.listeners, (ear, listener.port), service, step, step);
    }

    /// A node has an address or, with `has` false, no longer has it.
    pub(crate) fn announce(&mut self, node: NodeIx, boot: u32, address: &NodeAddress, has: bool) {
        let entry = (node, address.network_namespace);
        let place = Place::of(node, boot, address.address);
        let nodes = self.announced.entry(place).or_default();
        match nodes.iter().position(|known| *known == entry) {
            None if has => nodes.push(entry),
            Some(at) if !has => {
                nodes.swap_remove(at);
            }
            _ => {}
        }
        if nodes.is_empty() {
            self.announced.remove(&place);
        }
        self.count_local(place, if has { 1 } else { -1 });
        for key in [(node, None), (node, Some(address.network_namespace))] {
            let own = self.own.entry(key).or_default();
            *own = if has { *own + 1 } else { own.saturating_sub(1) };
            if *own == 0 {
                self.own.remove(&key);
            }
        }
    }

    /// Who is at a place: on the server's side with the port, on the client's without. And how that is known; of what
    /// is external it may be known better.
    pub(crate) fn who(&self, place: Place, server_port: Option<u16>) -> (Answer, Basis) {
        if place == Place::Other {
            return (Answer::Other, Basis::Folded);
        }
        let place = self.locate(place);
        let host = self.host(place);
        if let Some(port) = server_port
            && let Some((service, basis)) = self.serves(place, port)
        {
            return (Answer::Service(service), basis);
        }
        let on = |node| (Answer::Host(node), Basis::HostAddress);
        let user =
            || self.user(place).map(|service| (Answer::Service(service), Basis::WorkloadAddress));
        match (place, host) {
            (Place::Unchosen { node }, _) => on(node),
            (Place::Namespace { node, cookie, .. }, _) if self.is_own(node, cookie) => on(node),
            (Place::Namespace { node, .. }, _) => user().unwrap_or(on(node)),
            (_, Some((node, cookie))) if self.is_own(node, cookie) => on(node),
            (_, Some((node, _))) => user().unwrap_or(on(node)),
            (_, None) => user().unwrap_or((Answer::External(place.ip()), Basis::Address)),
        }
    }

    /// Who serves a port: by a listener at the address, by one at every address of its network
    /// namespace, by server halves of other clients.
    fn serves(&self, place: Place, port: u16) -> Option<(ServiceIx, Basis)> {
        let by_ear = |ear| self.listeners.get(&(ear, port));
        let space = match place {
            Place::Namespace { node, cookie, .. } => Some((node, cookie)),
            _ => self.host(place),
        };
        let any = |v6| space.and_then(|(node, cookie)| by_ear(Ear::Any { node, cookie, v6 }));
        // A listener at [::] takes IPv4 connections too.
        let v4 = if place.ip().is_ipv4() { any(false) } else { None };
        let (seen, basis) = match by_ear(Ear::At(place)).or(v4).or_else(|| any(true)) {
            Some(seen) => (seen, Basis::Listener),
            None => (self.servers.get(&(place, port))?, Basis::Served),
        };
        Some((seen.sole()?, basis))
    }

    fn user(&self, place: Place) -> Option<ServiceIx> {
        self.users.get(&place).and_then(Seen::sole)
    }

    /// The host that a place is on, as far as that is known.
    pub(crate) fn host_of(&self, place: Place) -> Option<NodeIx> {
        match place {
            Place::Namespace { node, .. }
            | Place::Network { node, .. }
            | Place::Unchosen { node } => Some(node),
            Place::Global(_) => match self.locate(place) {
                Place::Network { node, .. } => Some(node),
                place => self.host(place).map(|(node, _)| node),
            },
            Place::Other => None,
        }
    }

    /// Whether a place is on a covered host's own network, as far as that is known: not a pod's or a container's.
    pub(crate) fn is_own_of_host(&self, place: Place) -> bool {
        let place = self.locate(place);
        match (place, self.host(place)) {
            (Place::Unchosen { .. }, _) => true,
            (Place::Namespace { node, cookie, .. }, _) | (_, Some((node, cookie))) => {
                self.is_own(node, cookie)
            }
            (_, None) => false,
        }
    }

    /// An address that nobody has as one of the fleet's is that of the only host's network that has it.
    fn locate(&self, place: Place) -> Place {
        let Place::Global(ip) = place else { return place };
        if self.announced.contains_key(&place) || self.users.contains_key(&place) {
            return place;
        }
        match self.local.get(&ip).map(Vec::as_slice) {
            Some([(only, _)]) => *only,
            _ => place,
        }
    }

    fn count_local(&mut self, place: Place, step: i32) {
        let Place::Network { ip, .. } = place else { return };
        let places = self.local.entry(ip).or_default();
        match places.iter_mut().find(|(known, _)| *known == place) {
            Some((_, times)) => *times = times.saturating_add_signed(step),
            None => places.push((place, u32::try_from(step).unwrap_or(0))),
        }
        places.retain(|(_, times)| *times > 0);
        if places.is_empty() {
            self.local.remove(&ip);
        }
    }

    /// The node that announced an address, with the network namespace; `None` when several did:
    /// then it is no address of the whole fleet.
    fn host(&self, place: Place) -> Option<(NodeIx, u64)> {
        let nodes = self.announced.get(&place)?;
        let first = nodes.first()?;
        nodes.iter().all(|known| known.0 == first.0).then_some(*first)
    }

    /// Whether a network namespace is the host's own. Where that is not known, every one is that
    /// has an address which the host announced; of a host that announced nothing, every one.
    fn is_own(&self, node: NodeIx, cookie: u64) -> bool {
        match self.host_namespaces.get(&node) {
            Some(own) => *own == cookie,
            None => {
                self.own.contains_key(&(node, Some(cookie)))
                    || !self.own.contains_key(&(node, None))
            }
        }
    }

    /// Which network namespace is the host's own.
    pub(crate) fn set_host_namespace(&mut self, node: NodeIx, cookie: Option<u64>) {
        match cookie {
            Some(cookie) => self.host_namespaces.insert(node, cookie),
            None => self.host_namespaces.remove(&node),
        };
    }
}
