//! Storage whose keys go stale instead of meaning something else.

use std::{hash::Hash, marker::PhantomData};

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

/// Values in places that are used again.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "Unchecked<T>", bound(deserialize = "T: Deserialize<'de>"))]
pub(crate) struct Arena<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct Place<T> {
    life: u32,
    value: Option<T>,
}

/// An arena as it was stored.
#[derive(Deserialize)]
struct Unchecked<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> TryFrom<Unchecked<T>> for Arena<T> {
    type Error = &'static str;

    fn try_from(Unchecked { places, free }: Unchecked<T>) -> Result<Self, Self::Error> {
        let mut empty: Vec<u32> = free.clone();
        empty.sort_unstable();
        let places_empty = (0..).zip(&places).filter(|(_, place)| place.value.is_none());
        if places_empty.map(|(index, _): (u32, _)| index).eq(empty) {
            Ok(Arena { places, free })
        } else {
            Err("the free places are not those that are empty")
        }
    }
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Arena { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Arena<T> {
    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// One more than the highest index that was ever used.
    pub(crate) fn places(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> Key<T> {
        if let Some(index) = self.free.pop()
            && let Some(place) = self.places.get_mut(index as usize)
        {
            place.value = Some(value);
            return Key { index, life: place.life, of: PhantomData };
        }
        // Four thousand million places would need more memory than any host has.
        let index = self.places.len() as u32;
        self.places.push(Place { life: 0, value: Some(value) });
        Key { index, life: 0, of: PhantomData }
    }

    #[inline]
    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        self.places
            .get(key.index())
            .filter(|place| place.life == key.life)
            .and_then(|place| place.value.as_ref())
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        self.places
            .get_mut(key.index())
            .filter(|place| place.life == key.life)
            .and_then(|place| place.value.as_mut())
    }

    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        let place = self.places.get_mut(key.index()).filter(|place| place.life == key.life)?;
        let value = place.value.take()?;
        place.life = place.life.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    /// Takes a value out for a moment; its place stays its own until it is put back.
    pub(crate) fn take(&mut self, key: Key<T>) -> Option<T> {
        let place = self.places.get_mut(key.index()).filter(|place| place.life == key.life)?;
        place.value.take()
    }

    /// Puts back what was taken out.
    pub(crate) fn put_back(&mut self, key: Key<T>, value: T) {
        if let Some(place) = self.places.get_mut(key.index())
            && place.life == key.life
        {
            place.value = Some(value);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let key = Key { index: index as u32, life: place.life, of: PhantomData };
            place.value.as_ref().map(|value| (key, value))
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().filter_map(|place| place.value.as_mut())
    }

    /// The value at a place, whichever of its lives it is in.
    pub(crate) fn at(&self, index: usize) -> Option<&T> {
        self.places.get(index).and_then(|place| place.value.as_ref())
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
}
