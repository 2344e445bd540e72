//! Slots: where a half's counters live.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::BPF_NOEXIST;
use common::{
    Counter,
    address::client_scope,
    kernel::{FanKey, FanState, HalfKey, Loss, NO_SLOT, SHARED_SLOTS, Slot, role, sharing},
};

use crate::{
    atomic, hint,
    maps::{FANS, FREE_SLOTS, HALVES, LAST_SLOTS, LAST_SLOTS_LEN, SLOTS, SPARE_SLOTS},
    zero,
};

/// A slot by number.
#[inline(always)]
pub fn by_number(number: u32) -> Option<*mut Slot> {
    if number == NO_SLOT {
        return None;
    }
    SLOTS.get_ptr_mut(number)
}

/// Adds to a counter.
#[inline(always)]
pub fn add(slot: *mut Slot, counter: Counter, increment: u64) {
    if increment != 0 {
        // SAFETY: a map value, aligned; the index is below `COUNTERS`.
        unsafe {
            let counters = (&raw mut (*slot).counters).cast::<u64>();
            atomic::add_u64(counters.add(counter.index()), increment);
        }
    }
}

/// Whether connections of the slot are open.
#[inline(always)]
pub fn has_open(slot: *mut Slot) -> bool {
    // SAFETY: a map value.
    let counters = unsafe { &(*slot).counters };
    counters[Counter::Connections.index()].wrapping_add(counters[Counter::Adopted.index()])
        != counters[Counter::Closed.index()]
}

/// Number of the half's slot, which is taken if the half has none; one that it shares when all are in use.
#[inline(always)]
pub fn of(key: &HalfKey) -> u32 {
    let Some(last) = LAST_SLOTS.get_ptr_mut(guess_index(key)) else {
        return NO_SLOT;
    };
    // SAFETY: a map value; of racing writers each writes what may be right.
    let guess = unsafe { last.read_volatile() };
    if let Some(slot) = SLOTS.get_ptr_mut(guess)
        && leads_here(slot, key)
    {
        return guess;
    }
    // SAFETY: the number is copied at once.
    if let Some(number) = unsafe { HALVES.get(key) }.copied() {
        // SAFETY: as above.
        unsafe { last.write_volatile(number) };
        return number;
    }
    match take(key) {
        // Not from within: older kernels allow 512 bytes for the stacks of all calls together.
        NONE_FREE => fold(key),
        number => number,
    }
}

/// Where to remember a half's slot: half of what tells the halves of a busy host apart.
#[inline(always)]
fn guess_index(key: &HalfKey) -> u32 {
    // SAFETY: a key, of which this is a word.
    let low = unsafe { (&raw const key.peer).cast::<u64>().add(1).read_volatile() };
    let ports = u64::from(key.server_port) << 16 | u64::from(key.client_port);
    let mixed = (key.owner ^ low ^ ports).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The high bits: all others come to bear on them.
    (mixed >> (64 - LAST_SLOTS_LEN.ilog2())) as u32
}

/// Whether the key leads to the slot for sure. Once it does not any more, the agent waits for as long as a program may run
/// before it gives the slot to others.
#[inline(always)]
fn leads_here(slot: *mut Slot, key: &HalfKey) -> bool {
    // SAFETY: a map value and a key, each of whole words; read word by word, since a comparison of more is a call.
    unsafe {
        if (&raw const (*slot).leads_here).read_volatile() != 1 {
            return false;
        }
        let (one, other) =
            ((&raw const (*slot).key).cast::<u64>(), (&raw const *key).cast::<u64>());
        let mut different = 0;
        let mut word = 0;
        while word < size_of::<HalfKey>() / 8 {
            different |= one.add(word).read_volatile() ^ other.add(word).read_volatile();
            word += 1;
        }
        different == 0
    }
}

/// No slot is free; not the number of one.
const NONE_FREE: u32 = NO_SLOT - 1;

