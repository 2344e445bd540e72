//! `sock_ops` (callbacks for RTT and states: 5.3 and later): follows a TCP socket from SYN or accept to close.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_HDR_OPT_LEN_CB,
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_RTT_CB_FLAG,
        BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_SOCK_OPS_TCP_LISTEN_CB,
        bpf_sock_ops,
    },
    helpers::generated::bpf_skc_to_tcp_sock,
    macros::sock_ops,
    programs::SockOpsContext,
};
use common::{
    Counter, HistogramKind,
    kernel::{SlotHint, phase, role},
};

use crate::{
    adopt, connect, hint, histogram,
    life::{self, tcp_state},
    settings, slot,
    socket::{self, Ends, Live},
};

const AF_INET: u32 = 2;

#[sock_ops]
pub fn weft_sock_ops(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_RTT_CB => rtt(&ctx),
        BPF_SOCK_OPS_STATE_CB => state_changed(&ctx),
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(&ctx),
        op @ (BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB | BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) => {
            // One piece of code for both: each connection comes through it twice.
            established(
                &ctx,
                if op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB { role::CLIENT } else { role::SERVER },
            );
        }
        BPF_SOCK_OPS_TCP_LISTEN_CB => started_listening(&ctx),
        BPF_SOCK_OPS_HDR_OPT_LEN_CB => sending(&ctx),
        _ => {}
    }
    1
}

#[inline(always)]
fn sk(ctx: &SockOpsContext) -> *mut c_void {
    // SAFETY: the program's own context.
    unsafe { (*ctx.ops).__bindgen_anon_2.sk.cast() }
}

#[inline(always)]
fn connecting(ctx: &SockOpsContext) {
    let sk = sk(ctx);
    if sk.is_null() {
        return;
    }
    if let Some(parent) = socket::of_mptcp_parent(sk) {
        connect::under_way(parent.connector);
        parent.connector = 0;
    }
    let Some(state) = socket::get_or_inherit(sk) else {
        return;
    };
    connect::under_way(state.connector);
    socket::reset(state, phase::CONNECTING, role::CLIENT);
    state.connect_ns = hint::now_ns();
    state.connect_seen = 1;
    // No RTT before it is established: the sample of the handshake comes too early to be counted.
    ask_for(ctx, settings::callbacks() & !BPF_SOCK_OPS_RTT_CB_FLAG);
}

#[inline(always)]
fn established(ctx: &SockOpsContext, role: u8) {
    let sk = sk(ctx);
    if sk.is_null() {
        return;
    }
    let Some(state) = socket::get_or_inherit(sk) else {
        return;
    };
    // Two sides that connect to each other at once, or a socket to itself, come as accepted: they connected.
    let client = role == role::CLIENT || state.phase == phase::CONNECTING;
    if state.phase != phase::CONNECTING {
        // Accepted, or the SYN left before anybody watched.
        socket::reset(state, phase::NEW, role);
    }
    ask_for(ctx, settings::callbacks());
    if client {
        // The SYN counts among the acknowledged bytes of the side that connected.
        state.control_acked = 1;
    }
    socket::establish(state, &ends(ctx), Counter::Connections, hint::now_ns());
}

#[inline(always)]
fn started_listening(ctx: &SockOpsContext) {
    let sk = sk(ctx);
    if sk.is_null() {
        return;
    }
    let Some(state) = socket::get_or_inherit(sk) else {
        return;
    };
    socket::reset(state, phase::LISTENING, role::SERVER);
    let ends = ends(ctx);
    adopt::listening(state, &ends.local, ends.local_port, hint::now_ns(), true);
    ask_for(ctx, settings::listener_callbacks());
}

#[inline(always)]
fn rtt(ctx: &SockOpsContext) {
    let sk = sk(ctx);
    if sk.is_null() {
        return;
    }
    let Some(state) = socket::get(sk) else {
        return;
    };
    if state.phase != phase::ESTABLISHED {
        return;
    }
    // The sample itself where the kernel hands it over (6.10 and later), else the smoothed value in 1/8 us.
    let sample = ctx.arg(0);
    // SAFETY: the program's own context.
    let us = if sample != 0 { sample } else { unsafe { (*ctx.ops).srtt_us >> 3 } };
    // The callback of a first sample comes before the smoothed value is there.
    if us != 0
        && let Some(slot) = slot::by_number(state.slot)
    {
        let ns = u64::from(us) * 1_000;
        histogram::record(state.slot, slot, HistogramKind::Rtt, ns);
    }
    if settings::flush_on_event() != 0 {
        flush_if_open(ctx, state);
    }
}

/// A segment is about to leave, perhaps the acknowledgement of what was just received. No header option is
/// reserved, so none is written.
#[inline(always)]
fn sending(ctx: &SockOpsContext) {
    if settings::flush_on_event() == 0 {
        return;
    }
    let sk = sk(ctx);
    if sk.is_null() {
        return;
    }
    if let Some(state) = socket::get(sk) {
        flush_if_open(ctx, state);
    }
}

