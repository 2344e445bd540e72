//! Hints to the agent, and losses.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use common::kernel::{Hint, HintKind, Loss, Slot, SlotHint};

use crate::maps::{HINTS, LOSSES};

/// A slot's hints of one kind are at least this far apart. For the same half the agent sends a batch early no more
/// than once a second.
const SLOT_HINT_GAP_NS: u64 = 200_000_000;

/// Counts something that was not counted elsewhere.
#[inline(always)]
pub fn lost(cause: Loss) {
    if let Some(count) = LOSSES.get_ptr_mut(cause as u32) {
        // SAFETY: a per-CPU value.
        unsafe { *count += 1 };
    }
}

/// Nanoseconds since boot.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Sends a hint.
#[inline(always)]
pub fn send(kind: HintKind, tgid: u32, subject: u64) {
    let hint = Hint { kind: kind as u32, tgid, subject };
    if HINTS.output::<Hint>(&hint, 0).is_err() {
        lost(Loss::HintsFull);
    }
}

/// Hints at a slot that came into use.
#[inline(always)]
pub fn slot_used(number: u32) {
    send(HintKind::Slot, 0, u64::from(number));
}

/// Hints at a slot, unless the same was hinted just now.
#[inline(always)]
pub fn slot(number: u32, slot: *mut Slot, kind: SlotHint, now: u64) {
    // SAFETY: a map value; a race between CPUs costs one hint more.
    unsafe {
        let hinted = (&raw mut (*slot).hinted_ns).cast::<u64>().add(kind as usize);
        if now.wrapping_sub(*hinted) < SLOT_HINT_GAP_NS {
            return;
        }
        *hinted = now;
    }
    send(HintKind::Slot, 0, u64::from(number));
}
