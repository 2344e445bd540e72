//! What the benchmarks of all crates have in common; their files include it.
//!
//! A benchmark is a program with cases. Without arguments it names them, with the name of one it runs that one
//! and says how many units were measured and how long they took. Only what is inside of [`measured`] counts:
//! `cargo xtask bench` has callgrind count the instructions of that function alone.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

/// One case: sets up what it needs, then has some of it measured.
pub type Case = (&'static str, fn(&mut Meter));

/// Adds up what is measured of a case.
#[derive(Default)]
pub struct Meter {
    units: u64,
    time: Duration,
}

impl Meter {
    /// Measures `work`, which does `units` of what the case is about.
    pub fn measure(&mut self, units: u64, mut work: impl FnMut()) {
        let begin = Instant::now();
        measured(&mut work);
        self.time += begin.elapsed();
        self.units += units;
    }
}

/// Everything that is called from here counts.
#[inline(never)]
pub fn measured(work: &mut dyn FnMut()) {
    work();
    // Nothing may move this call to its end: callgrind stops counting when it returns.
    std::hint::black_box(());
}

/// Runs the case that the command line names.
pub fn run(cases: &[Case]) {
    let name = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let Some((_, case)) = cases.iter().find(|(known, _)| Some(*known) == name.as_deref()) else {
        cases.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let mut meter = Meter::default();
    case(&mut meter);
    println!("units {} nanoseconds {}", meter.units, meter.time.as_nanos());
}

/// Numbers that look random and are the same in every run.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}
