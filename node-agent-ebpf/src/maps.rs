//! Every map: entry size, capacity, memory, and what happens when it is full.
//! Sizes of the shared layouts are asserted in `common::kernel`.

use aya_ebpf::{
    bindings::{
        BPF_F_CLONE, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE,
    },
    macros::map,
    maps::{Array, CgroupArray, HashMap, LruHashMap, PerCpuArray, Queue, RingBuf},
};
use common::{
    histogram::BUCKETS_POW2,
    kernel::{
        CHUNKS, Chunk, ChunkKey, FanKey, FanState, HalfKey, LEDGER_PAGE, LEDGER_PAGES,
        LISTENERS as MAX_LISTENERS, LOSSES as CAUSES, ListenerKey, OWNERS as MAX_OWNERS, Owner,
        Pending, PortKey, PortState, SLOTS as MAX_SLOTS, SPARE_SLOTS as MAX_SPARE_SLOTS,
        SocketState, TupleKey,
    },
};

/// Entries of `last_slots`, a power of two.
pub const LAST_SLOTS_LEN: u32 = 4_096;

/// State of each socket, 88 bytes in the socket itself. Cloned to accepted sockets, which aya's own
/// type cannot ask for. When memory is short the socket is not followed: `storage_refused`.
#[repr(C)]
pub struct SocketStorage {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const SocketState,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: the pointers only carry types to the loader and are never followed.
unsafe impl Sync for SocketStorage {}

/// See [`SocketStorage`].
#[unsafe(link_section = ".maps")]
#[unsafe(export_name = "sockets")]
pub static SOCKETS: SocketStorage = SocketStorage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// Owner id -> what it was made of. 8 + 48 bytes, 16,384: 1.9 MiB. Full: the socket's owner is
/// unknown and `owners_full` counts it.
#[map(name = "owners")]
pub static OWNERS: HashMap<u64, Owner> = HashMap::with_max_entries(MAX_OWNERS, 0);

/// Half -> slot number. 56 + 4 bytes, 16,384: 2 MiB. As large as `slots`, so never full by itself.
#[map(name = "halves")]
pub static HALVES: HashMap<HalfKey, u32> = HashMap::with_max_entries(MAX_SLOTS, 0);

/// Counters of halves, mapped into the agent. 256 bytes, 16,384: 4 MiB.
#[map(name = "slots")]
pub static SLOTS: Array<common::kernel::Slot> = Array::with_max_entries(MAX_SLOTS, BPF_F_MMAPABLE);

/// Some of the key of a half -> slot that was last found for such a key. 4 bytes, 4,096: 32 KiB. Only a guess: the key is compared
/// with that of the slot.
#[map(name = "last_slots")]
pub static LAST_SLOTS: Array<u32> = Array::with_max_entries(LAST_SLOTS_LEN, 0);

/// Free slots, filled by the agent. 4 bytes, 64 KiB. Empty: halves are folded into a spare slot of their owner.
#[map(name = "free_slots")]
pub static FREE_SLOTS: Queue<u32> = Queue::with_max_entries(MAX_SLOTS, 0);

/// Free spare slots, filled by the agent. 4 bytes, 2 KiB. Empty: halves are folded into those of all owners.
#[map(name = "spare_slots")]
pub static SPARE_SLOTS: Queue<u32> = Queue::with_max_entries(MAX_SPARE_SLOTS, 0);

/// (slot, histogram, part) -> chunk number. 8 + 4 bytes, 49,152: 4 MiB.
#[map(name = "chunk_of")]
pub static CHUNK_OF: HashMap<ChunkKey, u32> = HashMap::with_max_entries(CHUNKS, 0);

/// Blocks of histogram buckets, mapped into the agent. 144 bytes, 49,152: 6.8 MiB.
#[map(name = "chunks")]
pub static CHUNK_ARRAY: Array<Chunk> = Array::with_max_entries(CHUNKS, BPF_F_MMAPABLE);

/// Free chunks, filled by the agent. 4 bytes, 192 KiB. Empty: `chunks_full` counts each sample.
#[map(name = "free_chunks")]
pub static FREE_CHUNKS: Queue<u32> = Queue::with_max_entries(CHUNKS, 0);

/// Listening sockets -> when last seen, in ns since boot. 40 + 8 bytes, 4,096: 0.5 MiB. Full:
/// `listeners_full`; the port's connections are counted all the same.
#[map(name = "listeners")]
pub static LISTENERS: HashMap<ListenerKey, u64> = HashMap::with_max_entries(MAX_LISTENERS, 0);

/// Listening ports -> whether owners share them. 16 + 16 bytes, 4,096: 0.4 MiB. Full: `listeners_full`.
#[map(name = "ports")]
pub static PORTS: HashMap<PortKey, PortState> = HashMap::with_max_entries(MAX_LISTENERS, 0);

/// Element 0: how many ports have been shared so far. While it is 0, `ports` is not looked up.
#[map(name = "shared_ports")]
pub static SHARED_PORTS: Array<u64> = Array::with_max_entries(1, 0);

/// Who of a namespace first reached a server. 32 + 16 bytes, 16,384: 1.8 MiB. No counts: may evict;
/// a client that shares a server with an evicted one is then not known to share it.
#[map(name = "fans")]
pub static FANS: LruHashMap<FanKey, FanState> = LruHashMap::with_max_entries(MAX_SLOTS, 0);

/// Connections of clients that share a server -> owner id. 48 + 8 bytes, 32,768: 3.8 MiB. No counts:
/// the oldest are evicted, and a question about one is answered with "not known".
#[map(name = "tuples")]
pub static TUPLES: LruHashMap<TupleKey, u64> = LruHashMap::with_max_entries(32_768, 0);

/// Thread -> the half that its connect(2) would fail on, if one is under way. An entry stays for the thread's next call: to
/// make and to remove one costs ten times what finding it does. 8 + 64 bytes, 8,192: 1 MiB. Evicts those that were not
/// used for longest; one of a call that then fails at once is not counted.
#[map(name = "pending")]
pub static PENDING: LruHashMap<u64, Pending> = LruHashMap::with_max_entries(8_192, 0);

/// Processes whose sockets the agent wants tagged, by process id -> (owner id, namespace cookie). Written by
/// the agent before it reads the iterator `adopt_files`. 4 + 16 bytes, 16,384: 1.1 MiB.
#[map(name = "adoptions")]
pub static ADOPTIONS: HashMap<u32, [u64; 2]> = HashMap::with_max_entries(MAX_OWNERS, 0);

/// MPTCP sockets of such processes, by kernel address -> (owner id, process id): the subflows, which the kernel made, have no
/// file to find them by, but know that address. Emptied by the agent when sockets older than itself are picked up. 8 + 16
/// bytes, 8,192: 0.6 MiB. Full: `storage_refused`.
#[map(name = "mptcp_adoptions")]
pub static MPTCP_ADOPTIONS: HashMap<u64, [u64; 2]> = HashMap::with_max_entries(8_192, 0);

/// "Look there now." 16 bytes a hint, 64 KiB. Full: `hints_full`; the next interval shows the same.
#[map(name = "hints")]
pub static HINTS: RingBuf = RingBuf::with_byte_size(65_536, 0);

/// What was not counted, by `common::kernel::Loss`.
#[map(name = "losses")]
pub static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(CAUSES as u32, 0);

/// Element 0: the cgroup below which the run queue is measured.
#[map(name = "measured_cgroup")]
pub static MEASURED_CGROUP: CgroupArray = CgroupArray::with_max_entries(1, 0);

/// Task -> since when it is runnable, in ns. 4 + 8 bytes, 16,384: 1.1 MiB, but one entry where the kernel adds up how long
/// each task waits. Full: `runqueue_full`.
#[map(name = "runnable_since")]
pub static RUNNABLE_SINCE: HashMap<u32, u64> = HashMap::with_max_entries(16_384, 0);

/// Task -> (the low half of when it began and how often it had waited when it last left a CPU, for how long in ns), where the
/// kernel adds that up. 4 + 16 bytes, 16,384: 1.1 MiB, but one entry elsewhere. No counts: may evict; of the next wait of
/// an evicted task only what it waits for the CPU on which it comes is then known.
#[map(name = "left")]
pub static LEFT: LruHashMap<u32, [u64; 2]> = LruHashMap::with_max_entries(16_384, 0);

/// How long the task that now runs on this CPU waited: (task, ns + 1), 0 when it did not. Where the kernel adds that up: (task
/// and how often it had waited before, for how long).
#[map(name = "waited")]
pub static WAITED: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Run-queue latency by bucket, 4 KiB per CPU.
#[map(name = "runqueue")]
pub static RUNQUEUE: PerCpuArray<[u64; BUCKETS_POW2]> = PerCpuArray::with_max_entries(1, 0);

/// What a pinned agent leaves to the next one beside the counters; no program uses it. 4,096 bytes, 2,049: 8 MiB, but
/// one page when nothing is pinned.
#[map(name = "ledger")]
pub static LEDGER: Array<[u8; LEDGER_PAGE]> = Array::with_max_entries(LEDGER_PAGES, BPF_F_MMAPABLE);
