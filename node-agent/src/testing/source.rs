//! A kernel that counts what the test says.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write as _,
    os::{fd::AsFd as _, fd::BorrowedFd, unix::net::UnixStream},
    sync::{Arc, Mutex, PoisonError},
};

use common::{
    COUNTERS, Counter, HistogramKind,
    kernel::{HalfKey, Hint, HintKind, ListenerKey, Owner, role},
};
use topology::model::Tuple;

use crate::{
    ledger::Ledger,
    source::{
        PortSharing, Program, ProgramState, RetireOutcome, Server, SlotChange, SlotUse, Source,
    },
};

#[derive(Debug)]
struct Slot {
    key: HalfKey,
    counters: [u64; COUNTERS],
    buckets: BTreeMap<(HistogramKind, u16), u64>,
    /// What of both has been shown.
    shown: ([u64; COUNTERS], BTreeMap<(HistogramKind, u16), u64>),
    users: u64,
    changed: bool,
}

/// What the pretended kernel holds; tests change it while the agent reads it.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    slots: BTreeMap<u32, Slot>,
    pub(crate) owners: HashMap<u64, Owner>,
    pub(crate) listeners: Vec<ListenerKey>,
    pub(crate) losses: Vec<(&'static str, u64)>,
    pub(crate) runqueue: Vec<(u16, u64)>,
    pub(crate) tuples: HashMap<Tuple, u64>,
    pub(crate) refreshes: u64,
    pub(crate) retired: Vec<u32>,
    pub(crate) sharing: Vec<(u64, u16, PortSharing)>,
    /// How many slots there are, if not as many as there can be.
    pub(crate) capacity: Option<u32>,
    /// An owner who comes while sockets are looked at, and is gone before listeners are.
    pub(crate) passing: Option<(u64, Owner)>,
    hints: Vec<Hint>,
}

/// A handle to the kernel, for the test and for the agent.
#[derive(Debug)]
pub(crate) struct FakeSource {
    kernel: Arc<Mutex<Kernel>>,
    programs: Vec<Program>,
    wake: UnixStream,
    woken: UnixStream,
    ledger: Option<Ledger>,
}

impl FakeSource {
    pub(crate) fn new() -> Self {
        let (wake, woken) = UnixStream::pair().unwrap();
        wake.set_nonblocking(true).unwrap();
        woken.set_nonblocking(true).unwrap();
        let attached = Program {
            name: "sock_ops",
            state: ProgramState::Attached,
            reason: String::new(),
            lost_without: "everything",
            essential: true,
        };
        Self { kernel: Arc::default(), programs: vec![attached], wake, woken, ledger: None }
    }

    /// Its agent is to note what the next has to know.
    pub(crate) fn with_ledger(ledger: Ledger) -> Self {
        Self { ledger: Some(ledger), ..Self::new() }
    }

    /// The handle of the test.
    pub(crate) fn handle(&self) -> Handle {
        Handle { kernel: Arc::clone(&self.kernel), wake: self.wake.try_clone().unwrap() }
    }

    fn kernel(&self) -> std::sync::MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a test reaches the kernel.
#[derive(Debug)]
pub(crate) struct Handle {
    kernel: Arc<Mutex<Kernel>>,
    wake: UnixStream,
}

impl Handle {
    pub(crate) fn kernel(&self) -> std::sync::MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is counted in a slot.
    pub(crate) fn count(&self, slot: u32, key: HalfKey, counter: Counter, gain: u64) {
        self.kernel().slot(slot, key).counters[counter.index()] += gain;
    }

    /// A histogram gets samples.
    pub(crate) fn sample(&self, slot: u32, key: HalfKey, kind: HistogramKind, bucket: u16) {
        *self.kernel().slot(slot, key).buckets.entry((kind, bucket)).or_default() += 1;
    }

    /// A hint arrives.
    pub(crate) fn hint(&self, kind: HintKind, subject: u64) {
        self.kernel().hints.push(Hint { kind: kind as u32, tgid: 0, subject });
        let _ = (&self.wake).write(&[1]);
    }
}

impl Kernel {
    fn slot(&mut self, slot: u32, key: HalfKey) -> &mut Slot {
        let slot = self.slots.entry(slot).or_insert_with(|| Slot {
            key,
            counters: [0; COUNTERS],
            buckets: BTreeMap::new(),
            shown: ([0; COUNTERS], BTreeMap::new()),
            users: 0,
            changed: true,
        });
        assert_eq!(slot.key, key, "a slot belongs to one half");
        slot.changed = true;
        slot
    }
}

impl Source for FakeSource {
    fn programs(&self) -> &[Program] {
        &self.programs
    }

