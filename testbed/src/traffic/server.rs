//! The accepting side: a thread per listener and one per connection.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    ledger::{Ledger, lock},
    plan::{Listen, Means},
    report::Side,
    socket,
    wire::{HEADER, Request, Then},
    wired::Wired,
};

/// Connection threads need little.
const STACK: usize = 128 << 10;

/// A listener and what it accepted.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    stopped: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<Wired>>>,
}

impl Server {
    pub(super) fn start(how: &Listen, ledger: &Arc<Ledger>) -> io::Result<Self> {
        let listener = Arc::new(socket::listen(how)?);
        let server = Self {
            address: listener.local_addr()?,
            listener,
            stopped: Arc::default(),
            open: Arc::default(),
        };
        let accepting = Arc::clone(&server.listener);
        let stopped = Arc::clone(&server.stopped);
        let open = Arc::clone(&server.open);
        let ledger = Arc::clone(ledger);
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let _ = serve_on_thread(stream, &ledger, &open);
            }
        });
        Ok(server)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends to every client that is connected now.
    pub(super) fn push(&self, bytes: u64) -> io::Result<()> {
        // Sharing, so that a blocked client does not hold up those who come and go.
        let clients = lock(&self.open).iter().map(Wired::share).collect::<io::Result<Vec<_>>>()?;
        clients.into_iter().try_for_each(|mut client| client.send_filler(bytes))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Ends the accept that is under way, and with it the last use of the socket.
        let _ = socket2::SockRef::from(&*self.listener).shutdown(std::net::Shutdown::Both);
    }
}

fn serve_on_thread(
    stream: TcpStream,
    ledger: &Ledger,
    open: &Arc<Mutex<Vec<Wired>>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let client = Wired::new(stream, Side::Server, ledger)?;
    lock(open).push(client.share()?);
    let open = Arc::clone(open);
    thread::Builder::new().stack_size(STACK).spawn(move || {
        let mut client = client;
        let result = serve(&mut client);
        // Nobody else may hold the socket when its end is a close or a reset.
        lock(&open).retain(|other| !other.same_as(&client));
        match result {
            Ok(Then::Reset) => drop(client.reset()),
            Ok(Then::Close) => drop(client.close()),
            Ok(Then::Wait) => client.closed(),
            Err(error) => client.broken(&error),
        }
    })?;
    Ok(())
}

/// Serves until the client closes or asks for another end.
fn serve(client: &mut Wired) -> io::Result<Then> {
    let mut header = [0; HEADER];
    while client.fill(&mut header)? {
        let request = Request::decode(&header).ok_or(io::ErrorKind::InvalidData)?;
        client.called(request.token);
        client.receive(request.body, Means::Write)?;
        client.send(&[], request.response, Means::Write)?;
        if request.then != Then::Wait {
            return Ok(request.then);
        }
    }
    Ok(Then::Wait)
}
