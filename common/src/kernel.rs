//! Layout of the kernel maps, shared by the programs that write them and the agent
//! that reads them. Fixed-width integers only; sizes are asserted below.

use crate::{counter::COUNTERS, histogram::BUCKETS};

/// Version of everything in this module. Incremented with every change, so that an agent
/// never adopts maps it would misread.
pub const SCHEMA_VERSION: u32 = 7;

/// Slots for halves: 16,384 of 256 bytes, 4 MiB. When none is free, the half is folded: it counts in a
/// spare slot, with all others of its owner and role that were, and [`Loss::HalvesFolded`] says how often.
pub const SLOTS: u32 = 16_384;

/// The first slots are for those who share one: [`role::CLIENT`] and [`role::SERVER`] less 1 for all owners who got
/// none of the others. Those two are never given back.
pub const SHARED_SLOTS: u32 = 2;

/// The slots from [`SHARED_SLOTS`] up to this one are for what an owner has no room for, one for each owner and role.
pub const SPARE_SLOTS: u32 = 512;

/// Histogram chunks: 49,152 of 144 bytes, 6.8 MiB. When none is free, the sample is
/// counted as [`Loss::ChunksFull`].
pub const CHUNKS: u32 = 49_152;

/// Owners known at a time. When full, the socket has no owner and the refusal is
/// counted as [`Loss::OwnersFull`].
pub const OWNERS: u32 = 16_384;

/// Listening sockets, and listening ports, known at a time. When full, see [`Loss::ListenersFull`].
pub const LISTENERS: u32 = 4_096;

/// Bytes of an element of the array `ledger`.
pub const LEDGER_PAGE: usize = 4_096;

/// Pages of the ledger: one for its head, and twice 4 MiB, of which one is in use. Full: see the agent's `ledger`.
pub const LEDGER_PAGES: u32 = 2_049;

/// Chunks of a histogram that a slot remembers, a power of two.
pub const LAST_CHUNKS: usize = 4;

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

/// Id of an owner: a 64-bit hash (the steps of splitmix64, chained over the parts). Ids are never
/// reused and never 0, which means "not known".
#[inline(always)]
#[must_use]
pub fn owner_id(cgroup_id: u64, netns_cookie: u64, tgid: u32, start_ns: u64) -> u64 {
    let mut hash = mix(cgroup_id);
    hash = mix(hash ^ netns_cookie);
    hash = mix(hash ^ u64::from(tgid));
    mix(hash ^ start_ns) | 1
}

#[inline(always)]
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
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

impl HalfKey {
    /// Key of what counts for many halves of an owner and role together: without addresses and ports.
    #[inline(always)]
    #[must_use]
    pub const fn folded(owner: u64, netns_cookie: u64, role: u8) -> Self {
        let (local, peer) = ([0; 16], [0; 16]);
        let (server_port, client_port, reserved) = (0, 0, [0; 3]);
        Self { owner, netns_cookie, local, peer, server_port, client_port, role, reserved }
    }

    /// Whether it stands for many.
    #[must_use]
    pub fn is_folded(&self) -> bool {
        self.server_port == 0 && self.peer == [0; 16] && self.local == [0; 16]
    }
}

/// Counters of a half, in the array `slots`. What each connection changes has a line of the processors' caches to itself,
/// apart from what it reads.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Key of the half; a role of 0 means that the slot is free.
    pub key: HalfKey,
    /// 1 from the moment on at which the key leads to the slot in the map `halves`, until just before the agent takes it away
    /// there: as long, whoever finds the key here need not look it up there.
    pub leads_here: u64,
    /// Values by [`crate::Counter`].
    pub counters: [u64; COUNTERS],
    /// When a slot hint of each [`SlotHint`] was last sent, in ns since boot.
    pub hinted_ns: [u64; 2],
    /// When an open connection was last found to have moved what is not counted yet, in ns since boot.
    pub moved_ns: u64,
    /// 1 when other owners of the namespace reach the same server: the tuples of its
    /// connections are kept in the map `tuples`.
    pub shared: u16,
    /// One more than the number of the chunk that each [`crate::HistogramKind`] last counted in, by the lowest bits of its part, so that
    /// neighbours do not take turns; 0 for none. The key of the chunk tells whether it is still the one.
    pub last_chunks: [[u16; LAST_CHUNKS]; 3],
    /// Explicit padding, 0.
    pub reserved: [u16; 7],
}

/// What made a slot hint, besides that the slot came into use; each kind is sent at most once per 200 ms and slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SlotHint {
    /// An attempt failed or a connection was reset.
    Failed = 0,
    /// The last open connection closed.
    Closed = 1,
}

/// No slot.
pub const NO_SLOT: u32 = u32::MAX;

/// No chunk.
pub const NO_CHUNK: u32 = u32::MAX;

/// What the programs remember of a socket, in the socket storage map `sockets`. A socket that is
/// accepted inherits its listener's; the kernel's socket lock guards it. The first 56 bytes share a line of the processors'
/// caches with what the kernel looks at to find them: they are all that an established connection needs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SocketState {
    /// Slot of the half, or [`NO_SLOT`].
    pub slot: u32,
    /// One of [`phase`].
    pub phase: u8,
    /// One of [`role`].
    pub role: u8,
    /// 1 when the peer's FIN is part of the kernel's received bytes.
    pub fin_received: u8,
    /// Control bytes that are part of the kernel's acknowledged bytes: SYN and FIN.
    pub control_acked: u8,
    /// Segments with data received when this side last sent or confirmed its FIN: one more after the process is gone
    /// makes the kernel reset the connection.
    pub data_segments_at_fin: u32,
    /// 1 when no callbacks come for this socket, since it is older than the agent.
    pub silent: u8,
    /// 1 when the SYN was seen to leave, at `connect_ns`.
    pub connect_seen: u8,
    /// Explicit padding, 0.
    pub reserved: [u8; 2],
    /// When the connection was established, in ns since boot.
    pub established_ns: u64,
    /// Received payload already counted.
    pub bytes_received: u64,
    /// Acknowledged payload already counted.
    pub bytes_acked: u64,
    /// Sent segments already counted.
    pub segments_sent: u32,
    /// Received segments already counted.
    pub segments_received: u32,
    /// Retransmissions already counted.
    pub retransmits: u32,
    /// Process whose id the owner was made from.
    pub tgid: u32,
    /// Id of the owner; 0 when not known.
    pub owner: u64,
    /// Network namespace, by cookie.
    pub netns_cookie: u64,
    /// Thread (`pid_tgid`) whose connect(2) is under way, else 0.
    pub connector: u64,
    /// When the SYN was sent, in ns since boot.
    pub connect_ns: u64,
}

