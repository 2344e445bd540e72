//! The connecting side.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    ledger::Ledger,
    plan::{Burst, Dial, Ending, Exchange, Means, Open},
    report::{Failure, Reason, Side},
    socket::{connect, plain},
    wire::{HEADER, Request, Then},
    wired::Wired,
};

/// Groups of connections that are kept open.
#[derive(Debug)]
pub(super) struct Client {
    ledger: Arc<Ledger>,
    groups: HashMap<String, Vec<Wired>>,
}

impl Client {
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, groups: HashMap::new() }
    }

    /// Opens connections; returns how many were established and how many failed.
    pub(super) fn open(&mut self, open: &Open) -> (u32, u32) {
        let group = self.groups.entry(open.group.clone()).or_default();
        let mut established = 0;
        for _ in 0..open.connections {
            if let Some(connection) = dial(open.target, &open.dial, &self.ledger) {
                group.push(connection);
                established += 1;
            }
        }
        (established, open.connections - established)
    }

    /// Sends requests and reads the answers on every connection of a group.
    pub(super) fn exchange(
        &mut self,
        group: &str,
        exchange: &Exchange,
        ending: Ending,
    ) -> io::Result<()> {
        for connection in self.take(group)? {
            if let Some(connection) = converse(connection, exchange, ending)? {
                self.give_back(group, connection);
            }
        }
        Ok(())
    }

    /// Sends one request on every connection of a group.
    pub(super) fn ask(&mut self, group: &str, exchange: &Exchange) -> io::Result<()> {
        for mut connection in self.take(group)? {
            connection.leave_unread();
            ask(&mut connection, exchange, Then::Wait)?;
            self.give_back(group, connection);
        }
        Ok(())
    }

    /// Reads on every connection of a group.
    pub(super) fn receive(&mut self, group: &str, bytes: u64) -> io::Result<()> {
        for mut connection in self.take(group)? {
            if let Err(error) = connection.receive(bytes, Means::Write) {
                connection.broken(&error);
                return Err(error);
            }
            self.give_back(group, connection);
        }
        Ok(())
    }

    /// Ends every connection of a group.
    pub(super) fn end(&mut self, group: &str, ending: Ending) -> io::Result<()> {
        self.take(group)?.into_iter().try_for_each(|connection| match ending {
            Ending::ClientCloses => connection.close(),
            Ending::ClientResets => connection.reset(),
            Ending::ClientLeaves => connection.leave(),
            Ending::Keep | Ending::ServerCloses | Ending::ServerResets => {
                Err(io::Error::other("a client can only close or reset"))
            }
        })
    }

    fn take(&mut self, group: &str) -> io::Result<Vec<Wired>> {
        self.groups.remove(group).ok_or_else(|| io::Error::other(format!("no group {group}")))
    }

    fn give_back(&mut self, group: &str, connection: Wired) {
        self.groups.entry(group.into()).or_default().push(connection);
    }
}

/// Does a burst; returns how many connections were established and how many failed.
pub(super) fn burst(burst: &Burst, ledger: &Ledger) -> io::Result<(u32, u32)> {
    let left = AtomicU32::new(burst.connections);
    let established = AtomicU32::new(0);
    let work = || -> io::Result<()> {
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
        {
            if let Some(connection) = dial(burst.target, &burst.dial, ledger) {
                established.fetch_add(1, Ordering::Relaxed);
                converse(connection, &burst.exchange, burst.ending)?;
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..burst.threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    })?;
    let established = established.into_inner();
    Ok((established, burst.connections - established))
}

/// Does a burst of one again and again, whatever comes of it, for the life of the process.
pub(super) fn repeat(once: Burst, pause: Duration, ledger: Arc<Ledger>) {
    let once = Burst { connections: 1, threads: 1, ..once };
    thread::spawn(move || {
        loop {
            // A server that is gone for a while is part of life.
            let _ = burst(&once, &ledger);
            thread::sleep(pause);
        }
    });
}

fn dial(target: SocketAddr, how: &Dial, ledger: &Ledger) -> Option<Wired> {
    match connect(target, how).and_then(|stream| Wired::new(stream, Side::Client, ledger)) {
        Ok(connection) => Some(connection),
        Err(error) => {
            let errno = error.raw_os_error();
            let reason = errno.map_or(Reason::Aborted, Reason::of_errno);
            ledger.fail(Failure { target: plain(target), reason, errno });
            None
        }
    }
}

/// Exchanges and ends; the connection comes back if it is to be kept.
fn converse(mut wired: Wired, what: &Exchange, ending: Ending) -> io::Result<Option<Wired>> {
    for request in 1..=what.requests {
        let last = request == what.requests;
        let then = if last { Then::of(ending) } else { Then::Wait };
        let result = ask(&mut wired, what, then)
            .and_then(|()| wired.receive(what.response_bytes, what.means));
        if let Err(error) = result {
            wired.broken(&error);
            return Err(error);
        }
    }
    match ending {
        Ending::Keep => return Ok(Some(wired)),
        Ending::ClientCloses => wired.close()?,
        Ending::ClientResets => wired.reset()?,
        Ending::ClientLeaves => wired.leave()?,
        Ending::ServerCloses | Ending::ServerResets => match wired.drain() {
            Ok(()) => wired.closed(),
            Err(error) => wired.broken(&error),
        },
    }
    Ok(None)
}

fn ask(connection: &mut Wired, what: &Exchange, then: Then) -> io::Result<()> {
    let length = what.request_bytes.max(HEADER as u64);
    let body = length - HEADER as u64;
    let token = connection.token();
    let header = Request { token, body, response: what.response_bytes, then }.encode();
    connection.send(&header, length, what.means)
}
