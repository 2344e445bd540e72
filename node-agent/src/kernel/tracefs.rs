//! A tracepoint's number stands in tracefs, which not every system mounts. The agent then mounts it where nobody
//! else sees it.

use std::{path::Path, thread};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

const TRACEFS: &str = "/sys/kernel/tracing";

/// Runs `work` with tracefs at its usual place.
///
/// # Errors
/// When it is not mounted and cannot be.
pub fn with<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    if Path::new(TRACEFS).join("events").exists() {
        return Ok(work());
    }
    // A mount namespace belongs to a thread: this one's ends with it, and the mount too.
    thread::scope(|scope| {
        scope
            .spawn(|| {
                mount_privately().map_err(|error| format!("cannot mount tracefs: {error}"))?;
                Ok(work())
            })
            .join()
            .unwrap_or_else(|_| Err("the thread that mounts tracefs panicked".to_owned()))
    })
}

fn mount_privately() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tracefs"), TRACEFS, Some("tracefs"), MsFlags::empty(), none)
}
