//! Small integers for things that are described once per stream.

use std::{collections::HashMap, hash::Hash};

#[derive(Debug)]
struct Entry<T> {
    value: T,
    references: u32,
    defined: bool,
}

/// Gives ids to values, from 1 on, and takes them back when nobody refers to them any more.
///
/// Ids outlive streams; what a stream has not been told yet is noted per id.
#[derive(Debug)]
pub(super) struct Interner<T> {
    ids: HashMap<T, u32>,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<u32>,
}

impl<T: Clone + Eq + Hash> Interner<T> {
    pub(super) fn new() -> Self {
        Self { ids: HashMap::new(), entries: Vec::new(), free: Vec::new() }
    }

    /// Id of a value, with one more reference to it.
    pub(super) fn acquire(&mut self, value: &T) -> u32 {
        if let Some(id) = self.ids.get(value).copied() {
            if let Some(entry) = self.entry(id) {
                entry.references += 1;
            }
            return id;
        }
        let entry = Some(Entry { value: value.clone(), references: 1, defined: false });
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.entries.get_mut(id as usize - 1) {
                    *place = entry;
                }
                id
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32
            }
        };
        self.ids.insert(value.clone(), id);
        id
    }

    /// One reference less.
    pub(super) fn release(&mut self, id: u32) {
        let Some(entry) = self.entry(id) else { return };
        entry.references = entry.references.saturating_sub(1);
        if entry.references > 0 {
            return;
        }
        let place = self.entries.get_mut(id as usize - 1);
        if let Some(entry) = place.and_then(Option::take) {
            self.ids.remove(&entry.value);
            self.free.push(id);
        }
    }

    /// The value, if the stream does not know the id yet; from now on it does.
    pub(super) fn define(&mut self, id: u32) -> Option<&T> {
        let entry = self.entry(id)?;
        if std::mem::replace(&mut entry.defined, true) { None } else { Some(&entry.value) }
    }

    /// A new stream knows nothing.
    pub(super) fn forget_definitions(&mut self) {
        for entry in self.entries.iter_mut().flatten() {
            entry.defined = false;
        }
    }

    /// Values that have an id.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    fn entry(&mut self, id: u32) -> Option<&mut Entry<T>> {
        let index = (id as usize).checked_sub(1)?;
        self.entries.get_mut(index)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_live_as_long_as_their_references() {
        let mut interner = Interner::new();
        let (a, b) = (interner.acquire(&"a"), interner.acquire(&"b"));
        assert_eq!((a, b), (1, 2));
        assert_eq!(interner.acquire(&"a"), a);
        interner.release(a);
        assert_eq!(interner.acquire(&"a"), a, "one reference was left");
        interner.release(a);
        interner.release(a);
        assert_eq!(interner.acquire(&"c"), a, "the id was free");
        assert_eq!(interner.len(), 2);
        interner.release(99);
        interner.release(0);
    }

    #[test]
    fn a_stream_is_told_once() {
        let mut interner = Interner::new();
        let id = interner.acquire(&"a");
        assert_eq!(interner.define(id), Some(&"a"));
        assert_eq!(interner.define(id), None);
        interner.forget_definitions();
        assert_eq!(interner.define(id), Some(&"a"));
        interner.release(id);
        let reused = interner.acquire(&"b");
        assert_eq!(interner.define(reused), Some(&"b"), "the id names another thing now");
    }
}
