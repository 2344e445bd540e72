//! Storage whose keys go stale instead of meaning something else.

use std::{hash::Hash, marker::PhantomData, sync::Arc};

use serde::{Deserialize, Serialize};

/// Key of a value: its place, and which of the place's lives it belongs to.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Key<T> {
    index: u32,
    life: u32,
    #[serde(skip)]
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// No key is before it.
    pub(crate) const FIRST: Self = Key { index: 0, life: 0, of: PhantomData };

    /// The place, below [`Arena::places`].
    pub(crate) const fn index(self) -> usize {
        self.index as usize
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.life) == (other.index, other.life)
    }
}
impl<T> Eq for Key<T> {}
impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.index, self.life).cmp(&(other.index, other.life))
    }
}
impl<T> Hash for Key<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.index, self.life).hash(state);
    }
}
impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.index, self.life)
    }
}

/// Places in one page. Larger pages make a copy of all cheaper, and the first write to one after it dearer.
const PAGE: usize = 128;

/// Values in places that are used again.
///
/// They lie in pages that a clone shares until either side writes: a clone costs a pointer for each page, and
/// each page is copied when it is first written to after that.
#[derive(Clone, Serialize, Deserialize)]
#[serde(
    try_from = "Unchecked<T>",
    bound(serialize = "T: Serialize", deserialize = "T: Clone + Deserialize<'de>")
)]
pub(crate) struct Arena<T> {
    /// All but the last are full.
    pages: Vec<Arc<Vec<Place<T>>>>,
    free: Vec<u32>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Place<T> {
    life: u32,
    value: Option<T>,
}

/// An arena as it was stored.
#[derive(Deserialize)]
struct Unchecked<T> {
    pages: Vec<Arc<Vec<Place<T>>>>,
    free: Vec<u32>,
}

impl<T> TryFrom<Unchecked<T>> for Arena<T> {
    type Error = &'static str;

    fn try_from(Unchecked { pages, free }: Unchecked<T>) -> Result<Self, Self::Error> {
        let (last, full) = pages.split_last().map_or((0, &pages[..]), |(l, f)| (l.len(), f));
        if last > PAGE || full.iter().any(|page| page.len() != PAGE) {
            return Err("a page is not full");
        }
        let mut empty: Vec<u32> = free.clone();
        empty.sort_unstable();
        let places = pages.iter().flat_map(|page| page.iter());
        let places_empty = (0..).zip(places).filter(|(_, place)| place.value.is_none());
        if places_empty.map(|(index, _): (u32, _)| index).eq(empty) {
            Ok(Arena { pages, free })
        } else {
            Err("the free places are not those that are empty")
        }
    }
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Arena { pages: Vec::new(), free: Vec::new() }
    }
}

impl<T> Arena<T> {
    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.places() - self.free.len()
    }

    /// One more than the highest index that was ever used.
    pub(crate) fn places(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE + last.len())
    }

    #[inline]
    fn place(&self, index: usize) -> Option<&Place<T>> {
        self.pages.get(index / PAGE)?.get(index % PAGE)
    }

    #[inline]
    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        self.place(key.index())
            .filter(|place| place.life == key.life)
            .and_then(|place| place.value.as_ref())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        let places = self.pages.iter().flat_map(|page| page.iter());
        places.enumerate().filter_map(|(index, place)| {
            let key = Key { index: index as u32, life: place.life, of: PhantomData };
            place.value.as_ref().map(|value| (key, value))
        })
    }

    /// The value at a place, whichever of its lives it is in.
    pub(crate) fn at(&self, index: usize) -> Option<&T> {
        self.place(index).and_then(|place| place.value.as_ref())
    }
}

impl<T: Clone> Arena<T> {
    #[inline]
    fn place_mut(&mut self, index: usize) -> Option<&mut Place<T>> {
        Arc::make_mut(self.pages.get_mut(index / PAGE)?).get_mut(index % PAGE)
    }

    #[inline]
    fn living(&mut self, key: Key<T>) -> Option<&mut Place<T>> {
        self.place_mut(key.index()).filter(|place| place.life == key.life)
    }

