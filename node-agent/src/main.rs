//! `weft-agent`: see the library.

use std::process::ExitCode;

use node_agent::{cli, kernel::Kernel};

fn main() -> ExitCode {
    cli::run(std::env::args_os(), |cgroup, max_halves, pinning| {
        Kernel::load(cgroup.dir(), max_halves, pinning)
    })
}
