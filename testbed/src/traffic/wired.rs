//! A connection together with its line in the ledger: every byte that moves is counted.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Seek, Write},
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::Arc,
};

use nix::{
    fcntl::{SpliceFFlags, splice},
    sys::sendfile::sendfile,
    unistd::pipe,
};

use super::{
    ledger::{Entry, Ledger},
    plan::Means,
    report::{End, KernelCount, Side},
    ring::Ring,
    socket::{count_at_rest, kernel_count, plain, reset_on_close},
};

/// What payload is made of.
static ZEROES: [u8; 65_536] = [0; 65_536];
/// Bytes read at a time.
const READ: usize = 16_384;

/// One end of a connection. Cloned handles share socket and line.
#[derive(Debug)]
pub(super) struct Wired {
    stream: TcpStream,
    entry: Arc<Entry>,
    // More is to come than will be read.
    unread: bool,
}

impl Wired {
    pub(super) fn new(stream: TcpStream, side: Side, ledger: &Ledger) -> io::Result<Self> {
        let (local, peer) = (plain(stream.local_addr()?), plain(stream.peer_addr()?));
        Ok(Self { stream, entry: ledger.open(side, local, peer), unread: false })
    }

    pub(super) fn share(&self) -> io::Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
            entry: Arc::clone(&self.entry),
            unread: self.unread,
        })
    }

    /// Notes that answers were asked for which may never be read.
    pub(super) fn leave_unread(&mut self) {
        self.unread = true;
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.entry, &other.entry)
    }

    /// What the client calls the connection.
    pub(super) fn token(&self) -> u64 {
        self.entry.token()
    }

    /// The client has said what it calls the connection.
    pub(super) fn called(&self, token: u64) {
        self.entry.called(token);
    }

    /// Sends `head` and then filler up to `length` bytes altogether.
    pub(super) fn send(&mut self, head: &[u8], length: u64, means: Means) -> io::Result<()> {
        let body = length.saturating_sub(head.len() as u64);
        let (fast, slow) = match means {
            Means::Write => (body, 0),
            Means::Sendfile | Means::Splice | Means::Ring => (0, body),
        };
        // Header and body in one segment where they fit, as a real client would.
        let first = fast.min(1_024);
        self.write(&[head, &ZEROES[..first as usize]].concat())?;
        self.send_filler(fast - first)?;
        match means {
            Means::Write => Ok(()),
            Means::Sendfile => self.send_by_file(slow),
            Means::Splice => self.send_by_pipe(slow),
            Means::Ring => self.send_by_ring(slow),
        }
    }

    /// Sends filler.
    pub(super) fn send_filler(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let part = bytes.min(ZEROES.len() as u64);
            self.write(&ZEROES[..part as usize])?;
            bytes -= part;
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.entry.sent(count);
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send_by_file(&mut self, mut bytes: u64) -> io::Result<()> {
        let mut file = tempfile::tempfile()?;
        file.set_len(bytes)?;
        file.rewind()?;
        while bytes > 0 {
            let part = usize::try_from(bytes.min(1 << 20)).unwrap_or(usize::MAX);
            let count = sendfile(self.stream.as_fd(), file.as_fd(), None, part)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.entry.sent(count);
            bytes -= count as u64;
        }
        Ok(())
    }

    fn send_by_pipe(&mut self, mut bytes: u64) -> io::Result<()> {
        let (output, input) = pipe()?;
        let mut input = File::from(input);
        while bytes > 0 {
            // A pipe holds 64 KiB.
            let part = bytes.min(32_768) as usize;
            input.write_all(&ZEROES[..part])?;
            let mut left = part;
            while left > 0 {
                let flags = SpliceFFlags::empty();
                let count = splice(output.as_fd(), None, self.stream.as_fd(), None, left, flags)?;
                self.entry.sent(count);
                left -= count;
            }
            bytes -= part as u64;
        }
        Ok(())
    }

    fn send_by_ring(&mut self, mut bytes: u64) -> io::Result<()> {
        let mut ring = Ring::new()?;
        while bytes > 0 {
            let part = bytes.min(ZEROES.len() as u64);
            let count = ring.send(&self.stream, &ZEROES[..part as usize])?;
            self.entry.sent(count);
            bytes -= count as u64;
        }
        Ok(())
    }

    /// Reads exactly `bytes`. Only a ring differs from the other means.
    pub(super) fn receive(&mut self, mut bytes: u64, means: Means) -> io::Result<()> {
        let mut ring = if means == Means::Ring { Some(Ring::new()?) } else { None };
        let mut buffer = vec![0; READ.min(bytes as usize)];
        while bytes > 0 {
            let part = buffer.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            let part = &mut buffer[..part];
            let count = match &mut ring {
                Some(ring) => {
                    let count = ring.receive(&self.stream, part)?;
                    self.entry.received(count);
                    count
                }
                None => self.read(part)?,
            };
            match count {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => bytes -= count as u64,
            }
        }
        Ok(())
    }

    /// Fills `buffer`; false when the peer closed before its first byte.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(true)
    }

    /// Reads until the peer closes.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; READ];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(count) => {
                    self.entry.received(count);
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes first: sends the FIN and waits for the other one, so that nothing is unread.
    pub(super) fn close(mut self) -> io::Result<()> {
        match self.stream.shutdown(Shutdown::Write).and_then(|()| self.drain()) {
            Ok(()) => self.closed(),
            Err(error) => {
                self.broken(&error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Notes that both directions have ended.
    pub(super) fn closed(self) {
        self.entry.end(End::Closed, None);
    }

    /// Resets, once nothing moves any more.
    pub(super) fn reset(self) -> io::Result<()> {
        let complete = (!self.unread).then(|| self.entry.moved());
        let count = count_at_rest(&self.stream, self.entry.side, complete)?;
        reset_on_close(&self.stream)?;
        self.entry.end(End::ResetSent, Some(count));
        Ok(())
    }

    /// Says that nothing more will come and closes with data unread, once nothing moves any
    /// more. Someone must be sending more than will ever be read.
    pub(super) fn leave(self) -> io::Result<()> {
        // Before the FIN, which is acknowledged like a byte.
        let acked = count_at_rest(&self.stream, self.entry.side, None)?.acked;
        self.stream.shutdown(Shutdown::Write)?;
        let received = count_at_rest(&self.stream, self.entry.side, None)?.received;
        self.entry.end(End::ResetSent, Some(KernelCount { acked, received }));
        Ok(())
    }

    /// Notes how an error ended the connection.
    pub(super) fn broken(self, error: &io::Error) {
        let end = match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => End::ResetReceived,
            _ => End::Broken,
        };
        // The counters of a dead socket stay readable until its descriptor is closed.
        let mut count = kernel_count(&self.stream, self.entry.side).ok();
        if let Some(count) = count.as_mut().filter(|_| error.kind() == ErrorKind::BrokenPipe) {
            // A reset after a FIN is told so, and the kernel counts the FIN as a byte received.
            count.received = count.received.saturating_sub(1);
        }
        self.entry.end(end, count);
    }
}
