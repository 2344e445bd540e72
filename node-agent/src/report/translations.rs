//! What is known of translated addresses: which halves are to be looked for, and what is to be told.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use common::{COUNTERS, kernel, kernel::role};
use proto::{MAX_ENDS, convert::Translation, v1};
use topology::model::{Ends, HalfKey, Role};

use super::{Report, half::Half, happenings};
use crate::{addresses::canonical, nat::SlotEnds};

/// A half of which no translation is known is looked for again after this time, when it has new connections.
const AGAIN: Duration = Duration::from_secs(30);

/// Translations in one batch, over all halves: some 64 bytes each with what goes around them.
pub(super) const ENDS_PER_BATCH: usize = 16_384;

/// What is due.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// There are halves to be looked for.
    pub(super) wanted: bool,
    /// Halves of which there is something to tell.
    pub(super) untold: Vec<u32>,
}

impl Half {
    /// Whether these increments may be of connections whose translation is not known: of those to a service's address each
    /// may lead to another server.
    pub(super) fn may_be_translated(&self, gained: &[u64; COUNTERS], now: Instant) -> bool {
        let known = |looked: Instant| now.duration_since(looked) < AGAIN;
        let due = !self.ends.is_empty() || !self.ends_looked.is_some_and(known);
        due && !self.key.is_folded() && (self.ends_looked.is_none() || happenings(gained) > 0)
    }

    fn translation(&self, id: u32, from: usize, to: usize) -> Option<v1::Translation> {
        let ends = self.ends.get(from..to).filter(|ends| !ends.is_empty())?;
        Some(Translation { half: id, ends: ends.to_vec() }.into())
    }
}

impl Report {
    /// What addresses mean from now on. Halves that are known keep what they meant.
    pub fn set_scopes(&mut self, scopes: crate::addresses::Scopes) {
        self.scopes = scopes;
    }

    /// Whether translations are to be looked for; asking clears it.
    pub fn take_untranslated(&mut self) -> bool {
        std::mem::take(&mut self.translations.wanted)
    }

    /// Translations are to be looked for again.
    pub fn want_translations(&mut self) {
        self.translations.wanted = true;
    }

    /// The ends of everything that is counted now, and whether it has open connections or has changed after this moment.
    pub fn ends_of_slots(&self, since: Option<Instant>) -> impl Iterator<Item = SlotEnds> {
        self.slots.iter(since).filter_map(|(key, id, live)| {
            let half = self.halves.get(id)?;
            let unclear = half.ends.is_empty() && half.ends_unclear > 0;
            Some(SlotEnds { unclear, ..ends_of(key, id, live)? })
        })
    }

    /// Everything that is counted now has been looked for.
    pub fn looked_for_translations(&mut self, now: Instant) {
        for (_, half, _) in self.slots.iter(None) {
            if let Some(half) = self.halves.get_mut(half) {
                half.ends_looked = Some(now);
            }
        }
    }

    /// What the other ends of a half see, besides what is known. Returns whether for the first time there was no room for
    /// some of it.
    pub fn translate(&mut self, id: u32, ends: impl IntoIterator<Item = Ends>) -> bool {
        let Some(half) = self.halves.get_mut(id) else { return false };
        let (mut refused, known) = (false, half.ends.len());
        for ends in ends {
            if half.ends.contains(&ends) {
                continue;
            }
            if half.ends.len() < MAX_ENDS {
                half.ends.push(ends);
            } else {
                refused = true;
            }
        }
        if half.ends.len() > known {
            self.urgent = true;
            if known == half.ends_told {
                self.translations.untold.push(id);
            }
        }
        refused && !std::mem::replace(&mut half.ends_refused, true)
    }

    /// Translations may be this half's or another's. Returns whether that is to be counted: the first time it is looked
    /// for once more, when one that had the address before is quiet, and each half counts once.
    pub fn untranslatable(&mut self, id: u32) -> bool {
        let Some(half) = self.halves.get_mut(id) else { return false };
        half.ends_unclear = half.ends_unclear.saturating_add(1);
        self.translations.wanted |= half.ends_unclear == 1;
        half.ends_unclear == 2
    }

