//! The iterator `tcp` (5.9; with socket storage 5.11): once per interval, and per network namespace, brings live
//! sockets up to date, one that only ever receives included, at no cost on the packet path. It also takes up sockets
//! that `adopt.rs` tagged.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_getsockopt, bpf_setsockopt, bpf_skc_to_tcp_sock};
use common::{
    Counter,
    kernel::{PortKey, SocketState, phase, role},
};

use crate::{
    adopt, connect, hint,
    life::tcp_state as state_of,
    maps::{MPTCP_ADOPTIONS, PORTS},
    read, settings,
    socket::{self, Ends, Live},
};

const AF_INET: u16 = 2;
const SOL_TCP: i32 = 6;
const TCP_BPF_SOCK_OPS_CB_FLAGS: i32 = 1008;

/// Context of `iter/tcp`, as `struct bpf_iter__tcp`.
#[repr(C)]
pub struct TcpSocket {
    meta: *mut c_void,
    sk: *mut c_void,
    uid: u64,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn weft_walk_tcp(ctx: *mut TcpSocket) -> i32 {
    // SAFETY: the program's own context.
    let sk = unsafe { (*ctx).sk };
    if sk.is_null() {
        return 0;
    }
    // SAFETY: null for time-wait and request sockets.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk) };
    if tcp.is_null() {
        return 0;
    }
    let sock: *const u8 = tcp.cast_const().cast();
    let tcp_state = u32::from(read::field::<u8>(sock, settings::sock_state()).unwrap_or(0));
    let state = match socket::get(tcp.cast()) {
        Some(state) => state,
        None => match adopt_subflow(tcp.cast(), sock) {
            Some(state) => state,
            None => return 0,
        },
    };
    match tcp_state {
        state_of::LISTEN => listener(tcp.cast(), state, sock),
        tcp_state if is_live(tcp_state) => {
            if state.phase == phase::ESTABLISHED {
                // Under the socket's lock a FIN that is in the counters shows in the state as well.
                socket::flush(state, &live(sock));
            } else if state.phase == phase::NEW {
                take_up(tcp.cast(), state, sock);
            }
        }
        _ => {}
    }
    0
}

/// Whether a walk has something to do with a connection in this state.
#[inline(always)]
pub fn is_live(tcp_state: u32) -> bool {
    matches!(
        tcp_state,
        state_of::ESTABLISHED | state_of::CLOSE_WAIT | state_of::FIN_WAIT1 | state_of::FIN_WAIT2
    )
}

/// A subflow of an MPTCP socket older than the agent: made by the kernel, it has no file of its own, so `adopt.rs` left
/// the owner under the address of that socket. (The helper that leads there does not take this kind of pointer.)
#[inline(always)]
fn adopt_subflow<'a>(sk: *mut c_void, sock: *const u8) -> Option<&'a mut SocketState> {
    let context = read::field::<u64>(sock, settings::sock_ulp_data()).filter(|at| *at != 0)?;
    // What another protocol keeps there leads to no address of the map.
    let parent = read::field::<u64>(context as *const u8, settings::subflow_parent())?;
    // SAFETY: copied at once.
    let [owner, tgid] = unsafe { MPTCP_ADOPTIONS.get(parent) }.copied()?;
    socket::get_or_create(sk, owner, read::netns_cookie(sock)?, tgid as u32)
}

#[inline(always)]
fn listener(sk: *mut c_void, state: &mut SocketState, sock: *const u8) {
    let ends = ends(sock);
    if state.phase == phase::NEW {
        state.phase = phase::LISTENING;
        state.role = role::SERVER;
        // Fails only where the option is not known; walks then notice that it is gone.
        let _ = settings::adopt_callbacks() != 0 && ask_for(sk, settings::listener_callbacks());
    }
    adopt::listening(state, &ends.local, ends.local_port, hint::now_ns(), false);
}

/// Starts counting a connection that is older than the agent. It was not established on our watch, so it
/// counts as adopted.
#[inline(always)]
fn take_up(sk: *mut c_void, state: &mut SocketState, sock: *const u8) {
    let ends = ends(sock);
    let port =
        PortKey { netns_cookie: state.netns_cookie, port: ends.local_port, reserved: [0; 6] };
    // SAFETY: only looked at for presence.
    let accepted = unsafe { PORTS.get(port) }.is_some();
    let role = if accepted { role::SERVER } else { role::CLIENT };
    socket::reset(state, phase::NEW, role);
    if settings::adopt_callbacks() == 0 {
        // Without callbacks there are no RTT samples, and `states.rs` sees to the end.
        state.silent = 1;
    } else if !ask_for(sk, settings::callbacks()) {
        return;
    }
    let live = live(sock);
    // What was moved before is not ours to count; of control bytes, only those to come matter.
    state.bytes_received = live.bytes_received;
    state.bytes_acked = live.bytes_acked;
    state.segments_sent = live.segments_sent;
    state.segments_received = live.segments_received;
    state.retransmits = live.retransmits;
    socket::establish(state, &ends, Counter::Adopted, hint::now_ns());
    // When it was established is not known.
    state.established_ns = 0;
}

/// Asks for callbacks on a socket whose lock the iterator holds.
#[inline(always)]
fn ask_for(sk: *mut c_void, callbacks: u32) -> bool {
    let mut flags = 0_i32;
    // Others' callbacks on the socket stay.
    // SAFETY: the value is on the stack.
    let known = unsafe {
        bpf_getsockopt(
            sk,
            SOL_TCP,
            TCP_BPF_SOCK_OPS_CB_FLAGS,
            (&raw mut flags).cast(),
            size_of::<i32>() as i32,
        )
    };
    if known != 0 {
        return false;
    }
    flags |= callbacks as i32;
    // SAFETY: the value is on the stack.
    let result = unsafe {
        bpf_setsockopt(
            sk,
            SOL_TCP,
            TCP_BPF_SOCK_OPS_CB_FLAGS,
            (&raw mut flags).cast(),
            size_of::<i32>() as i32,
        )
    };
    result == 0
}

/// The kernel's counters of a connection, read at their offsets.
#[inline(always)]
pub fn live(sock: *const u8) -> Live {
    Live {
        bytes_received: read::field(sock, settings::tcp_bytes_received()).unwrap_or(0),
        bytes_acked: read::field(sock, settings::tcp_bytes_acked()).unwrap_or(0),
        segments_sent: read::field(sock, settings::tcp_segments_sent()).unwrap_or(0),
        segments_received: read::field(sock, settings::tcp_segments_received()).unwrap_or(0),
        data_segments_received: read::field(sock, settings::tcp_data_segments_received())
            .unwrap_or(0),
        retransmits: read::field(sock, settings::tcp_retransmits()).unwrap_or(0),
    }
}

#[inline(always)]
pub fn ends(sock: *const u8) -> Ends {
    let family = read::field::<u16>(sock, settings::sock_family()).unwrap_or(0);
    let (local, peer) = if family == AF_INET {
        (
            connect::v4_mapped(read::first_field(sock, settings::sock_local4()).unwrap_or(0)),
            connect::v4_mapped(read::first_field(sock, settings::sock_peer4()).unwrap_or(0)),
        )
    } else {
        (
            read::field(sock, settings::sock_local6()).unwrap_or_default(),
            read::field(sock, settings::sock_peer6()).unwrap_or_default(),
        )
    };
    Ends {
        local,
        peer,
        local_port: read::field(sock, settings::sock_local_port()).unwrap_or(0),
        peer_port: u16::from_be(read::field(sock, settings::sock_peer_port()).unwrap_or(0)),
    }
}