/// Brings the slot up to date, unless a FIN may hide in the counters before its state shows.
#[inline(always)]
fn flush_if_open(ctx: &SockOpsContext, state: &mut common::kernel::SocketState) {
    // SAFETY: the program's own context.
    let now = unsafe { (*ctx.ops).state };
    if state.phase == phase::ESTABLISHED
        && (now == tcp_state::ESTABLISHED || now == tcp_state::CLOSE_WAIT)
    {
        socket::flush(state, &live(ctx));
    }
}

#[inline(always)]
fn state_changed(ctx: &SockOpsContext) {
    let (old, new) = (ctx.arg(0), ctx.arg(1));
    if !life::matters(new) {
        return;
    }
    let sk = sk(ctx);
    if sk.is_null() {
        return;
    }
    let Some(state) = socket::get(sk) else {
        return;
    };
    match state.phase {
        phase::ESTABLISHED => {
            // SAFETY: null unless `sk` is a full TCP socket; a cast that allows reading fields, which plain
            // socket pointers forbid.
            let tcp = unsafe { bpf_skc_to_tcp_sock(sk) }.cast::<u8>();
            life::state_changed(state, tcp, &live(ctx), old, new);
        }
        phase::CONNECTING if new == tcp_state::CLOSE => failed(ctx, sk, state),
        phase::LISTENING if old == tcp_state::LISTEN => {
            let ends = ends(ctx);
            adopt::no_longer_listening(state, &ends.local, ends.local_port);
        }
        _ => {}
    }
}

/// The attempt failed: the kernel sets the error before it closes the socket.
#[inline(always)]
fn failed(ctx: &SockOpsContext, sk: *mut c_void, state: &mut common::kernel::SocketState) {
    // SAFETY: as in `state_changed`.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk) }.cast::<u8>();
    let error = life::error(tcp);
    let now = hint::now_ns();
    let mut key = MaybeUninit::uninit();
    let number = slot::of(socket::half_key(&mut key, state, &ends(ctx)));
    state.phase = phase::CLOSED;
    if let Some(slot) = slot::by_number(number) {
        slot::add(slot, connect::reason_after_syn(error), 1);
        hint::slot(number, slot, SlotHint::Failed, now);
    }
}

#[inline(always)]
fn live(ctx: &SockOpsContext) -> Live {
    let ops: *mut bpf_sock_ops = ctx.ops;
    // SAFETY: the program's own context.
    unsafe {
        Live {
            bytes_received: (*ops).bytes_received,
            bytes_acked: (*ops).bytes_acked,
            segments_sent: (*ops).segs_out,
            segments_received: (*ops).segs_in,
            data_segments_received: (*ops).data_segs_in,
            retransmits: (*ops).total_retrans,
        }
    }
}

#[inline(always)]
fn ends(ctx: &SockOpsContext) -> Ends {
    let ops: *mut bpf_sock_ops = ctx.ops;
    // Each word by itself, and those of IPv4 whatever the family: merged reads at a computed offset are what the
    // verifier refuses.
    // SAFETY: the program's own context.
    let (family, local_port, peer_port, v4) = unsafe {
        (
            word(&raw const (*ops).family),
            word(&raw const (*ops).local_port),
            word(&raw const (*ops).remote_port),
            [word(&raw const (*ops).local_ip4), word(&raw const (*ops).remote_ip4)],
        )
    };
    let (local, peer) = if family == AF_INET {
        (connect::v4_mapped(v4[0]), connect::v4_mapped(v4[1]))
    } else {
        // SAFETY: as above.
        unsafe {
            (
                connect::from_words([
                    word(&raw const (*ops).local_ip6[0]),
                    word(&raw const (*ops).local_ip6[1]),
                    word(&raw const (*ops).local_ip6[2]),
                    word(&raw const (*ops).local_ip6[3]),
                ]),
                connect::from_words([
                    word(&raw const (*ops).remote_ip6[0]),
                    word(&raw const (*ops).remote_ip6[1]),
                    word(&raw const (*ops).remote_ip6[2]),
                    word(&raw const (*ops).remote_ip6[3]),
                ]),
            )
        }
    };
    Ends { local, peer, local_port: local_port as u16, peer_port: u32::from_be(peer_port) as u16 }
}

/// One word of the context.
///
/// # Safety
///
/// `word` must lie in the program's context.
#[inline(always)]
unsafe fn word(word: *const u32) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(word) }
}

#[inline(always)]
fn ask_for(ctx: &SockOpsContext, callbacks: u32) {
    if callbacks != 0 {
        // Others' callbacks on the socket stay. Fails only for sockets that are not full ones.
        let _ = ctx.set_cb_flags((ctx.cb_flags() | callbacks) as i32);
    }
}
