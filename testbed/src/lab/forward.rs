//! A door into a namespace: connections to a listener outside are passed to an address
//! inside. The machine's own network is left as it is.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::Namespace;
use crate::{Result, error::Context};

/// Passes connections on until it is dropped.
#[derive(Debug)]
pub struct Forward {
    listener: Arc<TcpListener>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forward {
    /// Passes connections to `listener` on to `target` as seen from inside `namespace`.
    ///
    /// # Errors
    /// When the namespace's descriptor cannot be copied.
    pub fn start(listener: TcpListener, namespace: &Namespace, target: SocketAddr) -> Result<Self> {
        let namespace = namespace.share().context(|| "share a namespace".into())?;
        let (listener, stopped) = (Arc::new(listener), Arc::<AtomicBool>::default());
        let (accepting, stop) = (Arc::clone(&listener), Arc::clone(&stopped));
        let thread = thread::spawn(move || {
            while let Ok((outside, _)) = accepting.accept() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // A failure ends this one connection, as a refused one would.
                if let Ok(Ok(inside)) = namespace.run(|| TcpStream::connect(target)) {
                    let _ = join(&outside, &inside);
                }
            }
        });
        Ok(Self { listener, stopped, thread: Some(thread) })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Ends the accept that is under way.
        let _ = socket2::SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Copies both ways on two threads of their own.
fn join(outside: &TcpStream, inside: &TcpStream) -> io::Result<()> {
    for (from, to) in [(outside, inside), (inside, outside)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