#[inline(never)]
fn take(key: &HalfKey) -> u32 {
    let Ok(Some(number)) = FREE_SLOTS.pop() else {
        return NONE_FREE;
    };
    let Some(slot) = SLOTS.get_ptr_mut(number) else {
        return NO_SLOT;
    };
    // SAFETY: a free slot belongs to whoever popped its number.
    unsafe { (*slot).key = *key };
    if key.role == role::CLIENT {
        // Before anybody can find the slot: another CPU may count a connection in it at once, whose tuple has to be
        // kept if those of this owner are.
        fan_out(key, number);
    }
    if HALVES.insert(key, number, u64::from(BPF_NOEXIST)).is_err() {
        // Another CPU was first: use its slot, give this one back.
        // SAFETY: still ours.
        unsafe {
            (*slot).key.role = 0;
            (*slot).shared = 0;
        }
        if FREE_SLOTS.push(number, 0).is_err() {
            hint::lost(Loss::HalvesFull);
        }
        // SAFETY: the number is copied at once.
        let Some(number) = unsafe { HALVES.get(key) }.copied() else {
            hint::lost(Loss::HalvesFull);
            return NO_SLOT;
        };
        if key.role == role::CLIENT {
            // It is that slot that a newcomer has to mark.
            fan_out(key, number);
        }
        return number;
    }
    // SAFETY: a map value. Only once the key leads here: of two that took a slot for it at once, one gave it back.
    unsafe { (&raw mut (*slot).leads_here).write_volatile(1) };
    hint::slot_used(number);
    number
}

/// Number of the slot that counts for all halves of an owner and role that got none; when there are no spare ones
/// either, for those of all owners.
#[inline(never)]
fn fold(key: &HalfKey) -> u32 {
    hint::lost(Loss::HalvesFolded);
    let mut folded = HalfKey::folded(key.owner, key.netns_cookie, key.role);
    // SAFETY: the number is copied at once.
    if let Some(number) = unsafe { HALVES.get(&folded) } {
        return *number;
    }
    let number = match SPARE_SLOTS.pop() {
        Ok(Some(number)) => number,
        _ => {
            folded.owner = 0;
            folded.netns_cookie = 0;
            u32::from(folded.role != role::CLIENT)
        }
    };
    let Some(slot) = SLOTS.get_ptr_mut(number) else {
        return NO_SLOT;
    };
    // SAFETY: the slot is ours, or everybody writes the same.
    unsafe { (*slot).key = folded };
    if HALVES.insert(&folded, number, u64::from(BPF_NOEXIST)).is_ok() {
        hint::slot_used(number);
        return number;
    }
    // Another CPU was first, or the slot of all owners is known already.
    if number >= SHARED_SLOTS {
        // SAFETY: still ours.
        unsafe { (*slot).key.role = 0 };
        // It was just taken out, so there is room.
        let _ = SPARE_SLOTS.push(number, 0);
    }
    // SAFETY: the number is copied at once.
    match unsafe { HALVES.get(&folded) } {
        Some(number) => *number,
        None => {
            hint::lost(Loss::HalvesFull);
            NO_SLOT
        }
    }
}

/// Notes that a client reaches a server, and marks the slots of all who share it.
#[inline(never)]
fn fan_out(key: &HalfKey, number: u32) {
    let Some(slot) = by_number(number) else {
        return;
    };
    let mut fan = MaybeUninit::<FanKey>::uninit();
    let fan = zero::out(&mut fan);
    fan.scope = client_scope(&key.local, key.netns_cookie);
    fan.peer = key.peer;
    fan.server_port = key.server_port;
    let mut found = FANS.get_ptr_mut(&*fan);
    if found.is_none() {
        let first = FanState { owner: key.owner, slot: number, sharing: sharing::SINGLE };
        // Of two that come at once, one is the first. A full map evicts.
        if FANS.insert(&*fan, first, u64::from(BPF_NOEXIST)).is_ok() {
            return;
        }
        found = FANS.get_ptr_mut(&*fan);
    }
    let Some(state) = found else {
        return;
    };
    // SAFETY: map values; flags only ever go from 0 to 1.
    unsafe {
        if (*state).owner == key.owner {
            // A newer slot of the first owner is the one that a newcomer would have to mark.
            (*state).slot = number;
        } else {
            (*state).sharing = sharing::SHARED;
            if let Some(first) = by_number((*state).slot) {
                (*first).shared = 1;
            }
        }
        if (*state).sharing == sharing::SHARED {
            (*slot).shared = 1;
        }
    }
}
