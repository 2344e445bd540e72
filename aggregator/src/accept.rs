//! Listening, and what to do when no connection can be accepted.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prometheus::IntCounter;
use tokio::{
    net::{TcpListener, TcpSocket},
    time::{Instant, sleep},
};

/// Connections that wait to be accepted. When there is no more room the kernel drops what comes, and a fleet that comes
/// back at once takes seconds longer: it is as much as systems allow.
const BACKLOG: u32 = 4096;

/// How long to wait when the system refuses a connection, for lack of file descriptors say.
const PAUSE: Duration = Duration::from_millis(100);

/// It is over when nothing was refused for this long; before, it is not said again either.
const OVER: Duration = Duration::from_secs(10);

/// Connections of agents, and of readers, that there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) agents: usize,
    pub(crate) readers: usize,
}

/// As much as anybody needs.
const ROOM: Room = Room { agents: 16_384, readers: 512 };

/// File descriptors for everything else: listeners, the journal, snapshots, the history, certificates.
const OTHERS: usize = 128;

impl Room {
    /// As many as there are file descriptors for, so that what is stored never lacks one. This process may have as many as
    /// the system allows.
    pub(crate) fn find() -> Self {
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(files, most)| {
            let raised = setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok();
            if raised { most } else { files }
        });
        let room = Self::within(usize::try_from(files).unwrap_or(usize::MAX));
        if room != ROOM {
            let Self { agents, readers } = room;
            tracing::warn!(files, agents, readers, "few file descriptors: others have to wait");
        }
        room
    }

    fn within(files: usize) -> Self {
        let left = files.saturating_sub(OTHERS);
        let readers = ROOM.readers.min(left / 4).max(1);
        Self { agents: ROOM.agents.min(left.saturating_sub(readers)).max(1), readers }
    }
}

/// Listens. Where there is no IPv6, all of IPv4 will do for all of IPv6.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match listen_at(address) {
        Err(cause) if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6(&cause) => {
            listen_at(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
        }
        bound => bound,
    }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn no_ipv6(error: &io::Error) -> bool {
    let missing = [nix::libc::EAFNOSUPPORT, nix::libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| missing.contains(&code))
}

/// Connections that could not be accepted: counted, and said once until that is over. Those who wait are accepted
/// later, and those who are there notice nothing.
pub(crate) struct Refusals {
    whose: &'static str,
    counter: IntCounter,
    last: Option<Instant>,
}

impl Refusals {
    pub(crate) fn new(whose: &'static str, counter: IntCounter) -> Self {
        Self { whose, counter, last: None }
    }

    /// Notes one, and waits a little.
    pub(crate) async fn failed(&mut self, error: &io::Error) {
        self.note(&format!("the system refuses them: {error}"));
        sleep(PAUSE).await;
    }

    /// All places are taken.
    pub(crate) fn full(&mut self, places: usize) {
        self.note(&format!("all {places} places are taken"));
    }

    fn note(&mut self, reason: &str) {
        self.counter.inc();
        if self.last.replace(Instant::now()).is_none() {
            tracing::warn!("connections of {} have to wait: {reason}", self.whose);
        }
    }

    /// One was accepted.
    pub(crate) fn accepted(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() >= OVER) {
            self.last = None;
            tracing::info!("connections of {} are accepted again", self.whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_file_descriptors_for_everything() {
        assert_eq!(Room::within(1 << 20), ROOM);
        for files in [256, 1024, 4096, 16_384] {
            let Room { agents, readers } = Room::within(files);
            assert!(agents + readers + OTHERS <= files && agents > readers, "{files}");
        }
        assert_eq!(Room::within(0), Room { agents: 1, readers: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_counted_always_and_said_once() {
        let counter = IntCounter::new("refused", "refused").unwrap();
        let mut refusals = Refusals::new("nobody", counter.clone());
        for _ in 0..3 {
            refusals.failed(&io::ErrorKind::Other.into()).await;
            refusals.accepted();
            assert!(refusals.last.is_some(), "it is not over yet");
        }
        tokio::time::advance(OVER).await;
        refusals.accepted();
        assert_eq!((counter.get(), refusals.last), (3, None));
    }
}
