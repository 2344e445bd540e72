//! What a change of state means for an established connection, and how it ended. The kernel sets the socket's
//! error before it closes the socket, so at the change to CLOSE the reason is known.

use common::kernel::SocketState;

use crate::{
    hint, read, settings,
    socket::{self, End, Live},
};

/// TCP states, `include/net/tcp_states.h`.
pub mod tcp_state {
    pub const ESTABLISHED: u32 = 1;
    pub const FIN_WAIT1: u32 = 4;
    pub const FIN_WAIT2: u32 = 5;
    pub const CLOSE: u32 = 7;
    pub const CLOSE_WAIT: u32 = 8;
    pub const LAST_ACK: u32 = 9;
    pub const LISTEN: u32 = 10;
    pub const CLOSING: u32 = 11;
}

const EPIPE: i32 = 32;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;

/// Bits of `sock_common.skc_flags`, `enum sock_flags`.
const SOCK_DONE: u64 = 1 << 1;
const SOCK_LINGER: u64 = 1 << 4;

/// Follows a change of state of an established connection. `tcp` is its `tcp_sock`; `all_acked` says that
/// everything sent was acknowledged.
#[inline(always)]
pub fn state_changed(
    state: &mut SocketState,
    tcp: *const u8,
    live: &Live,
    all_acked: bool,
    old: u32,
    new: u32,
) {
    match new {
        // The peer's FIN is among the received bytes from here on.
        tcp_state::CLOSE_WAIT | tcp_state::CLOSING => state.fin_received = 1,
        // Our FIN is among the acknowledged ones. (A close sets the state that it finds once more.)
        tcp_state::FIN_WAIT2 if old != new => {
            state.control_acked = state.control_acked.wrapping_add(1);
        }
        tcp_state::CLOSE => {
            let end = end(state, tcp, all_acked, old);
            socket::finish(state, live, end, hint::now_ns());
        }
        _ => {}
    }
}

/// The socket's error; 0 for none.
#[inline(always)]
pub fn error(tcp: *const u8) -> i32 {
    if tcp.is_null() {
        return 0;
    }
    read::field::<i32>(tcp, settings::sock_error()).unwrap_or(0)
}

#[inline(always)]
fn end(state: &mut SocketState, tcp: *const u8, all_acked: bool, old: u32) -> End {
    match (old, error(tcp)) {
        (_, ECONNRESET | EPIPE) => End::ResetReceived,
        // Destroyed from outside, which sends a reset.
        (_, ECONNABORTED) => End::ResetSent,
        (tcp_state::LAST_ACK | tcp_state::CLOSING, 0) => {
            if all_acked {
                state.control_acked = state.control_acked.wrapping_add(1);
            }
            End::Closed
        }
        (tcp_state::FIN_WAIT2, 0) => half_closed_end(state, tcp),
        (_, 0) => End::ResetSent,
        _ => End::TimedOut,
    }
}

/// FIN_WAIT2 is left by the peer's FIN, by an orphan turning into a time-wait socket, and by a reset when the
/// application closes with a linger time of zero.
#[inline(always)]
fn half_closed_end(state: &mut SocketState, tcp: *const u8) -> End {
    if tcp.is_null() {
        return End::Closed;
    }
    let flags = read::field::<u64>(tcp, settings::sock_flags()).unwrap_or(SOCK_DONE);
    if flags & SOCK_DONE != 0 {
        state.fin_received = 1;
        return End::Closed;
    }
    let linger = read::field::<u64>(tcp, settings::sock_linger()).unwrap_or(1);
    if flags & SOCK_LINGER != 0 && linger == 0 { End::ResetSent } else { End::Closed }
}
