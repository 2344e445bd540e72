//! The kernel side of weft-agent: who owns a TCP socket, and what its connections did.
//!
//! One file per hook family; `maps.rs` has every map, `settings.rs` what the agent tells
//! the programs before they load. Prototype notes in each file name the kernel versions.
#![no_std]
#![no_main]
// For `atomic.rs`; the BPF target needs an unstable compiler anyway.
#![feature(core_intrinsics)]
#![allow(internal_features)]

mod adopt;
mod atomic;
mod connect;
mod create;
mod hint;
mod histogram;
mod life;
mod maps;
mod owner;
mod read;
mod runqueue;
mod settings;
mod slot;
mod socket;
mod states;
mod survey;
mod tcp;
mod walk;
mod zero;

// Helpers for tracing may be called by GPL-compatible programs only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