    /// What the next batch has to say of halves that it or one before defines.
    pub(super) fn put_translations(&mut self) -> v1::Translations {
        let (mut told, mut room) = (v1::Translations::default(), ENDS_PER_BATCH);
        let untold = std::mem::take(&mut self.translations.untold);
        for id in untold {
            let Some(half) = self.halves.get_mut(id).filter(|half| half.retired == 0) else {
                continue;
            };
            if half.defined == 0 || room == 0 {
                self.translations.untold.push(id);
                continue;
            }
            let (from, all) = (half.ends_told, half.ends.len());
            let to = all.min(from.saturating_add(room));
            room = room.saturating_sub(to.saturating_sub(from));
            half.ends_told = to;
            told.translations.extend(half.translation(id, from, to));
            if to < all {
                self.translations.untold.push(id);
            }
        }
        told
    }

    /// What servers see of connections that several workloads may have made, some of them to an address that was translated:
    /// what is no longer known of such a connection, is not to be guessed.
    pub fn unclear_ends(&self) -> HashSet<Ends> {
        let mut clients: HashMap<Ends, (HashSet<u32>, bool)> = HashMap::new();
        for (_, half, _) in self.slots.iter(None) {
            let Some(half) = self.halves.get(half).filter(|half| half.key.role == Role::Client)
            else {
                continue;
            };
            let HalfKey { workload, local, peer, server_port, .. } = half.key;
            let own = Ends { client: local, server: peer, server_port };
            let translated = half.ends.iter().map(|ends| (*ends, true));
            for (ends, is_translated) in translated.chain([(own, false)]) {
                let (workloads, some) = clients.entry(ends).or_default();
                workloads.insert(workload);
                *some |= is_translated;
            }
        }
        clients.retain(|_, (workloads, some)| *some && workloads.len() > 1);
        clients.into_keys().collect()
    }

    /// What batches have told of a half.
    pub(super) fn translation_of(&self, id: u32) -> Option<v1::Translation> {
        let half = self.halves.get(id)?;
        half.translation(id, 0, half.ends_told)
    }
}

fn ends_of(key: &kernel::HalfKey, half: u32, live: bool) -> Option<SlotEnds> {
    let role = match key.role {
        role::CLIENT => Role::Client,
        role::SERVER => Role::Server,
        _ => return None,
    };
    if key.is_folded() {
        return None;
    }
    Some(SlotEnds {
        half,
        network_namespace: key.netns_cookie,
        role,
        local: canonical(key.local),
        peer: canonical(key.peer),
        server_port: key.server_port,
        client_port: key.client_port,
        live,
        unclear: false,
    })
}

#[cfg(test)]
mod tests {
    use topology::model::{Address, Scope, Tuple};

    use super::*;
    use crate::{nat::Asked, testing::world::World};

    #[test]
    fn what_is_not_tracked_any_more_may_be_of_those_who_asked_for_another_address() {
        let mut world = World::new();
        let address = |last: u8| Address { ip: [10, 0, 0, last].into(), scope: Scope::Global };
        let ends = |server_port| Ends { client: address(1), server: address(2), server_port };
        world.gain(0, 0, 80, 1);
        let half = world.report.ends_of_slots(None).next().unwrap().half;
        // One workload goes to 8081 by either way, and two to 8080.
        world.gain(1, 0, 8081, 1);
        world.gain(2, 1, 8080, 1);
        world.gain(3, 1, 8082, 1);
        world.gain(4, 0, 8082, 1);
        assert!(world.report.unclear_ends().is_empty(), "nothing is translated");
        world.report.translate(half, [ends(8080), ends(8081)]);
        let unclear = world.report.unclear_ends();
        assert_eq!(unclear, [ends(8080)].into());
        let asked = |server_port, untracked| Asked {
            tuple: Tuple {
                client: address(1),
                client_port: 40_000,
                server: address(2),
                server_port,
            },
            untracked,
        };
        let expected = [(8080, true, true), (8080, false, false), (8081, true, false)];
        for (port, untracked, is_unclear) in expected {
            assert_eq!(asked(port, untracked).is_unclear(&unclear), is_unclear);
        }
    }
}
