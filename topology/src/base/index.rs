//! Where values of an arena are, by a key that they have themselves.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;

use super::arena::Key;

/// Finds values of an arena. Of their keys it has the hashes only: with a hundred bytes of key each, a map of some hundred
/// thousand would be as large as much of what it finds, and be there twice while it grows.
pub(crate) struct Index<T> {
    places: HashTable<(u64, Key<T>)>,
    hasher: RandomState,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Index { places: HashTable::new(), hasher: RandomState::new() }
    }
}

impl<T> Index<T> {
    /// Where the value with this key is; `is` says whether one has it.
    pub(crate) fn find(&self, key: &impl Hash, is: impl Fn(Key<T>) -> bool) -> Option<Key<T>> {
        let hash = self.hasher.hash_one(key);
        let found = self.places.find(hash, |(known, place)| *known == hash && is(*place));
        found.map(|(_, place)| *place)
    }

    /// A value is there that none had the key of.
    pub(crate) fn insert(&mut self, key: &impl Hash, place: Key<T>) {
        let hash = self.hasher.hash_one(key);
        self.places.insert_unique(hash, (hash, place), |(hash, _)| *hash);
    }

    /// A value has this key, besides others that it may have; it may be there with it.
    pub(crate) fn add(&mut self, key: &impl Hash, place: Key<T>) {
        let hash = self.hasher.hash_one(key);
        if self.places.find(hash, |known| *known == (hash, place)).is_none() {
            self.places.insert_unique(hash, (hash, place), |(hash, _)| *hash);
        }
    }

    /// A value is gone.
    pub(crate) fn remove(&mut self, key: &impl Hash, place: Key<T>) {
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.places.find_entry(hash, |known| *known == (hash, place)) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::arena::Arena;

    #[test]
    fn what_is_there_is_found_by_its_key() {
        let (mut arena, mut index) = (Arena::default(), Index::default());
        let keys: Vec<String> = (0..1_000).map(|number| format!("key {number}")).collect();
        for key in &keys {
            index.insert(key, arena.insert(key.clone()));
        }
        for key in keys.iter().step_by(2) {
            let place = index.find(key, |place| arena.get(place) == Some(key)).unwrap();
            assert_eq!(arena.remove(place).as_ref(), Some(key));
            index.remove(key, place);
        }
        for (number, key) in keys.iter().enumerate() {
            let found = index.find(key, |place| arena.get(place) == Some(key));
            assert_eq!(found.and_then(|place| arena.get(place)), (number % 2 == 1).then_some(key));
        }
    }
}
