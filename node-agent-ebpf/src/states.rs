//! BTF tracepoint `inet_sock_set_state` (5.5; with socket storage 5.11): the end of connections older than the agent,
//! on kernels where they cannot be given callbacks. Loaded there only, since it runs for every socket of the system.
//! The kernel skips a run nested in another on the same CPU, so the end of one such connection may be missed when a
//! packet interrupts the close of another.

use aya_ebpf::{
    helpers::generated::bpf_skc_to_tcp_sock, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use common::kernel::phase;

use crate::{life, socket, walk};

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn weft_set_state(ctx: BtfTracePointContext) -> i32 {
    let sk = ctx.arg::<*mut core::ffi::c_void>(0);
    let (old, new) = (ctx.arg::<i32>(1) as u32, ctx.arg::<i32>(2) as u32);
    let Some(state) = socket::get(sk) else {
        return 0;
    };
    if state.phase != phase::ESTABLISHED || state.silent == 0 {
        return 0;
    }
    // SAFETY: null for anything but a full TCP socket.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk) }.cast::<u8>().cast_const();
    if tcp.is_null() {
        return 0;
    }
    life::state_changed(state, tcp, &walk::live(tcp), old, new);
    0
}
