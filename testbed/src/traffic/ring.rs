//! Sending and receiving by io_uring, one operation at a time.

use std::{
    io::{self, ErrorKind},
    os::fd::{AsFd, AsRawFd},
};

use io_uring::{IoUring, opcode, squeue::Entry, types::Fd};

/// A ring of one thread.
pub(super) struct Ring(IoUring);

impl Ring {
    /// Makes a ring; an error where the kernel has none or forbids it.
    pub(super) fn new() -> io::Result<Self> {
        IoUring::new(1).map(Self)
    }

    /// Sends some of `bytes` and returns how many.
    pub(super) fn send(&mut self, socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
        let fd = Fd(socket.as_fd().as_raw_fd());
        self.run(&opcode::Send::new(fd, bytes.as_ptr(), length(bytes)).build())
    }

    /// Receives some bytes and returns how many; 0 when the peer has closed.
    pub(super) fn receive(&mut self, socket: impl AsFd, into: &mut [u8]) -> io::Result<usize> {
        let fd = Fd(socket.as_fd().as_raw_fd());
        let length = length(into);
        self.run(&opcode::Recv::new(fd, into.as_mut_ptr(), length).build())
    }

    /// Hands an operation over and waits for its end. Only the two functions above may call it:
    /// they borrow what the operation points to until it returns.
    #[allow(unsafe_code, reason = "the kernel uses memory of the caller")]
    fn run(&mut self, operation: &Entry) -> io::Result<usize> {
        // SAFETY: socket and bytes are borrowed by the caller until this function returns, and it
        // returns when the operation has completed, or when the kernel never took it.
        unsafe { self.0.submission().push(operation) }.map_err(io::Error::other)?;
        loop {
            if let Some(completed) = self.0.completion().next() {
                let result = completed.result();
                return usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
            }
            match self.0.submit_and_wait(1) {
                Err(error) if !passes(&error) => return Err(error),
                _ => {}
            }
        }
    }
}

/// Whether the call is to be made again: the operation may be under way.
fn passes(error: &io::Error) -> bool {
    use ErrorKind::{Interrupted, ResourceBusy, WouldBlock};
    matches!(error.kind(), Interrupted | ResourceBusy | WouldBlock)
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
