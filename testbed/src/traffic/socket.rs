//! Sockets made the way a command says, and what the kernel tells of them.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    thread,
    time::{Duration, Instant},
};

use nix::libc;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{
    plan::{Dial, Listen},
    report::{KernelCount, Side},
};

/// Long enough that thousands may knock at once.
const BACKLOG: i32 = 4_096;
/// How often a connection is looked at while it comes to rest.
const LOOK: Duration = Duration::from_millis(10);
/// A connection whose counters did not move for so long is at rest. Longer than a sender
/// waits before it fills the last bit of a small window.
const REST: Duration = Duration::from_millis(800);
/// After so long without rest, the count is taken as it is.
const REST_LIMIT: Duration = Duration::from_secs(20);

/// Offsets in `struct tcp_info` (linux/tcp.h), which only ever grows at its end. The C
/// library's own definition stops before these fields.
mod tcp_info {
    pub(super) const BYTES_ACKED: usize = 120;
    pub(super) const BYTES_RECEIVED: usize = 128;
    pub(super) const NEEDED: usize = 136;
}

/// Opens a listening socket.
pub(super) fn listen(how: &Listen) -> io::Result<TcpListener> {
    let socket = socket(how.address, how.mptcp)?;
    if how.address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(how.reuse_port)?;
    socket.bind(&how.address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connects. An error without a number means that the application gave up.
pub(super) fn connect(target: SocketAddr, how: &Dial) -> io::Result<TcpStream> {
    let target = if how.mapped { mapped(target) } else { target };
    let socket = socket(target, how.mptcp)?;
    if let Some(from) = how.from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    match how.patience_ms {
        None => socket.connect(&target.into())?,
        Some(ms) => {
            socket.connect_timeout(&target.into(), Duration::from_millis(ms))?;
        }
    }
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, mptcp: bool) -> io::Result<Socket> {
    let protocol = if mptcp { Protocol::from(libc::IPPROTO_MPTCP) } else { Protocol::TCP };
    Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol))
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => {
            let ip: Ipv6Addr = v4.ip().to_ipv6_mapped();
            SocketAddr::new(ip.into(), v4.port())
        }
        SocketAddr::V6(_) => address,
    }
}

/// An IPv4 address inside an IPv6 one as what it is.
#[must_use]
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Makes the close of the socket a reset.
pub(super) fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Payload counted by the kernel on a connection that has sent no FIN.
pub(super) fn kernel_count(stream: &TcpStream, side: Side) -> io::Result<KernelCount> {
    let info = read_tcp_info(stream)?;
    // The SYN of the connecting side was acknowledged too.
    let syn = u64::from(side == Side::Client);
    Ok(KernelCount {
        acked: field(&info, tcp_info::BYTES_ACKED).saturating_sub(syn),
        received: field(&info, tcp_info::BYTES_RECEIVED),
    })
}

/// Waits until nothing moves on the connection and returns what was counted. Where it is
/// known what will be counted in the end, `complete` says so and saves the wait.
pub(super) fn count_at_rest(
    stream: &TcpStream,
    side: Side,
    complete: Option<KernelCount>,
) -> io::Result<KernelCount> {
    let start = Instant::now();
    let (mut last, mut since) = (kernel_count(stream, side)?, start);
    loop {
        if Some(last) == complete || since.elapsed() > REST || start.elapsed() > REST_LIMIT {
            return Ok(last);
        }
        thread::sleep(LOOK);
        let now = kernel_count(stream, side)?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

fn field(info: &[u8; 512], offset: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&info[offset..offset + 8]);
    u64::from_ne_bytes(bytes)
}

#[allow(unsafe_code, reason = "the C library's tcp_info lacks the byte counters")]
fn read_tcp_info(stream: &TcpStream) -> io::Result<[u8; 512]> {
    let mut info = [0_u8; 512];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info` and stores into
    // `length` how many it wrote; both live until the call returns.
    let code = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    if (length as usize) < tcp_info::NEEDED {
        return Err(io::Error::other("this kernel's TCP_INFO has no byte counters"));
    }
    Ok(info)
}

/// Inode of this process's network namespace; 0 when /proc does not tell.
pub(super) fn namespace_inode() -> u64 {
    std::fs::metadata("/proc/self/ns/net").map_or(0, |file| file.ino())
}
