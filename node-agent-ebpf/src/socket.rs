//! A socket's own state, and what every path does with it: establish, flush, finish.
//! All of it runs under the kernel's lock of that socket.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    helpers::generated::{bpf_sk_storage_get, bpf_skc_to_mptcp_sock, bpf_skc_to_tcp_sock},
};
use common::{
    Counter, HistogramKind,
    address::is_loopback,
    kernel::{
        HalfKey, Loss, NO_SLOT, PortKey, SlotHint, SocketState, TupleKey, phase, role, sharing,
    },
};

use crate::{
    hint, histogram,
    maps::{PORTS, SHARED_PORTS, SOCKETS, TUPLES},
    read, settings, slot, zero,
};

/// The kernel's own counters of a connection.
pub struct Live {
    pub bytes_received: u64,
    pub bytes_acked: u64,
    pub segments_sent: u32,
    pub segments_received: u32,
    pub data_segments_received: u32,
    pub retransmits: u32,
}

/// How a connection ended.
pub enum End {
    /// By the book.
    Closed,
    /// This side sent a reset.
    ResetSent,
    /// The peer sent one.
    ResetReceived,
    /// The peer answered no more.
    TimedOut,
}

/// Addresses and ports of a socket, in the form of the keys.
pub struct Ends {
    pub local: [u8; 16],
    pub peer: [u8; 16],
    pub local_port: u16,
    pub peer_port: u16,
}

fn storage() -> *mut c_void {
    (&raw const SOCKETS).cast_mut().cast()
}

/// State of a socket, if it has one.
#[inline(always)]
pub fn get<'a>(sk: *mut c_void) -> Option<&'a mut SocketState> {
    // SAFETY: the verifier knows `sk` as a socket; the value lives as long as the program runs.
    unsafe {
        bpf_sk_storage_get(storage(), sk, core::ptr::null_mut(), 0).cast::<SocketState>().as_mut()
    }
}

/// State of a socket, made with this owner if it has none.
#[inline(always)]
pub fn get_or_create<'a>(
    sk: *mut c_void,
    owner: u64,
    netns_cookie: u64,
    tgid: u32,
) -> Option<&'a mut SocketState> {
    let mut fresh = MaybeUninit::<SocketState>::uninit();
    let fresh = zero::out(&mut fresh);
    fresh.owner = owner;
    fresh.netns_cookie = netns_cookie;
    fresh.tgid = tgid;
    fresh.slot = NO_SLOT;
    // SAFETY: as in `get`; the initial value is copied.
    let state = unsafe {
        bpf_sk_storage_get(
            storage(),
            sk,
            (&raw mut *fresh).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
        .cast::<SocketState>()
        .as_mut()
    };
    if state.is_some() {
        return state;
    }
    // Refused, or another CPU was first.
    let made = get(sk);
    if made.is_none() {
        hint::lost(Loss::StorageRefused);
    }
    made
}

/// State of the MPTCP socket that a subflow belongs to: the application made that one, the kernel the
/// subflow.
#[inline(always)]
pub fn of_mptcp_parent<'a>(sk: *mut c_void) -> Option<&'a mut SocketState> {
    if settings::mptcp() == 0 {
        return None;
    }
    // SAFETY: the helper answers null unless `sk` is a subflow.
    let parent = unsafe { bpf_skc_to_mptcp_sock(sk) };
    if parent.is_null() {
        return None;
    }
    get(parent.cast())
}

/// State of a socket that TCP works on; made from its MPTCP parent, or without an owner, if it has none.
#[inline(always)]
pub fn get_or_inherit<'a>(sk: *mut c_void) -> Option<&'a mut SocketState> {
    match get(sk) {
        Some(state) => Some(state),
        None => inherit(sk),
    }
}

#[inline(never)]
fn inherit<'a>(sk: *mut c_void) -> Option<&'a mut SocketState> {
    if let Some(parent) = of_mptcp_parent(sk) {
        let (owner, netns_cookie, tgid) = (parent.owner, parent.netns_cookie, parent.tgid);
        return get_or_create(sk, owner, netns_cookie, tgid);
    }
    // SAFETY: null unless `sk` is a full TCP socket.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk) }.cast::<u8>();
    let netns_cookie = if tcp.is_null() { None } else { read::netns_cookie(tcp) };
    get_or_create(sk, 0, netns_cookie.unwrap_or(0), 0)
}

/// Forgets what a listener or an earlier connection left behind.
#[inline(always)]
pub fn reset(state: &mut SocketState, phase: u8, role: u8) {
    // Word by word, see `zero`: owner, namespace and process stay.
    let SocketState { established_ns, bytes_received, bytes_acked, connector, connect_ns, .. } =
        state;
    for word in [established_ns, bytes_received, bytes_acked, connector, connect_ns] {
        // SAFETY: a field.
        unsafe { core::ptr::from_mut(word).write_volatile(0) };
    }
    let SocketState { segments_sent, segments_received, retransmits, data_segments_at_fin, .. } =
        state;
    for word in [segments_sent, segments_received, retransmits, data_segments_at_fin] {
        // SAFETY: a field.
        unsafe { core::ptr::from_mut(word).write_volatile(0) };
    }
    state.slot = NO_SLOT;
    state.phase = phase;
    state.role = role;
    state.fin_received = 0;
    state.control_acked = 0;
    state.silent = 0;
    state.connect_seen = 0;
}

