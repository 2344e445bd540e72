//! A map that is stored by copying a pointer per page.

use std::{borrow::Borrow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::arena::{Arena, Key};

/// Values by key, in the order of the keys.
///
/// They lie in an [`Arena`], so that what is [stored](Paged::stored) shares them until either side writes.
#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Serialize, V: Serialize",
    deserialize = "K: Clone + Deserialize<'de>, V: Clone + Deserialize<'de>"
))]
pub(crate) struct Paged<K, V> {
    values: Arena<(K, V)>,
    #[serde(skip)]
    by_key: BTreeMap<K, Key<(K, V)>>,
}

impl<K, V> Default for Paged<K, V> {
    fn default() -> Self {
        Paged { values: Arena::default(), by_key: BTreeMap::new() }
    }
}

impl<K: Clone + Ord, V: Clone> Paged<K, V> {
    /// What has to be stored; the rest follows from it.
    pub(crate) fn stored(&self) -> Self {
        Paged { values: self.values.clone(), by_key: BTreeMap::new() }
    }

    /// Finishes what was read back.
    pub(crate) fn resume(&mut self) {
        self.by_key = self.values.iter().map(|(at, (key, _))| (key.clone(), at)).collect();
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.by_key.contains_key(key)
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let at = self.by_key.get(key)?;
        self.values.get(*at).map(|(_, value)| value)
    }

    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.by_key.get(key)?;
        self.values.get_mut(*at).map(|(_, value)| value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.get_mut(&key) {
            Some(known) => *known = value,
            None => {
                let at = self.values.insert((key.clone(), value));
                self.by_key.insert(key, at);
            }
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.by_key.remove(key)?;
        self.values.remove(at).map(|(_, value)| value)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.by_key.keys()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let value = |(key, at): (_, &Key<(K, V)>)| Some((key, &self.values.get(*at)?.1));
        self.by_key.iter().filter_map(value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.values.iter_mut().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_keeps_what_it_had_and_goes_on_alike() {
        let mut map = Paged::default();
        (0..1000).for_each(|key| map.insert(key, 2 * key));
        let stored = map.stored();
        map.insert(5, 7);
        assert_eq!((map.remove(&6), map.remove(&6)), (Some(12), None));
        assert_eq!((map.len(), map.get(&5), map.get(&6)), (999, Some(&7), None));
        let bytes = postcard::to_stdvec(&stored).unwrap();
        let mut read: Paged<i32, i32> = postcard::from_bytes(&bytes).unwrap();
        read.resume();
        assert!(
            read.iter().map(|(key, value)| (*key, *value)).eq((0..1000).map(|key| (key, 2 * key)))
        );
        if let Some(value) = read.get_mut(&0) {
            *value = 1;
        }
        assert!(!read.is_empty() && read.contains_key(&0) && map.get(&0) == Some(&0));
    }
}
