//! The iterator `bpf_sk_storage_map` (5.9; used where `walk.rs` is): once per interval, goes over the sockets that the
//! programs follow, in whatever network namespace. It counts nothing, since it does not hold their locks, but finds out
//! what a walk, which does, would be good for: a walk enters each namespace by itself and meets everything that is hashed
//! there, closed connections that wait for their ports to be free included.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;
use common::kernel::{SocketState, phase};

use crate::{
    adopt, hint,
    life::tcp_state as state_of,
    read, settings, slot, socket,
    walk::{ends, is_live, live},
};

/// What a younger connection moved may wait for the next look: most of those that are open at a given moment in a storm
/// are over before it, and then tell everything themselves.
const YOUNG_NS: u64 = 50_000_000;

/// Context of `iter/bpf_sk_storage_map`, as `struct bpf_iter__bpf_sk_storage_map`.
#[repr(C)]
pub struct StoredState {
    meta: *mut c_void,
    map: *mut c_void,
    sk: *mut c_void,
    value: *mut SocketState,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
pub extern "C" fn weft_survey(ctx: *mut StoredState) -> i32 {
    // SAFETY: the program's own context.
    let (sk, state) = unsafe { ((*ctx).sk, (*ctx).value) };
    if sk.is_null() || state.is_null() {
        return 0;
    }
    // SAFETY: the value lives as long as the program runs. Whoever has the socket's lock may be writing to it: what
    // is read may be of two moments, which a look too many or a later one makes good.
    let state = unsafe { &*state };
    if state.phase != phase::ESTABLISHED && state.phase != phase::LISTENING {
        return 0;
    }
    // SAFETY: null for sockets of MPTCP, whose subflows are followed by themselves.
    let sock = unsafe { bpf_skc_to_tcp_sock(sk) }.cast::<u8>().cast_const();
    if sock.is_null() {
        return 0;
    }
    let now = hint::now_ns();
    let tcp_state = u32::from(read::field::<u8>(sock, settings::sock_state()).unwrap_or(0));
    if state.phase == phase::LISTENING {
        // One that is closed at this very moment is listed for two looks more.
        if tcp_state == state_of::LISTEN {
            let ends = ends(sock);
            adopt::listening(state, &ends.local, ends.local_port, now, false);
        }
    } else if is_live(tcp_state)
        && now.wrapping_sub(state.established_ns) >= YOUNG_NS
        && socket::has_moved(state, &live(sock))
        && let Some(slot) = slot::by_number(state.slot)
    {
        // SAFETY: a map value.
        unsafe { (*slot).moved_ns = now };
    }
    0
}