    pub(crate) fn insert(&mut self, value: T) -> Key<T> {
        if let Some(index) = self.free.pop()
            && let Some(place) = self.place_mut(index as usize)
        {
            place.value = Some(value);
            return Key { index, life: place.life, of: PhantomData };
        }
        // Four thousand million places would need more memory than any host has.
        let index = self.places() as u32;
        let place = Place { life: 0, value: Some(value) };
        match self.pages.last_mut().filter(|last| last.len() < PAGE) {
            Some(last) => Arc::make_mut(last).push(place),
            None => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(place);
                self.pages.push(Arc::new(page));
            }
        }
        Key { index, life: 0, of: PhantomData }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        self.living(key).and_then(|place| place.value.as_mut())
    }

    /// Changes one value after the other, `None` where a key is stale. Of keys in a row whose values lie in one page, it is
    /// asked once whether that is shared.
    #[inline]
    pub(crate) fn change_all<K>(
        &mut self,
        all: &[K],
        key: impl Fn(&K) -> Key<T>,
        mut change: impl FnMut(&K, Option<&mut T>),
    ) {
        for some in all.chunk_by(|a, b| key(a).index() / PAGE == key(b).index() / PAGE) {
            let page = some.first().and_then(|one| self.pages.get_mut(key(one).index() / PAGE));
            let mut page = page.map(Arc::make_mut);
            for one in some {
                let key = key(one);
                let place = page.as_mut().and_then(|page| page.get_mut(key.index() % PAGE));
                let place = place.filter(|place| place.life == key.life);
                change(one, place.and_then(|place| place.value.as_mut()));
            }
        }
    }

    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        let place = self.living(key)?;
        let value = place.value.take()?;
        place.life = place.life.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    /// Takes a value out for a moment; its place stays its own until it is put back.
    pub(crate) fn take(&mut self, key: Key<T>) -> Option<T> {
        self.living(key)?.value.take()
    }

    /// Puts back what was taken out.
    pub(crate) fn put_back(&mut self, key: Key<T>, value: T) {
        if let Some(place) = self.living(key) {
            place.value = Some(value);
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let places = self.pages.iter_mut().flat_map(|page| Arc::make_mut(page).iter_mut());
        places.filter_map(|place| place.value.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_dies_with_its_value() {
        let mut arena = Arena::default();
        let first = arena.insert("first");
        assert_eq!(arena.remove(first), Some("first"));
        let second = arena.insert("second");
        assert_eq!(first.index(), second.index());
        assert_eq!(arena.get(first), None);
        assert_eq!(arena.remove(first), None);
        assert_eq!(arena.get(second), Some(&"second"));
        assert_eq!((arena.len(), arena.places()), (1, 1));
    }

    #[test]
    fn all_that_live_are_changed_and_no_clone_of_them() {
        let mut arena = Arena::default();
        let keys: Vec<_> = (0..2 * PAGE + 7).map(|value| arena.insert(value)).collect();
        arena.remove(keys[5]);
        arena.insert(1_000_000);
        let before = arena.clone();
        let mut stale = Vec::new();
        let asked: Vec<_> = keys.iter().rev().copied().chain([keys[0]]).collect();
        arena.change_all(
            &asked,
            |key| *key,
            |key, value| match value {
                Some(value) => *value += 1,
                None => stale.push(*key),
            },
        );
        assert_eq!(stale, [keys[5]]);
        for (value, key) in keys.iter().enumerate().filter(|(value, _)| *value != 5) {
            assert_eq!(before.get(*key), Some(&value));
            assert_eq!(arena.get(*key), Some(&(value + 1 + usize::from(value == 0))));
        }
        assert_eq!(arena.at(5), Some(&1_000_000));
    }

    #[test]
    fn a_clone_keeps_what_it_had() {
        let mut arena = Arena::default();
        let keys: Vec<_> = (0..3 * PAGE + 7).map(|value| arena.insert(value)).collect();
        let before = arena.clone();
        for key in &keys[..PAGE] {
            arena.remove(*key);
        }
        if let Some(value) = arena.get_mut(keys[2 * PAGE]) {
            *value = 1_000_000;
        }
        let more = arena.insert(5);
        assert!(before.iter().map(|(_, value)| *value).eq(0..3 * PAGE + 7));
        assert_eq!(before.len(), 3 * PAGE + 7);
        assert_eq!((before.get(more), arena.get(more)), (None, Some(&5)));
        assert_eq!(arena.len(), 2 * PAGE + 8);
        assert_eq!(arena.iter().filter(|(_, value)| **value == 1_000_000).count(), 1);
    }
}
