//! Halves of which one has an address that its host takes for its own, and the other for one of the whole fleet.
//!
//! Whether the addresses behind a bridge are routed from elsewhere cannot be seen on the host. A half there has its own
//! address as one of the host's network; another host that reaches it has it as one of the fleet. The two meet if there
//! is only one network in which the address and those of the other side come together.

use super::link::{LinkKey, Links};
use crate::who::place::Place;

/// What a host makes of a key to which neither address is its own; `None` where nobody but one host has part in it.
pub(crate) fn seen_from_afar(key: &LinkKey) -> Option<LinkKey> {
    let far = |place: Place| match place {
        Place::Global(ip) | Place::Network { ip, .. } => Some(Place::Global(ip)),
        Place::Namespace { .. } | Place::Unchosen { .. } | Place::Other => None,
    };
    if is_scoped(key.client) && is_scoped(key.server) {
        return None;
    }
    Some(LinkKey { client: far(key.client)?, server: far(key.server)?, ..*key })
}

const fn is_scoped(place: Place) -> bool {
    matches!(place, Place::Network { .. })
}

impl Links {
    pub(super) fn note_scoped(&mut self, key: &LinkKey) {
        if let Some(far) = seen_from_afar(key).filter(|far| far != key) {
            let keys = self.scoped.entry(far).or_default();
            if !keys.contains(key) {
                keys.push(*key);
            }
        }
    }

    pub(super) fn forget_scoped(&mut self, key: &LinkKey) {
        let Some(far) = seen_from_afar(key) else { return };
        if let Some(keys) = self.scoped.get_mut(&far) {
            keys.retain(|known| known != key);
            if keys.is_empty() {
                self.scoped.remove(&far);
            }
        }
    }

    /// What the other side of a key may have in its place.
    pub(crate) fn counterparts(&self, key: &LinkKey) -> Vec<LinkKey> {
        let Some(far) = seen_from_afar(key) else { return Vec::new() };
        let scoped = self.scoped.get(&far).map(Vec::as_slice).unwrap_or_default();
        // It need not be known of yet.
        let new = (*key != far && !scoped.contains(key)).then_some(key);
        let mut found: Vec<LinkKey> = self.at(&far).map(|_| far).into_iter().collect();
        let sides: [fn(&LinkKey) -> bool; 2] =
            [|key| is_scoped(key.client), |key| is_scoped(key.server)];
        for is_own in sides {
            let mut alike = scoped.iter().chain(new).filter(|key| is_own(key));
            match (alike.next(), alike.next()) {
                (Some(only), None) => found.push(*only),
                // Networks of several hosts have the address.
                (Some(_), Some(_)) if is_own(key) => return Vec::new(),
                _ => {}
            }
        }
        found.retain(|other| other != key);
        found
    }
}
