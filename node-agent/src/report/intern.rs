//! Small integers for things that are described once per session.

use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque},
    hash::Hash,
};

#[derive(Debug)]
struct Entry<T> {
    value: T,
    references: u32,
    defined: bool,
    /// The last batch that may have used it when the last reference went.
    last: u64,
}

/// Gives ids to values, from 1 on, and takes them back when nobody refers to them any more and
/// no batch that may have will be sent again.
#[derive(Debug)]
pub(super) struct Interner<T> {
    ids: HashMap<T, u32>,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<u32>,
    /// Ids that nobody referred to at some time, and the last batch that may have; ascending.
    leaving: VecDeque<(u64, u32)>,
}

impl<T: Clone + Eq + Hash> Interner<T> {
    pub(super) fn new() -> Self {
        Self {
            ids: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            leaving: VecDeque::new(),
        }
    }

    /// Id of a value, with one more reference to it.
    pub(super) fn acquire(&mut self, value: &T) -> u32 {
        if let Some(id) = self.ids.get(value).copied() {
            if let Some(entry) = self.entry(id) {
                entry.references += 1;
            }
            return id;
        }
        let entry = Some(Entry { value: value.clone(), references: 1, defined: false, last: 0 });
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

    /// One reference less; batches up to `last` may have used it.
    pub(super) fn release(&mut self, id: u32, last: u64) {
        let Some(entry) = self.entry(id) else { return };
        entry.references = entry.references.saturating_sub(1);
        if entry.references == 0 {
            entry.last = last;
            self.leaving.push_back((last, id));
        }
    }

    /// No batch up to this one will be sent any more.
    pub(super) fn let_go(&mut self, seq: u64) {
        while self.leaving.front().is_some_and(|(last, _)| *last <= seq) {
            let Some((last, id)) = self.leaving.pop_front() else { break };
            // It may have been asked for again, and let go again for a later batch.
            let unused = |entry: &mut Entry<T>| entry.references == 0 && entry.last == last;
            if !self.entry(id).is_some_and(unused) {
                continue;
            }
            let place = self.entries.get_mut(id as usize - 1);
            if let Some(entry) = place.and_then(Option::take) {
                self.ids.remove(&entry.value);
                self.free.push(id);
            }
        }
        if self.ids.len() < self.ids.capacity() / 4 {
            self.ids.shrink_to(self.ids.len() * 2);
        }
    }

    /// The value, if no batch has defined the id yet; from now on one has.
    pub(super) fn define(&mut self, id: u32) -> Option<&T> {
        let entry = self.entry(id)?;
        if std::mem::replace(&mut entry.defined, true) { None } else { Some(&entry.value) }
    }

    /// Whether a batch has defined the id.
    pub(super) fn is_defined(&self, id: u32) -> bool {
        self.look(id).is_some_and(|entry| entry.defined)
    }

    /// Whether the value has an id.
    pub(super) fn knows<Q: Eq + Hash + ?Sized>(&self, value: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.ids.contains_key(value)
    }

    /// The value of an id.
    pub(super) fn get(&self, id: u32) -> Option<&T> {
        self.look(id).map(|entry| &entry.value)
    }

    fn look(&self, id: u32) -> Option<&Entry<T>> {
        let index = (id as usize).checked_sub(1)?;
        self.entries.get(index)?.as_ref()
    }

    /// Everything that batches have defined and that they may still use.
    pub(super) fn defined(&self) -> impl Iterator<Item = (u32, &T)> {
        let entries = (1..).zip(&self.entries);
        entries.filter_map(|(id, entry)| {
            entry.as_ref().filter(|entry| entry.defined).map(|entry| (id, &entry.value))
        })
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
    fn ids_live_as_long_as_their_references_and_the_batches_that_used_them() {
        let mut interner = Interner::new();
        let (a, b) = (interner.acquire(&"a"), interner.acquire(&"b"));
        assert_eq!((a, b), (1, 2));
        assert_eq!(interner.acquire(&"a"), a);
        interner.release(a, 3);
        interner.release(a, 4);
        assert_eq!(interner.acquire(&"a"), a, "a batch on its way may name it");
        interner.release(a, 6);
        interner.let_go(5);
        assert_eq!(interner.acquire(&"a"), a, "so it is until batch 6 has arrived");
        interner.release(a, 7);
        interner.let_go(7);
        assert_eq!(interner.acquire(&"c"), a, "the id was free");
        assert_eq!(interner.len(), 2);
        interner.release(99, 7);
        interner.release(0, 7);
    }

    #[test]
    fn an_id_is_defined_once() {
        let mut interner = Interner::new();
        let id = interner.acquire(&"a");
        assert_eq!(interner.defined().count(), 0);
        assert_eq!(interner.define(id), Some(&"a"));
        assert_eq!(interner.define(id), None);
        assert_eq!(interner.defined().collect::<Vec<_>>(), [(id, &"a")]);
        interner.release(id, 1);
        interner.let_go(1);
        let reused = interner.acquire(&"b");
        assert_eq!(interner.define(reused), Some(&"b"), "the id names another thing now");
    }
}
