//! What the agent reads from the kernel, as a trait: the real one is in `kernel/`, tests
//! have one of their own.

use std::{os::fd::BorrowedFd, path::PathBuf};

use common::{
    COUNTERS, HistogramKind,
    kernel::{HalfKey, Hint, ListenerKey, Owner},
};
use topology::model::Tuple;

use crate::ledger::{Identity, Ledger, Past};

/// Whether a kernel program does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramState {
    /// Loaded and attached.
    Attached,
    /// Tried, and refused by the kernel.
    Failed,
    /// Not tried: not needed here, or switched off.
    Off,
}

/// One kernel program and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// What became of it.
    pub state: ProgramState,
    /// Why it is not attached, in one line; empty when it is.
    pub reason: String,
    /// What is lost without it, in a few words.
    pub lost_without: &'static str,
    /// Whether the agent cannot do its main job without it.
    pub essential: bool,
}

/// What a slot gained since it was last shown.
#[derive(Clone, Copy, Debug)]
pub struct SlotChange<'a> {
    /// Number of the slot.
    pub slot: u32,
    /// Half that the slot counts for.
    pub key: &'a HalfKey,
    /// Increments by [`common::Counter`].
    pub counters: &'a [u64; COUNTERS],
    /// Attempts and connections that may still add to the slot; 0 when it is quiet.
    pub users: u64,
    /// Increments of histogram buckets: kind, bucket, count.
    pub buckets: &'a [(HistogramKind, u16, u64)],
}

/// What became of a slot that was proposed for retirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetireOutcome {
    /// Its number is free again; the next change of it belongs to another half.
    Freed,
    /// New connections no longer find it, but a program may still hold its number: propose it
    /// again at a later look. What it gains until then is shown as a change.
    Draining,
    /// It is in use: it stays what it is.
    Busy,
}

/// Who listens on a port, by the names that only the agent knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortSharing {
    /// This owner alone.
    One(u64),
    /// Several owners of one workload: connections need not be told apart.
    OneWorkload,
    /// Several workloads: each connection is a half of its own.
    Several,
}

/// A slot that counts for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Number of the slot.
    pub slot: u32,
    /// Network namespace, by cookie.
    pub netns_cookie: u64,
    /// The port it is, or was, listened on.
    pub port: u16,
    /// Id of the owner.
    pub owner: u64,
}

/// How many slots there are and how many are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotUse {
    /// Taken, draining ones included.
    pub used: u32,
    /// All.
    pub capacity: u32,
}

/// Where programs and maps are to outlive the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinning {
    /// A directory on a BPF file system, this agent's alone.
    pub dir: PathBuf,
    /// Name of the node.
    pub node: String,
}

/// What a slot counted in all, read out before its map was given up.
#[derive(Clone, Debug)]
pub struct LastSlot {
    /// Number of the slot.
    pub slot: u32,
    /// Half that it counted for.
    pub key: HalfKey,
    /// Totals by [`common::Counter`].
    pub counters: [u64; COUNTERS],
    /// Totals of histogram buckets: kind, bucket, count.
    pub buckets: Vec<(HistogramKind, u16, u64)>,
    /// What the owner's id was made of, if the kernel knew.
    pub owner: Option<Owner>,
}

/// Programs of an earlier agent that were replaced: what they had counted, to be told in the name of its session.
#[derive(Debug)]
pub struct Former {
    /// Whose session it was.
    pub identity: Identity,
    /// What the agent had told.
    pub past: Past,
    /// How many halves there was room for.
    pub max_halves: u32,
    /// What the kernel had counted.
    pub slots: Vec<LastSlot>,
    /// What it had not counted, by cause.
    pub losses: Vec<(&'static str, u64)>,
    /// What the agent had noted.
    pub ledger: Ledger,
    /// Where it is kept until it is told, if anywhere.
    pub folder: Option<PathBuf>,
}

/// The kernel, as far as the agent is concerned. No call blocks for longer than a few ms.
pub trait Source: Send {
    /// Every program the agent knows, attached or not.
    fn programs(&self) -> &[Program];

    /// Random number drawn when the maps were created.
    fn generation(&self) -> u64;

    /// Brings the slots up to date with what live sockets moved, in every network namespace that
    /// has an owner.
    ///
    /// # Errors
    /// When the kernel refuses to iterate; the slots are then as old as the last events.
    fn refresh(&mut self) -> anyhow::Result<()>;

