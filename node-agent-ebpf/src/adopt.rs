//! Listeners, and sockets that were there before the agent. The iterator `task_file` (5.8; socket storage in tracing
//! programs: 5.11) tags the sockets of processes that the agent lists.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_NOEXIST, file},
    helpers::generated::bpf_sock_from_file,
};
use common::kernel::{HintKind, ListenerKey, Loss, PortKey, PortState, SocketState, sharing};

use crate::{
    hint,
    maps::{ADOPTIONS, LISTENERS, MPTCP_ADOPTIONS, PORTS, SHARED_PORTS},
    read, settings, socket,
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_MPTCP: u16 = 262;

/// Context of `iter/task_file`, as `struct bpf_iter__task_file`.
#[repr(C)]
pub struct TaskFile {
    meta: *mut c_void,
    task: *mut u8,
    fd: u64,
    file: *mut file,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn weft_adopt_files(ctx: *mut TaskFile) -> i32 {
    // SAFETY: the program's own context.
    let (task, file) = unsafe { ((*ctx).task, (*ctx).file) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    let Some(tgid) = read::field::<u32>(task, settings::task_tgid()) else {
        return 0;
    };
    // SAFETY: copied at once.
    let Some([owner, netns_cookie]) = (unsafe { ADOPTIONS.get(tgid) }).copied() else {
        return 0;
    };
    // SAFETY: the helper answers null unless the file is a socket.
    let sock = unsafe { bpf_sock_from_file(file) }.cast::<u8>();
    if sock.is_null() {
        return 0;
    }
    // A plain load, not a probe, so that the verifier knows the result as a socket.
    // SAFETY: the offset is that of `struct socket.sk`, which the verifier checks.
    let sk = unsafe {
        core::ptr::read_volatile(sock.add(settings::socket_sk() as usize).cast::<*mut u8>())
    };
    if sk.is_null() {
        return 0;
    }
    // The socket's own namespace: its process may have made it in another one.
    let netns_cookie = read::netns_cookie(sk).unwrap_or(netns_cookie);
    let family = read::field::<u16>(sk, settings::sock_family()).unwrap_or(0);
    let protocol = read::field::<u16>(sk, settings::sock_protocol()).unwrap_or(0);
    if (family == AF_INET || family == AF_INET6)
        && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP)
    {
        if protocol == IPPROTO_MPTCP
            && MPTCP_ADOPTIONS.insert(sk as u64, [owner, u64::from(tgid)], 0).is_err()
        {
            hint::lost(Loss::StorageRefused);
        }
        // Keeps the state of a socket that has one.
        let _ = socket::get_or_create(sk.cast(), owner, netns_cookie, tgid);
    }
    0
}

/// Notes a listening socket. `announce` tells the agent of a new one at once.
#[inline(always)]
pub fn listening(state: &SocketState, address: &[u8; 16], port: u16, now: u64, announce: bool) {
    let key = ListenerKey {
        netns_cookie: state.netns_cookie,
        owner: state.owner,
        address: *address,
        port,
        reserved: [0; 6],
    };
    if let Some(seen) = LISTENERS.get_ptr_mut(key) {
        // SAFETY: a map value.
        unsafe { *seen = now };
        // Should the port's entry have been removed while this listener was made, it comes back.
        share(state, port);
        return;
    }
    if LISTENERS.insert(key, now, 0).is_err() {
        hint::lost(Loss::ListenersFull);
    }
    share(state, port);
    if announce {
        hint::send(HintKind::Listener, 0, 0);
    }
}

/// Notes who listens on a port; from the second owner on, its connections are told apart. One that listens no more
/// is among them until the agent takes the port's entry away: its connections may still be open, and clients talk to both.
#[inline(always)]
fn share(state: &SocketState, port: u16) {
    let key = PortKey { netns_cookie: state.netns_cookie, port, reserved: [0; 6] };
    let first = PortState { owner: state.owner, sharing: sharing::SINGLE, reserved: 0 };
    if PORTS.insert(key, first, u64::from(BPF_NOEXIST)).is_ok() {
        return;
    }
    let Some(known) = PORTS.get_ptr_mut(key) else {
        hint::lost(Loss::ListenersFull);
        return;
    };
    // SAFETY: a map value; racing writers write the same.
    unsafe {
        if (*known).owner != state.owner && (*known).sharing == sharing::SINGLE {
            (*known).sharing = sharing::SHARED;
            if let Some(count) = SHARED_PORTS.get_ptr_mut(0) {
                *count += 1;
            }
        }
    }
}

/// Forgets a listening socket, but not yet whose its port was.
#[inline(always)]
pub fn no_longer_listening(state: &SocketState, address: &[u8; 16], port: u16) {
    let key = ListenerKey {
        netns_cookie: state.netns_cookie,
        owner: state.owner,
        address: *address,
        port,
        reserved: [0; 6],
    };
    if LISTENERS.remove(key).is_ok() {
        hint::send(HintKind::Listener, 0, 0);
    }
}
