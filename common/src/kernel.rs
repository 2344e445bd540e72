//! Layout of the kernel maps, shared by the programs that write them and the agent
//! that reads them. Fixed-width integers only; sizes are asserted below.

use crate::{counter::COUNTERS, histogram::BUCKETS};

/// Version of everything in this module. Incremented with every change, so that an agent
/// never adopts maps it would misread.
pub const SCHEMA_VERSION: u32 = 1;

/// Slots for halves: 16,384 of 208 bytes, 3.3 MiB. When none is free, the half is
/// refused and what it would have counted is counted as [`Loss::HalvesFull`].
pub const SLOTS: u32 = 16_384;

/// Histogram chunks: 49,152 of 144 bytes, 6.8 MiB. When none is free, the sample is
/// counted as [`Loss::ChunksFull`].
pub const CHUNKS: u32 = 49_152;

/// Owners known at a time. When full, the socket has no owner and the refusal is
/// counted as [`Loss::OwnersFull`].
pub const OWNERS: u32 = 16_384;

/// Buckets per chunk: four powers of two.
pub const CHUNK_BUCKETS: usize = 32;

/// Chunks that make up one whole histogram.
pub const CHUNKS_PER_HISTOGRAM: usize = BUCKETS / CHUNK_BUCKETS;

/// Role of a half in [`HalfKey::role`].
pub mod role {
    /// The half connected.
    pub const CLIENT: u8 = 1;
    /// The half accepted.
    pub const SERVER: u8 = 2;
}

/// What an owner's id was made of.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Id of the cgroup v2 directory.
    pub cgroup_id: u64,
    /// Cookie of the network namespace.
    pub netns_cookie: u64,
    /// Start of the process in ns since boot; 0 where the kernel's BTF does not tell.
    pub start_ns: u64,
    /// Process id in the host's namespace; 0 for sockets whose process is not known.
    pub tgid: u32,
    /// Explicit padding, 0.
    pub reserved: u32,
    /// Name of the thread that made the socket, NUL-padded.
    pub comm: [u8; 16],
}

/// Key of a half. Addresses are IPv6, IPv4 as IPv4-mapped; both in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HalfKey {
    /// Id of the owner; 0 when it could not be told.
    pub owner: u64,
    /// Network namespace of the socket, by cookie.
    pub netns_cookie: u64,
    /// This side's address; unspecified when an attempt failed before one was chosen.
    pub local: [u8; 16],
    /// The other side's address.
    pub peer: [u8; 16],
    /// Port that the server side listens on, host order.
    pub server_port: u16,
    /// Port of the client, host order; 0 unless the server's port is shared by several owners.
    pub client_port: u16,
    /// One of [`role`].
    pub role: u8,
    /// Explicit padding, 0.
    pub reserved: [u8; 3],
}

/// Counters of a half, in the array `slots`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Key of the half; a role of 0 means that the slot is free.
    pub key: HalfKey,
    /// Attempts and connections that may still add to this slot.
    pub users: u64,
    /// Values by [`crate::Counter`].
    pub counters: [u64; COUNTERS],
    /// Time of the last use hint in ns since boot, by [`HintKind`] - 1.
    pub hinted_ns: [u64; 1],
}

/// A block of histogram buckets, in the array `chunks`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// Which histogram of which slot; see [`ChunkKey`].
    pub key: ChunkKey,
    /// Samples in all buckets of this chunk, modulo 2^64.
    pub samples: u64,
    /// Counts, each modulo 2^32: the agent adds differences.
    pub buckets: [u32; CHUNK_BUCKETS],
}

/// Key of a chunk.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkKey {
    /// Number of the slot.
    pub slot: u32,
    /// [`crate::HistogramKind`].
    pub histogram: u16,
    /// Position: the chunk starts at bucket `part * CHUNK_BUCKETS`.
    pub part: u16,
}

/// A listening port, key of the map `listeners`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// Network namespace, by cookie.
    pub netns_cookie: u64,
    /// Owner of the listening socket.
    pub owner: u64,
    /// Address; unspecified for all. IPv4 as IPv4-mapped.
    pub address: [u8; 16],
    /// Port, host order.
    pub port: u16,
    /// Explicit padding, 0.
    pub reserved: [u8; 6],
}

/// What a hint says. Hints speed things up; nothing is counted by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum HintKind {
    /// A new owner: `subject` is its id. Read its names while it lives.
    Owner = 1,
    /// A slot came into use, failed for the first time or closed its last connection:
    /// `subject` is its number.
    Slot = 2,
    /// The set of listeners changed.
    Listener = 3,
}

/// A record of the ring buffer `hints`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Hint {
    /// [`HintKind`].
    pub kind: u32,
    /// Process concerned, for [`HintKind::Owner`].
    pub tgid: u32,
    /// What it is about.
    pub subject: u64,
}

/// Causes of loss, indices of the per-CPU array `losses`. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Loss {
    /// No slot was free for a half: each connection or failure not counted.
    HalvesFull = 0,
    /// No chunk was free for a histogram sample.
    ChunksFull = 1,
    /// An owner could not be stored.
    OwnersFull = 2,
    /// A socket could not be tagged.
    StorageRefused = 3,
    /// The ring buffer had no room for a hint.
    HintsFull = 4,
    /// A listener could not be stored.
    ListenersFull = 5,
    /// A pending connect could not be stored: if it fails at once, that is not counted.
    PendingFull = 6,
    /// A run-queue wait could not be stored.
    RunqueueFull = 7,
    /// A connection without an owner (still counted, for the host).
    OwnerUnknown = 8,
}

/// How many causes of loss there are.
pub const LOSSES: usize = 9;

impl Loss {
    /// Every cause with its name on the wire and in metrics.
    pub const ALL: [(Loss, &'static str); LOSSES] = [
        (Loss::HalvesFull, "halves_full"),
        (Loss::ChunksFull, "chunks_full"),
        (Loss::OwnersFull, "owners_full"),
        (Loss::StorageRefused, "storage_refused"),
        (Loss::HintsFull, "hints_full"),
        (Loss::ListenersFull, "listeners_full"),
        (Loss::PendingFull, "pending_full"),
        (Loss::RunqueueFull, "runqueue_full"),
        (Loss::OwnerUnknown, "owner_unknown"),
    ];
}

const _: () = {
    assert!(size_of::<Owner>() == 48);
    assert!(size_of::<HalfKey>() == 56);
    assert!(size_of::<Slot>() == 200);
    assert!(size_of::<Chunk>() == 144);
    assert!(size_of::<ChunkKey>() == 8);
    assert!(size_of::<ListenerKey>() == 40);
    assert!(size_of::<Hint>() == 16);
    assert!(BUCKETS % CHUNK_BUCKETS == 0);
};

#[cfg(feature = "user")]
mod pod {
    macro_rules! pod {
        ($($name:ident),+) => { $(
            // SAFETY: `repr(C)`, integers only, no implicit padding (sizes asserted above).
            unsafe impl aya::Pod for super::$name {}
        )+ };
    }
    pod!(Owner, HalfKey, Slot, Chunk, ChunkKey, ListenerKey, Hint);
}
