//! connect(2): attempts that fail before a SYN leaves fire no TCP event. `cgroup/connect4` and `connect6` (5.8 and
//! later) note what is attempted, a SYN takes the note back, and the tracepoint
//! `syscalls:sys_exit_connect` counts what is left of those that failed.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::bpf_get_current_pid_tgid,
    macros::{cgroup_sock_addr, tracepoint},
    programs::{SockAddrContext, TracePointContext},
};
use common::{
    Counter,
    kernel::{Loss, NO_SLOT, Pending, SlotHint, SocketState, role},
};

use crate::{hint, maps::PENDING, owner, slot, socket, zero};

const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;

/// A failure before the SYN comes at once: a note older than this belongs to a call that no tracepoint ended.
const STALE_NS: u64 = 1_000_000_000;

/// Offset of the return value in every `sys_exit_*` record: 8 common bytes, 8 of the call's number.
const SYS_EXIT_RET: usize = 16;

#[cgroup_sock_addr(connect4)]
pub fn weft_connect4(ctx: SockAddrContext) -> i32 {
    let address = ctx.sock_addr;
    // SAFETY: the program's own context.
    let ip = unsafe { (*address).user_ip4 };
    note(&ctx, v4_mapped(ip));
    1
}

#[cgroup_sock_addr(connect6)]
pub fn weft_connect6(ctx: SockAddrContext) -> i32 {
    let address = ctx.sock_addr;
    // SAFETY: the program's own context; word by word, as the verifier wants it.
    let words = unsafe {
        [
            (*address).user_ip6[0],
            (*address).user_ip6[1],
            (*address).user_ip6[2],
            (*address).user_ip6[3],
        ]
    };
    note(&ctx, from_words(words));
    1
}

#[inline(always)]
fn note(ctx: &SockAddrContext, peer: [u8; 16]) {
    let address: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the program's own context.
    let (kind, protocol, port, sk) = unsafe {
        (
            (*address).type_,
            (*address).protocol,
            (*address).user_port,
            (*address).__bindgen_anon_1.sk,
        )
    };
    let tcp = protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP;
    if kind != SOCK_STREAM || !tcp || sk.is_null() {
        return;
    }
    let thread = bpf_get_current_pid_tgid();
    let state = match socket::get(sk.cast()) {
        // Made in one process, used in another: the user is the owner.
        Some(state) if state.tgid != (thread >> 32) as u32 => {
            let who = owner::current(ctx);
            state.owner = who.owner;
            state.netns_cookie = who.netns_cookie;
            state.tgid = who.tgid;
            state
        }
        Some(state) => state,
        None => {
            let who = owner::current(ctx);
            match socket::get_or_create(sk.cast(), who.owner, who.netns_cookie, who.tgid) {
                Some(state) => state,
                None => return,
            }
        }
    };
    state.connector = thread;
    let port = u16::from_be(port as u16);
    if let Some(noted) = PENDING.get_ptr_mut(thread) {
        // SAFETY: a map value; only this thread notes there.
        unsafe {
            if (*noted).noted_ns != 0 {
                hint::lost(Loss::ConnectUnseen);
            }
            attempt(&mut *noted, state, peer, port);
        }
        return;
    }
    let mut first = MaybeUninit::<Pending>::uninit();
    let first = zero::out(&mut first);
    attempt(first, state, peer, port);
    if PENDING.insert(thread, &*first, 0).is_err() {
        hint::lost(Loss::PendingFull);
    }
}

/// Notes what is attempted. All else in an entry is and stays 0.
#[inline(always)]
fn attempt(pending: &mut Pending, state: &SocketState, peer: [u8; 16], port: u16) {
    pending.half.owner = state.owner;
    pending.half.netns_cookie = state.netns_cookie;
    pending.half.peer = peer;
    pending.half.server_port = port;
    pending.half.role = role::CLIENT;
    pending.noted_ns = hint::now_ns();
}

/// The SYN is on its way: from here on the socket's own states tell what becomes of it.
#[inline(always)]
pub fn under_way(thread: u64) {
    // Absent when the agent attached in between.
    if thread != 0
        && let Some(noted) = PENDING.get_ptr_mut(thread)
    {
        // SAFETY: a map value.
        unsafe { (*noted).noted_ns = 0 };
    }
}

#[tracepoint]
pub fn weft_connect_exit(ctx: TracePointContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let Some(pending) = PENDING.get_ptr_mut(thread) else {
        return 0;
    };
    // SAFETY: a map value; only this thread notes there.
    let noted_ns = unsafe { (*pending).noted_ns };
    if noted_ns == 0 {
        return 0;
    }
    // SAFETY: as above.
    let half = unsafe {
        (*pending).noted_ns = 0;
        (*pending).half
    };
    let now = hint::now_ns();
    if now.wrapping_sub(noted_ns) > STALE_NS {
        hint::lost(Loss::ConnectUnseen);
        return 0;
    }
    // SAFETY: within the record of every sys_exit event.
    let ret = unsafe { ctx.read_at::<i64>(SYS_EXIT_RET) }.unwrap_or(0);
    if ret >= 0 {
        return 0;
    }
    let Some(counter) = reason_at_once((-ret) as i32) else {
        return 0;
    };
    let number = slot::of(&half);
    if number == NO_SLOT {
        return 0;
    }
    if let Some(slot) = slot::by_number(number) {
        slot::add(slot, counter, 1);
        hint::slot(number, slot, SlotHint::Failed, now);
    }
    0
}

/// Reason of a failure before the SYN; `None` for calls that attempted nothing.
#[inline(always)]
fn reason_at_once(errno: i32) -> Option<Counter> {
    match errno {
        // EINTR, EBADF, EFAULT, ENOTSOCK, EAFNOSUPPORT, EISCONN, EALREADY, EINPROGRESS
        4 | 9 | 14 | 88 | 97 | 106 | 114 | 115 => None,
        errno => Some(reason(errno)),
    }
}

/// Reason of an attempt that failed after its SYN, by the socket's error.
#[inline(always)]
pub fn reason_after_syn(errno: i32) -> Counter {
    match errno {
        // None, or ECONNABORTED: the socket was destroyed from outside.
        0 | 103 => Counter::FailedAborted,
        // ECONNRESET: two that connect to each other at once.
        104 => Counter::FailedRefused,
        // EACCES, EPROTO: what ICMPv6 calls prohibited and malformed; for IPv4 it is EHOSTUNREACH.
        13 | 71 => Counter::FailedUnreachable,
        errno => reason(errno),
    }
}

#[inline(always)]
fn reason(errno: i32) -> Counter {
    match errno {
        // ECONNREFUSED
        111 => Counter::FailedRefused,
        // ETIMEDOUT
        110 => Counter::FailedTimeout,
        // ENONET, ENOPROTOOPT (ICMP: protocol unreachable), ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH
        64 | 92 | 100 | 101 | 112 | 113 => Counter::FailedUnreachable,
        _ => Counter::FailedLocal,
    }
}

/// An IPv4 address in network order as an IPv4-mapped one.
#[inline(always)]
pub fn v4_mapped(ip: u32) -> [u8; 16] {
    from_words([0, 0, u32::to_be(0xffff), ip])
}

/// Four words in network order as bytes.
#[inline(always)]
pub fn from_words(words: [u32; 4]) -> [u8; 16] {
    // SAFETY: same size, no padding.
    unsafe { core::mem::transmute(words) }
}
