//! Which half each kernel slot counts for.

use std::time::{Duration, Instant};

use common::kernel::{HalfKey, SLOTS, role};

/// In the place of a half where there was no room for one.
pub(super) const NOBODY: u32 = u32::MAX;

/// A slot in use.
#[derive(Clone, Copy, Debug)]
struct Link {
    key: HalfKey,
    half: u32,
    users: u64,
    changed: Instant,
}

/// The slots that have shown a change.
#[derive(Debug, Default)]
pub(super) struct Slots {
    links: Vec<Option<Link>>,
}

impl Slots {
    /// The half of a slot, if the slot still counts for this key.
    pub(super) fn half(&self, slot: u32, key: &HalfKey) -> Option<u32> {
        let link = self.links.get(slot as usize)?.as_ref()?;
        (link.key == *key && link.half != NOBODY).then_some(link.half)
    }

    /// Notes that the slot changed. Returns whether the last of its users that an earlier look
    /// saw is gone.
    pub(super) fn touch(&mut self, slot: u32, users: u64, now: Instant) -> bool {
        let Some(Some(link)) = self.links.get_mut(slot as usize) else { return false };
        let gone = link.users > 0 && users == 0;
        link.users = users;
        link.changed = now;
        gone
    }

    /// The slot counts for this half from now on. Returns the half it counted for before.
    pub(super) fn link(&mut self, slot: u32, key: HalfKey, half: u32, now: Instant) -> Option<u32> {
        // The number comes from a map, but a wrong one must not take the memory.
        if slot >= SLOTS {
            return None;
        }
        let index = slot as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, None);
        }
        let link = Link { key, half, users: 0, changed: now };
        self.links[index].replace(link).map(|before| before.half)
    }

    /// The slot counts for nothing. Returns the half it counted for.
    pub(super) fn unlink(&mut self, slot: u32) -> Option<u32> {
        self.links.get_mut(slot as usize)?.take().map(|link| link.half)
    }

    /// Owners that have a slot.
    pub(super) fn owners(&self) -> impl Iterator<Item = u64> {
        self.links.iter().flatten().map(|link| link.key.owner)
    }

    /// Keys of server halves, and the halves.
    pub(super) fn servers(&self) -> impl Iterator<Item = (&HalfKey, u32)> {
        let servers = self.links.iter().flatten().filter(|link| link.key.role == role::SERVER);
        servers.map(|link| (&link.key, link.half))
    }

    /// All that count for something: their keys and halves, and whether anything uses them or has changed them after this
    /// moment.
    pub(super) fn iter(
        &self,
        since: Option<Instant>,
    ) -> impl Iterator<Item = (&HalfKey, u32, bool)> {
        self.links.iter().flatten().map(move |link| {
            let live = link.users > 0 || since.is_none_or(|since| link.changed > since);
            (&link.key, link.half, live)
        })
    }

    /// Slots that nothing uses and that have been quiet for this long.
    pub(super) fn quiet(&self, now: Instant, time: Duration) -> Vec<u32> {
        let quiet = |link: &Link| link.users == 0 && now.duration_since(link.changed) >= time;
        (0..)
            .zip(&self.links)
            .filter(|(_, link)| link.as_ref().is_some_and(quiet))
            .map(|(slot, _)| slot)
            .collect()
    }
}
