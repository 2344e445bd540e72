//! The only place that writes to the terminal.

use std::fmt::Arguments;

use indicatif::{ProgressBar, ProgressStyle};

/// Prints a line.
#[expect(clippy::print_stdout, reason = "what a command is for")]
pub fn say(line: Arguments<'_>) {
    println!("{line}");
}

/// Prints a line to standard error.
#[expect(clippy::print_stderr, reason = "what a command is for")]
pub fn complain(line: Arguments<'_>) {
    eprintln!("{line}");
}

/// How far a run has come, where somebody watches.
pub struct Progress(ProgressBar);

impl Progress {
    /// Hidden unless standard error is a terminal.
    pub fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style =
            ProgressStyle::with_template("{elapsed_precise} {msg:30} {wide_bar} {pos}/{len}");
        // A template that cannot be read would be seen by the first who watches.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// Something that takes an unknown time.
    pub fn step(&self, what: &'static str) {
        self.0.set_message(what);
        self.0.tick();
    }

    /// Something that is done step by step.
    pub fn count(&self, what: &'static str, steps: u64) {
        self.0.set_length(steps);
        self.0.set_position(0);
        self.0.set_message(what);
    }

    pub fn at(&self, step: u64) {
        self.0.set_position(step);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
