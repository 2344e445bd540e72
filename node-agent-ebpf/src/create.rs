//! `cgroup/sock_create` (5.10 and later with socket storage): names the owner when a process makes a TCP
//! socket. Sockets that the kernel makes itself (MPTCP subflows) do not come here.

use aya_ebpf::{macros::cgroup_sock, programs::SockContext};

use crate::{owner, socket};

const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

#[cgroup_sock(sock_create)]
pub fn weft_sock_create(ctx: SockContext) -> i32 {
    // SAFETY: the program's own context.
    let (family, kind, protocol) =
        unsafe { ((*ctx.sock).family, (*ctx.sock).type_, (*ctx.sock).protocol) };
    let tcp = kind == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
    if tcp && (family == AF_INET || family == AF_INET6) {
        let who = owner::current(&ctx);
        // Refusals are counted inside.
        let _ = socket::get_or_create(ctx.sock.cast(), who.owner, who.netns_cookie, who.tgid);
    }
    // Never stands in the way of a socket.
    1
}
