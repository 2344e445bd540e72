//! The only places that write to the terminal.

use std::fmt::Arguments;

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

/// Prints a line that cannot be overlooked.
pub fn loud(line: &str) {
    let rule = "#".repeat(line.chars().count() + 4);
    complain(format_args!("{rule}\n# {line} #\n{rule}"));
}
