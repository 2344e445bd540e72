//! Asking the kernel over netlink: messages, attributes, dumps that are bounded, and single things.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt,
            socket, sockopt::ReceiveTimeout,
        },
        time::TimeVal,
    },
};

/// How long a list may take when there is no reason for less.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Messages of one list that are read.
const MOST: usize = 131_072;

/// More than the kernel puts together.
const BUFFER: usize = 64 * 1024;

/// Bytes of a message's header.
const HEADER: usize = 16;

/// Whether a list was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// It was.
    All,
    /// There was more.
    Part,
}

/// Shows the contents of each message of a list: what follows the header of those of a kind that is asked for with this
/// request, which is what follows the header of that. What is not there by the deadline is not waited for.
///
/// # Errors
/// When the kernel has no such list or does not show it.
pub(crate) fn dump(
    protocol: SockProtocol,
    kind: u16,
    request: &[u8],
    deadline: Instant,
    mut visit: impl FnMut(&[u8]),
) -> io::Result<Read> {
    let socket = open(protocol)?;
    send(socket.as_raw_fd(), &message(kind, libc::NLM_F_DUMP, request), MsgFlags::empty())?;
    let mut seen = 0;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => length,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for message in messages(buffer.get(..length).unwrap_or_default()) {
            match message {
                Message::Of(contents) => {
                    seen += 1;
                    visit(contents);
                }
                Message::Done => return Ok(Read::All),
                Message::Failed(error) => return Err(io::Error::from_raw_os_error(error)),
            }
        }
        if length == 0 || seen >= MOST || Instant::now() >= deadline {
            return Ok(Read::Part);
        }
    }
}

fn open(protocol: SockProtocol) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(1, 0))?;
    Ok(socket)
}

fn message(kind: u16, flags: i32, request: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + request.len());
    message.extend_from_slice(&((HEADER + request.len()) as u32).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    // Number and sender: there is only one request at a time on the socket.
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(request);
    message
}

/// Asks for single things, one after the other.
#[derive(Debug)]
pub(crate) struct Lookup {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Lookup {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// When the kernel has no such protocol.
    pub(crate) fn new(protocol: SockProtocol) -> io::Result<Self> {
        Ok(Self { socket: open(protocol)?, buffer: vec![0; BUFFER] })
    }

    /// The contents of the one message that answers a request; `None` when there is no such thing.
    ///
    /// # Errors
    /// When the kernel does not answer or refuses to.
    pub(crate) fn get(&mut self, kind: u16, request: &[u8]) -> io::Result<Option<&[u8]>> {
        send(self.socket.as_raw_fd(), &message(kind, 0, request), MsgFlags::empty())?;
        let length = loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        match messages(self.buffer.get(..length).unwrap_or_default()).next() {
            Some(Message::Of(contents)) => Ok(Some(contents)),
            Some(Message::Failed(libc::ENOENT)) => Ok(None),
            Some(Message::Failed(error)) => Err(io::Error::from_raw_os_error(error)),
            Some(Message::Done) | None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// One message of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// What it says.
    Of(&'a [u8]),
    /// It was the last.
    Done,
    /// There is no list, for this reason.
    Failed(i32),
}

/// The messages in what was received; what makes no sense ends them.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let contents = bytes.get(HEADER..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(match i32::from(kind) {
            libc::NLMSG_DONE => Message::Done,
            libc::NLMSG_ERROR => {
                let error = contents.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
                Message::Failed(error.unwrap_or_default().saturating_neg())
            }
            _ => Message::Of(contents),
        })
    })
}

/// The attributes in some bytes, by their kind; what makes no sense ends them.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        // The upper bits say how the value is written.
        Some((kind & 0x3fff, value))
    })
}

/// Adds an attribute to a request.
pub(crate) fn put(request: &mut Vec<u8>, kind: u16, value: &[u8]) {
    request.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(value);
    request.resize(aligned(request.len()), 0);
}

const fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}
