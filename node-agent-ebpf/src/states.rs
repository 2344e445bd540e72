//! BTF tracepoint `inet_sock_set_state` (5.5; with socket storage 5.11): the end of connections older than the agent,
//! on kernels where they cannot be given callbacks. Loaded there only, since it runs for every socket of the system.

use aya_ebpf::{
    helpers::generated::bpf_skc_to_tcp_sock, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use common::kernel::phase;

use crate::{life, read, settings, socket, walk};

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
    let acked = read::field::<u32>(tcp, settings::tcp_snd_una());
    let sent = read::field::<u32>(tcp, settings::tcp_snd_nxt());
    life::state_changed(state, tcp, &walk::live(tcp), acked == sent, old, new);
    0
}