/// Key of the half that a connection belongs to.
#[inline(always)]
pub fn half_key<'a>(
    place: &'a mut MaybeUninit<HalfKey>,
    state: &SocketState,
    ends: &Ends,
) -> &'a HalfKey {
    let (server_port, client_port) = if state.role == role::SERVER {
        (
            ends.local_port,
            if is_shared(state.netns_cookie, ends.local_port) { ends.peer_port } else { 0 },
        )
    } else {
        (ends.peer_port, 0)
    };
    let half = zero::out(place);
    half.owner = state.owner;
    half.netns_cookie = state.netns_cookie;
    half.local = ends.local;
    half.peer = ends.peer;
    half.server_port = server_port;
    half.client_port = client_port;
    half.role = state.role;
    half
}

/// Whether several owners listen on a port, so that each connection is a half of its own.
#[inline(always)]
fn is_shared(netns_cookie: u64, port: u16) -> bool {
    match SHARED_PORTS.get(0) {
        Some(0) | None => return false,
        Some(_) => {}
    }
    let mut key = MaybeUninit::<PortKey>::uninit();
    let key = zero::out(&mut key);
    key.netns_cookie = netns_cookie;
    key.port = port;
    // SAFETY: read at once.
    unsafe { PORTS.get(&*key) }.is_some_and(|state| state.sharing == sharing::SHARED)
}

/// Counts a connection as established.
#[inline(always)]
pub fn establish(state: &mut SocketState, ends: &Ends, counter: Counter, now: u64) {
    if state.owner == 0 {
        hint::lost(Loss::OwnerUnknown);
    }
    let mut key = MaybeUninit::uninit();
    let number = slot::of(half_key(&mut key, state, ends));
    state.slot = number;
    state.phase = phase::ESTABLISHED;
    state.established_ns = now;
    let Some(slot) = slot::by_number(number) else {
        return;
    };
    slot::add(slot, counter, 1);
    if state.role == role::CLIENT {
        if state.connect_seen != 0 {
            let took = now.wrapping_sub(state.connect_ns);
            histogram::record(number, slot, HistogramKind::Connect, took);
        }
        // SAFETY: a map value.
        if unsafe { (*slot).shared } != 0 {
            remember_tuple(state, ends);
        }
    }
}

#[inline(never)]
fn remember_tuple(state: &SocketState, ends: &Ends) {
    let key = TupleKey {
        client: ends.local,
        server: ends.peer,
        netns_cookie: if is_loopback(&ends.local) { state.netns_cookie } else { 0 },
        client_port: ends.local_port,
        server_port: ends.peer_port,
        reserved: 0,
    };
    // An LRU map: never full.
    let _ = TUPLES.insert(key, state.owner, 0);
}

/// Whether [`flush`] would add something.
#[inline(always)]
pub fn has_moved(state: &SocketState, live: &Live) -> bool {
    let received = live.bytes_received.saturating_sub(u64::from(state.fin_received));
    let acked = live.bytes_acked.saturating_sub(u64::from(state.control_acked));
    received > state.bytes_received
        || acked > state.bytes_acked
        || live.segments_sent != state.segments_sent
        || live.segments_received != state.segments_received
        || live.retransmits != state.retransmits
}

/// Adds to the slot what the connection moved since the last time.
#[inline(always)]
pub fn flush(state: &mut SocketState, live: &Live) {
    let Some(slot) = slot::by_number(state.slot) else {
        return;
    };
    let received = live.bytes_received.saturating_sub(u64::from(state.fin_received));
    let acked = live.bytes_acked.saturating_sub(u64::from(state.control_acked));
    if received > state.bytes_received {
        slot::add(slot, Counter::BytesReceived, received - state.bytes_received);
        state.bytes_received = received;
    }
    if acked > state.bytes_acked {
        slot::add(slot, Counter::BytesSent, acked - state.bytes_acked);
        state.bytes_acked = acked;
    }
    let sent = live.segments_sent.wrapping_sub(state.segments_sent);
    let segments = live.segments_received.wrapping_sub(state.segments_received);
    let again = live.retransmits.wrapping_sub(state.retransmits);
    slot::add(slot, Counter::SegmentsSent, u64::from(sent));
    slot::add(slot, Counter::SegmentsReceived, u64::from(segments));
    slot::add(slot, Counter::Retransmits, u64::from(again));
    state.segments_sent = live.segments_sent;
    state.segments_received = live.segments_received;
    state.retransmits = live.retransmits;
}

/// Counts an established connection as over.
#[inline(always)]
pub fn finish(state: &mut SocketState, live: &Live, end: End, now: u64) {
    flush(state, live);
    state.phase = phase::CLOSED;
    let number = state.slot;
    let Some(slot) = slot::by_number(number) else {
        return;
    };
    let counter = match end {
        End::Closed => None,
        End::ResetSent => Some(Counter::ResetSent),
        End::ResetReceived => Some(Counter::ResetReceived),
        End::TimedOut => Some(Counter::TimedOut),
    };
    if let Some(counter) = counter {
        slot::add(slot, counter, 1);
        hint::slot(number, slot, SlotHint::Failed, now);
    }
    // Of a connection older than the agent, only when it was picked up is known: no lifetime.
    if state.connect_seen != 0 || state.role == role::SERVER && state.established_ns != 0 {
        let lived = now.wrapping_sub(state.established_ns);
        histogram::record(number, slot, HistogramKind::Lifetime, lived);
    }
    slot::add(slot, Counter::Closed, 1);
    if !slot::has_open(slot) {
        hint::slot(number, slot, SlotHint::Closed, now);
    }
}
