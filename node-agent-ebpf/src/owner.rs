//! Who makes a socket.

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid,
        generated::{bpf_get_current_cgroup_id, bpf_get_current_task, bpf_get_netns_cookie},
    },
};
use common::kernel::{HintKind, Loss, Owner, owner_id};

use crate::{hint, maps::OWNERS, read, settings};

/// Owner id, namespace cookie and process of the current task.
pub struct Current {
    pub owner: u64,
    pub netns_cookie: u64,
    pub tgid: u32,
}

/// The process that runs now.
#[inline(always)]
pub fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Identifies the current task and makes sure that the agent hears of it. The context must be one that
/// knows its network namespace (`cgroup/sock_create` and `cgroup/connect`: 5.7 and later).
#[inline(always)]
pub fn current<C: EbpfContext>(ctx: &C) -> Current {
    let tgid = current_tgid();
    // SAFETY: helpers without memory arguments, and one that takes the program's own context.
    let (cgroup_id, netns_cookie) =
        unsafe { (bpf_get_current_cgroup_id(), bpf_get_netns_cookie(ctx.as_ptr())) };
    let start_ns = start_ns();
    let owner = owner_id(cgroup_id, netns_cookie, tgid, start_ns);
    // SAFETY: only looked at for presence.
    if unsafe { OWNERS.get(owner) }.is_some() {
        return Current { owner, netns_cookie, tgid };
    }
    let known = Owner {
        cgroup_id,
        netns_cookie,
        start_ns,
        tgid,
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    if OWNERS.insert(owner, known, 0).is_err() {
        hint::lost(Loss::OwnersFull);
        return Current { owner: 0, netns_cookie, tgid };
    }
    hint::send(HintKind::Owner, tgid, owner);
    Current { owner, netns_cookie, tgid }
}

/// Start of the process: what tells two processes of one number apart.
#[inline(always)]
fn start_ns() -> u64 {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let Some(leader) = read::field::<u64>(task, settings::task_leader()) else {
        return 0;
    };
    read::field(leader as *const u8, settings::task_start()).unwrap_or(0)
}
