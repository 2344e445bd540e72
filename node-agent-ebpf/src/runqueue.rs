//! Run-queue latency: from runnable to running, preemption included. BTF tracepoint `sched_switch` (5.5 and later) and, where
//! the kernel does not itself add up how long each task has waited (`CONFIG_SCHED_INFO`), `sched_wakeup` and
//! `sched_wakeup_new`.
//!
//! Only the current task's cgroup can be asked for, and in `sched_switch` the current task is the one that
//! leaves. So a wait is noted when its task comes on a CPU and counted when it leaves it.

use aya_ebpf::{bindings::BPF_NOEXIST, macros::btf_tracepoint, programs::BtfTracePointContext};
use common::{
    histogram::{BUCKETS_POW2, bucket_of_ns},
    kernel::Loss,
};

use crate::{
    atomic, hint,
    maps::{LEFT, MEASURED_CGROUP, RUNNABLE_SINCE, RUNQUEUE, WAITED},
    read, settings,
};

/// The map has an entry already.
const EEXIST: i32 = 17;

#[btf_tracepoint(function = "sched_wakeup")]
pub fn weft_wakeup(ctx: BtfTracePointContext) -> i32 {
    woken(ctx.arg::<*const u8>(0));
    0
}

#[btf_tracepoint(function = "sched_wakeup_new")]
pub fn weft_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    woken(ctx.arg::<*const u8>(0));
    0
}

#[inline(always)]
fn woken(task: *const u8) {
    if let Some(pid) = read::field::<u32>(task, settings::task_pid()) {
        // A preempted task that is woken has been waiting already.
        runnable(pid, hint::now_ns(), u64::from(BPF_NOEXIST));
    }
}

#[inline(always)]
fn runnable(pid: u32, now: u64, flags: u64) {
    if pid != 0
        && let Err(error) = RUNNABLE_SINCE.insert(pid, now, flags)
        && error != -EEXIST
    {
        hint::lost(Loss::RunqueueFull);
    }
}

#[btf_tracepoint(function = "sched_switch")]
pub fn weft_switch(ctx: BtfTracePointContext) -> i32 {
    let preempted = ctx.arg::<u64>(0) & 1 != 0;
    let (leaving, coming) = (ctx.arg::<*const u8>(1), ctx.arg::<*const u8>(2));
    let Some(waited) = WAITED.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a per-CPU value, and a switch is not interrupted by another on its CPU.
    let waited = unsafe { &mut *waited };
    if settings::task_waits() != 0 {
        by_sums(leaving, coming, waited);
    } else {
        by_wakeups(preempted, leaving, coming, waited);
    }
    0
}

/// What a task has waited in all when it leaves, less what it had when it left before: a wait that the task spends in the
/// queues of several CPUs is added in parts, all but the last before it comes. Of a task that has not left before, or not
/// for long, what it had when it came, of which the kernel tells first and adds then.
#[inline(always)]
fn by_sums(leaving: *const u8, coming: *const u8, waited: &mut [u64; 2]) {
    if let Some(sums) = Sums::of(leaving) {
        let (waits, ns) = match left(leaving, &sums) {
            Some(before) => before,
            None if waited[0] as u32 == sums.pid => ((waited[0] >> 32) as u32, waited[1]),
            None => (sums.waits, sums.ns),
        };
        if waits != sums.waits {
            count(sums.ns.wrapping_sub(ns));
        }
    }
    *waited = match Sums::of(coming) {
        Some(sums) => [u64::from(sums.waits) << 32 | u64::from(sums.pid), sums.ns],
        None => [0; 2],
    };
}

/// Notes the sums of a task that leaves; how often and how long it had waited when it left before, where that is known.
#[inline(always)]
fn left(task: *const u8, sums: &Sums) -> Option<(u32, u64)> {
    // SAFETY: as in `Sums::of`. Of the time at which it began the low bits do, to tell it from one of the same number.
    let start = unsafe { read::known_field::<u64>(task, settings::task_start()) }? as u32;
    let now = [u64::from(sums.waits) << 32 | u64::from(start), sums.ns];
    let Some(noted) = LEFT.get_ptr_mut(sums.pid) else {
        let _ = LEFT.insert(sums.pid, now, 0);
        return None;
    };
    // SAFETY: a map value. A task leaves one CPU at a time; an entry that is evicted at this moment is then taken for that
    // of an earlier task.
    let before = unsafe { noted.replace(now) };
    (before[0] as u32 == start && before[1] <= sums.ns)
        .then_some(((before[0] >> 32) as u32, before[1]))
}

/// How often a task has waited, modulo 2^32, and for how long.
struct Sums {
    pid: u32,
    waits: u32,
    ns: u64,
}

impl Sums {
    /// Of any task but the one that runs when there is none.
    #[inline(always)]
    fn of(task: *const u8) -> Option<Self> {
        // SAFETY: a `task_struct`, by the type of the tracepoint's arguments.
        let (pid, waits, ns) = unsafe {
            (
                read::known_field::<u32>(task, settings::task_pid()),
                read::known_field::<u64>(task, settings::task_waits()),
                read::known_field::<u64>(task, settings::task_waited()),
            )
        };
        let pid = pid.filter(|pid| *pid != 0)?;
        Some(Self { pid, waits: waits? as u32, ns: ns? })
    }
}

/// From a wake-up or a preemption on.
#[inline(always)]
fn by_wakeups(preempted: bool, leaving: *const u8, coming: *const u8, waited: &mut [u64; 2]) {
    let now = hint::now_ns();
    if let Some(pid) = read::field::<u32>(leaving, settings::task_pid()) {
        if waited[1] != 0 && waited[0] == u64::from(pid) {
            count(waited[1] - 1);
        }
        // A task that goes to sleep may have been woken while it still ran: that is no wait.
        let state = read::field::<u32>(leaving, settings::task_state()).unwrap_or(1);
        if preempted || state == 0 {
            runnable(pid, now, 0);
        } else {
            let _ = RUNNABLE_SINCE.remove(pid);
        }
    }

    waited[1] = 0;
    if let Some(pid) = read::field::<u32>(coming, settings::task_pid()) {
        // SAFETY: copied at once.
        if let Some(since) = unsafe { RUNNABLE_SINCE.get(pid) }.copied() {
            let _ = RUNNABLE_SINCE.remove(pid);
            *waited = [u64::from(pid), now.saturating_sub(since) + 1];
        }
    }
}

#[inline(always)]
fn count(ns: u64) {
    if settings::runqueue_filter() != 0 && MEASURED_CGROUP.current_task_under_cgroup(0) != Ok(true)
    {
        return;
    }
    let Some(buckets) = RUNQUEUE.get_ptr_mut(0) else {
        return;
    };
    let bucket = bucket_of_ns(ns) as usize & (BUCKETS_POW2 - 1);
    // SAFETY: a map value, aligned; the index is masked to the array.
    unsafe { atomic::add_u64(buckets.cast::<u64>().add(bucket), 1) };
}
