//! A ledger whose memory outlives it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::ledger::{HEAD_BYTES, Identity, Ledger, Memory, Store, Word};

pub(crate) const IDENTITY: Identity = Identity {
    schema: 2,
    generation: 42,
    session: 43,
    cgroup: 44,
    node: 45,
    object: 46,
    settings: 47,
};

/// Memory that outlives its ledger, and that takes so many more stores.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<(Memory, usize)>>);

/// A ledger with so many bytes for notes.
pub(crate) fn begun(bytes: usize) -> (Shared, Ledger) {
    let shared = Shared(Arc::new(Mutex::new((Memory::new(HEAD_BYTES + bytes), usize::MAX))));
    let mut ledger = Ledger::create(Box::new(shared.clone()), &IDENTITY, 10);
    ledger.finish();
    (shared, ledger)
}

impl Shared {
    fn hold(&self) -> std::sync::MutexGuard<'_, (Memory, usize)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Later stores have no effect, as if the process had been killed.
    pub(crate) fn die_after(&self, stores: usize) {
        self.hold().1 = stores;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.hold().1 == 0
    }

    /// The next process opens the ledger.
    pub(crate) fn open(&self) -> Ledger {
        self.die_after(usize::MAX);
        Ledger::open(Box::new(self.clone())).unwrap()
    }

    fn store(&self, store: impl FnOnce(&mut Memory)) {
        let (memory, left) = &mut *self.hold();
        if *left > 0 {
            *left -= 1;
            store(memory);
        }
    }
}

impl Store for Shared {
    fn bytes(&self) -> usize {
        self.hold().0.bytes()
    }

    fn get(&self, word: Word) -> u64 {
        self.hold().0.get(word)
    }

    fn set(&mut self, word: Word, value: u64) {
        self.store(|memory| memory.set(word, value));
    }

    fn read(&self, at: usize, into: &mut [u8]) {
        self.hold().0.read(at, into);
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.store(|memory| memory.write(at, bytes));
    }
}