/// Phases in [`SocketState::phase`].
pub mod phase {
    /// Made, or inherited from a listener.
    pub const NEW: u8 = 0;
    /// SYN sent.
    pub const CONNECTING: u8 = 1;
    /// Established and counted.
    pub const ESTABLISHED: u8 = 2;
    /// Over and counted.
    pub const CLOSED: u8 = 3;
    /// Listening.
    pub const LISTENING: u8 = 4;
}

/// A thread's connect(2), value of the map `pending`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// The half that a failure counts for.
    pub half: HalfKey,
    /// When it began, in ns since boot; 0 when none is under way.
    pub noted_ns: u64,
}

/// State of a listening port in the map `ports`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortState {
    /// First owner that listened on it.
    pub owner: u64,
    /// One of [`sharing`].
    pub sharing: u32,
    /// Explicit padding, 0.
    pub reserved: u32,
}

/// Values of [`PortState::sharing`] and [`FanState::sharing`].
pub mod sharing {
    /// One owner only.
    pub const SINGLE: u32 = 0;
    /// Several owners: connections are halves of their own.
    pub const SHARED: u32 = 1;
    /// Several owners, which the agent knows to be one workload.
    pub const ONE_WORKLOAD: u32 = 2;
}

/// Key of the map `ports`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortKey {
    /// Network namespace, by cookie.
    pub netns_cookie: u64,
    /// Port, host order.
    pub port: u16,
    /// Explicit padding, 0.
    pub reserved: [u8; 6],
}

/// Key of the map `fans`: who reaches a server from an address, be it in one namespace or, one after the other, in
/// several.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FanKey {
    /// Of the client's address: see [`crate::address::client_scope`].
    pub scope: u64,
    /// Address of the server.
    pub peer: [u8; 16],
    /// Port of the server, host order.
    pub server_port: u16,
    /// Explicit padding, 0.
    pub reserved: [u8; 6],
}

/// Value of the map `fans`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanState {
    /// Owner of the first half.
    pub owner: u64,
    /// Slot of the first half.
    pub slot: u32,
    /// One of [`sharing`], never `ONE_WORKLOAD`.
    pub sharing: u32,
}

/// Key of the map `tuples`: one client connection; the value is its owner's id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TupleKey {
    /// The client's address.
    pub client: [u8; 16],
    /// The server's address.
    pub server: [u8; 16],
    /// The client's network namespace, by cookie, for loopback addresses; else 0.
    pub netns_cookie: u64,
    /// The client's port, host order.
    pub client_port: u16,
    /// The server's port, host order.
    pub server_port: u16,
    /// Explicit padding, 0.
    pub reserved: u32,
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
    /// Not even a spare slot could be had for a half: each connection or failure not counted.
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
    /// A connect whose result no system call told (io_uring, `MSG_FASTOPEN`): if it failed before a packet
    /// was sent, that is not counted.
    ConnectUnseen = 9,
    /// No slot was free for a half: a connection or failure is counted, but with others.
    HalvesFolded = 10,
}

/// How many causes of loss there are.
pub const LOSSES: usize = 11;

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
        (Loss::ConnectUnseen, "connect_unseen"),
        (Loss::HalvesFolded, "halves_folded"),
    ];
}

const _: () = {
    assert!(size_of::<Owner>() == 48);
    assert!(size_of::<HalfKey>() == 56);
    assert!(size_of::<Slot>() == 256);
    assert!(core::mem::offset_of!(Slot, counters) == 64);
    assert!(size_of::<SocketState>() == 88);
    assert!(core::mem::offset_of!(SocketState, owner) == 56);
    assert!(size_of::<Pending>() == 64);
    assert!(size_of::<PortKey>() == 16);
    assert!(size_of::<PortState>() == 16);
    assert!(size_of::<FanKey>() == 32);
    assert!(size_of::<FanState>() == 16);
    assert!(size_of::<TupleKey>() == 48);
    assert!(size_of::<Chunk>() == 144);
    assert!(size_of::<ChunkKey>() == 8);
    assert!(size_of::<ListenerKey>() == 40);
    assert!(size_of::<Hint>() == 16);
    assert!(CHUNKS < u16::MAX as u32);
    assert!(BUCKETS.is_multiple_of(CHUNK_BUCKETS));
};

#[cfg(feature = "user")]
mod pod {
    macro_rules! pod {
        ($($name:ident),+) => { $(
            // SAFETY: `repr(C)`, integers only, no implicit padding (sizes asserted above).
            unsafe impl aya::Pod for super::$name {}
        )+ };
    }
    pod!(
        Owner,
        HalfKey,
        Slot,
        Chunk,
        ChunkKey,
        ListenerKey,
        Hint,
        SocketState,
        PortKey,
        PortState,
        FanKey,
        FanState,
        TupleKey
    );
}