    fn generation(&self) -> u64 {
        42
    }

    fn refresh(&mut self) -> anyhow::Result<()> {
        let mut kernel = self.kernel();
        kernel.refreshes += 1;
        if let Some((id, owner)) = kernel.passing {
            kernel.owners.insert(id, owner);
            kernel.hints.push(Hint { kind: HintKind::Owner as u32, tgid: 0, subject: id });
        }
        Ok(())
    }

    fn changes(&mut self, only: Option<&[u32]>, visit: &mut dyn FnMut(SlotChange<'_>)) {
        for (number, slot) in &mut self.kernel().slots {
            if !slot.changed || only.is_some_and(|only| !only.contains(number)) {
                continue;
            }
            let buckets: Vec<_> = slot
                .buckets
                .iter()
                .map(|((kind, bucket), count)| (*kind, *bucket, *count))
                .collect();
            visit(SlotChange {
                slot: *number,
                key: &slot.key,
                counters: &slot.counters,
                users: slot.users,
                buckets: &buckets,
            });
            slot.changed = false;
            for (shown, gained) in slot.shown.0.iter_mut().zip(slot.counters) {
                *shown += gained;
            }
            slot.counters = [0; COUNTERS];
            for (bucket, gained) in std::mem::take(&mut slot.buckets) {
                *slot.shown.1.entry(bucket).or_default() += gained;
            }
        }
    }

    fn owner(&mut self, id: u64) -> Option<Owner> {
        self.kernel().owners.get(&id).copied()
    }

    fn retire(&mut self, slot: u32) -> RetireOutcome {
        let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = kernel.slots.get(&slot) else { return RetireOutcome::Busy };
        if known.changed || known.users > 0 {
            return RetireOutcome::Busy;
        }
        if let Some(ledger) = &mut self.ledger {
            let buckets = known.shown.1.iter();
            let buckets: Vec<_> =
                buckets.map(|((kind, bucket), count)| (*kind, *bucket, *count)).collect();
            if !ledger.fold(slot, &known.shown.0, &buckets) {
                return RetireOutcome::Draining;
            }
            ledger.cleared();
        }
        kernel.slots.remove(&slot);
        kernel.retired.push(slot);
        RetireOutcome::Freed
    }

    fn slots(&self) -> SlotUse {
        let kernel = self.kernel();
        let capacity = kernel.capacity.unwrap_or(common::kernel::SLOTS);
        SlotUse { used: kernel.slots.len() as u32, capacity }
    }

    fn forget_owner(&mut self, id: u64) {
        self.kernel().owners.remove(&id);
    }

    fn set_port_sharing(&mut self, netns_cookie: u64, port: u16, sharing: PortSharing) {
        self.kernel().sharing.push((netns_cookie, port, sharing));
    }

    fn listeners(&mut self) -> Vec<ListenerKey> {
        let mut kernel = self.kernel();
        if let Some((id, _)) = kernel.passing.take() {
            kernel.owners.remove(&id);
        }
        kernel.listeners.clone()
    }

    fn servers(&mut self) -> Vec<Server> {
        let server = |(slot, key): (&u32, HalfKey)| Server {
            slot: *slot,
            netns_cookie: key.netns_cookie,
            port: key.server_port,
            owner: key.owner,
        };
        let kernel = self.kernel();
        let keys = kernel.slots.iter().map(|(number, slot)| (number, slot.key));
        keys.filter(|(_, key)| key.role == role::SERVER).map(server).collect()
    }

    fn losses(&mut self) -> Vec<(&'static str, u64)> {
        self.kernel().losses.clone()
    }

    fn runqueue(&mut self) -> Vec<(u16, u64)> {
        self.kernel().runqueue.clone()
    }

    fn tuple_owner(&mut self, _: Option<u64>, tuple: &Tuple) -> Option<u64> {
        self.kernel().tuples.get(tuple).copied()
    }

    fn hints(&mut self, visit: &mut dyn FnMut(Hint)) {
        use std::io::Read as _;
        let mut sink = [0; 64];
        while (&self.woken).read(&mut sink).is_ok_and(|read| read > 0) {}
        let hints = std::mem::take(&mut self.kernel().hints);
        hints.into_iter().for_each(visit);
    }

    fn hint_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.woken.as_fd())
    }

    fn ledger(&mut self) -> Option<&mut Ledger> {
        self.ledger.as_mut()
    }
}