    /// Shows each slot whose counters, buckets or users changed since it was last shown, or only
    /// those of `only` that did.
    fn changes(&mut self, only: Option<&[u32]>, visit: &mut dyn FnMut(SlotChange<'_>));

    /// What an owner's id was made of; `None` when the kernel no longer knows.
    fn owner(&mut self, id: u64) -> Option<Owner>;

    /// Forgets an owner whose process is gone and who has no slot; its next socket, if there is one after all,
    /// makes it known again.
    fn forget_owner(&mut self, id: u64);

    /// Takes back a slot that has been quiet.
    fn retire(&mut self, slot: u32) -> RetireOutcome;

    /// How full the slots are.
    fn slots(&self) -> SlotUse;

    /// All listening sockets.
    fn listeners(&mut self) -> Vec<ListenerKey>;

    /// All slots that count for servers, whether they still listen or not.
    fn servers(&mut self) -> Vec<Server>;

    /// Says who listens on a port; the programs take the second owner for another workload until then.
    fn set_port_sharing(&mut self, netns_cookie: u64, port: u16, sharing: PortSharing);

    /// What the kernel programs could not count, by cause, cumulative over the generation.
    fn losses(&mut self) -> Vec<(&'static str, u64)>;

    /// Run-queue latency: bucket and count, ascending, cumulative over the generation.
    fn runqueue(&mut self) -> Vec<(u16, u64)>;

    /// Id of the owner whose client connection this was, in the network namespace with this
    /// cookie or, when `None`, in any.
    fn tuple_owner(&mut self, network_namespace: Option<u64>, tuple: &Tuple) -> Option<u64>;

    /// Shows the hints that have arrived; never waits.
    fn hints(&mut self, visit: &mut dyn FnMut(Hint));

    /// Readable when hints have arrived; `None` when there are none to wait for.
    fn hint_fd(&self) -> Option<BorrowedFd<'_>>;

    /// What the next process is to know; `None` when nothing outlives this one.
    fn ledger(&mut self) -> Option<&mut Ledger> {
        None
    }

    /// The next of what was found that could not be gone on with; each is shown once.
    fn take_former(&mut self) -> Option<Former> {
        None
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn programs(&self) -> &[Program] {
        (**self).programs()
    }
    fn generation(&self) -> u64 {
        (**self).generation()
    }
    fn refresh(&mut self) -> anyhow::Result<()> {
        (**self).refresh()
    }
    fn changes(&mut self, only: Option<&[u32]>, visit: &mut dyn FnMut(SlotChange<'_>)) {
        (**self).changes(only, visit);
    }
    fn owner(&mut self, id: u64) -> Option<Owner> {
        (**self).owner(id)
    }
    fn forget_owner(&mut self, id: u64) {
        (**self).forget_owner(id);
    }
    fn retire(&mut self, slot: u32) -> RetireOutcome {
        (**self).retire(slot)
    }
    fn slots(&self) -> SlotUse {
        (**self).slots()
    }
    fn listeners(&mut self) -> Vec<ListenerKey> {
        (**self).listeners()
    }
    fn servers(&mut self) -> Vec<Server> {
        (**self).servers()
    }
    fn set_port_sharing(&mut self, netns_cookie: u64, port: u16, sharing: PortSharing) {
        (**self).set_port_sharing(netns_cookie, port, sharing);
    }
    fn losses(&mut self) -> Vec<(&'static str, u64)> {
        (**self).losses()
    }
    fn runqueue(&mut self) -> Vec<(u16, u64)> {
        (**self).runqueue()
    }
    fn tuple_owner(&mut self, network_namespace: Option<u64>, tuple: &Tuple) -> Option<u64> {
        (**self).tuple_owner(network_namespace, tuple)
    }
    fn hints(&mut self, visit: &mut dyn FnMut(Hint)) {
        (**self).hints(visit);
    }
    fn hint_fd(&self) -> Option<BorrowedFd<'_>> {
        (**self).hint_fd()
    }
    fn ledger(&mut self) -> Option<&mut Ledger> {
        (**self).ledger()
    }
    fn take_former(&mut self) -> Option<Former> {
        (**self).take_former()
    }
}
