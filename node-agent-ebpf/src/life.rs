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
const SOCK_DEAD: u64 = 1;
const SOCK_DONE: u64 = 1 << 1;

/// Whether a change to this state tells anything, of whatever socket.
#[inline(always)]
pub fn matters(new: u32) -> bool {
    const THOSE: u32 = 1 << tcp_state::FIN_WAIT1
        | 1 << tcp_state::FIN_WAIT2
        | 1 << tcp_state::CLOSE
        | 1 << tcp_state::CLOSE_WAIT
        | 1 << tcp_state::CLOSING;
    THOSE >> (new & 31) & 1 == 1
}

/// Follows a change of state of an established connection. `tcp` is its `tcp_sock`.
#[inline(always)]
pub fn state_changed(state: &mut SocketState, tcp: *const u8, live: &Live, old: u32, new: u32) {
    match new {
        // The peer's FIN is among the received bytes from here on.
        tcp_state::CLOSE_WAIT | tcp_state::CLOSING => state.fin_received = 1,
        // A close sets the state that it finds once more: the last such change is the one that counts.
        tcp_state::FIN_WAIT1 => state.data_segments_at_fin = live.data_segments_received,
        tcp_state::FIN_WAIT2 => {
            state.data_segments_at_fin = live.data_segments_received;
            if old != new {
                // Our FIN is among the acknowledged ones.
                state.control_acked = state.control_acked.wrapping_add(1);
            }
        }
        tcp_state::CLOSE => {
            let end = end(state, tcp, live, old);
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
    // SAFETY: a `tcp_sock`, which begins with a `sock`.
    unsafe { read::known_field::<i32>(tcp, settings::sock_error()) }.unwrap_or(0)
}

/// How the connection ended, from the state that it left. Notes a FIN that the end shows to have been
/// received or acknowledged.
#[inline(always)]
fn end(state: &mut SocketState, tcp: *const u8, live: &Live, old: u32) -> End {
    if tcp.is_null() {
        return End::Closed;
    }
    // All read before anything is decided: with reads in the branches the compiler makes code that the
    // verifier refuses.
    let error = error(tcp);
    // SAFETY: a `tcp_sock`, which begins with a `sock`.
    let flags = unsafe { read::known_field::<u64>(tcp, settings::sock_flags()) };
    let flags = flags.unwrap_or(SOCK_DEAD | SOCK_DONE);
    let all_acked = all_acked(tcp);
    let orphan = flags & SOCK_DEAD != 0;
    match old {
        tcp_state::LAST_ACK | tcp_state::CLOSING if error != ECONNRESET => {
            if all_acked {
                state.control_acked = state.control_acked.wrapping_add(1);
                End::Closed
            } else if error == 0 {
                // Closed with data unread, before the own FIN was acknowledged.
                if orphan { End::Closed } else { End::ResetSent }
            } else {
                End::TimedOut
            }
        }
        tcp_state::FIN_WAIT2 if error == 0 => {
            if flags & SOCK_DONE != 0 {
                state.fin_received = 1;
                End::Closed
            } else if orphan {
                // Turned into a time-wait socket.
                End::Closed
            } else {
                // Still the process's: closed with data unread or without lingering, or disconnected.
                End::ResetSent
            }
        }
        tcp_state::FIN_WAIT1 | tcp_state::FIN_WAIT2
            if error == ECONNRESET
                && orphan
                && live.data_segments_received != state.data_segments_at_fin =>
        {
            // Data for a process that is gone: the kernel answers with a reset, and marks its own socket
            // as if it had received one.
            End::ResetSent
        }
        _ => match error {
            ECONNRESET | EPIPE => End::ResetReceived,
            // Destroyed from outside, which sends a reset.
            0 | ECONNABORTED => End::ResetSent,
            _ => End::TimedOut,
        },
    }
}

/// Whether everything that was written was acknowledged, the FIN included.
#[inline(always)]
fn all_acked(tcp: *const u8) -> bool {
    // SAFETY: the caller has a `tcp_sock`.
    let (acked, written) = unsafe {
        (
            read::known_field::<u32>(tcp, settings::tcp_snd_una()),
            read::known_field::<u32>(tcp, settings::tcp_write_seq()),
        )
    };
    acked == written
}
