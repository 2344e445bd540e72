//! A link with a known delay: two TUN devices and threads that hold every packet for a
//! fixed time. The kernels this runs on often lack netem.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{Result, error::Context, lab::Namespace};

/// Packets in flight per direction; more are dropped, as a full queue of a router would.
const QUEUE: usize = 8_192;
/// How often a reader looks whether it shall end, in milliseconds.
const STOP_CHECK_MS: u16 = 20;
/// No packet of a device with the default MTU is larger.
const PACKET: usize = 2_048;

/// The two directions of a delayed link. The devices go with it.
#[derive(Debug)]
pub(super) struct DelayedLink {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl DelayedLink {
    /// Makes the device `left_name` in `left` and `right_name` in `right`; what is sent into
    /// one comes out of the other `delay` later.
    pub(super) fn new(
        (left, left_name): (&Namespace, &str),
        (right, right_name): (&Namespace, &str),
        delay: Duration,
    ) -> Result<Self> {
        let left = left.run(|| open(left_name))?.context(|| format!("make tun {left_name}"))?;
        let right = right.run(|| open(right_name))?.context(|| format!("make tun {right_name}"))?;
        let mut link = Self { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        link.carry(&left, &right, delay).context(|| "start a delayed link".into())?;
        link.carry(&right, &left, delay).context(|| "start a delayed link".into())?;
        Ok(link)
    }

    fn carry(&mut self, from: &File, to: &File, delay: Duration) -> io::Result<()> {
        let (from, to, stop) = (from.try_clone()?, to.try_clone()?, Arc::clone(&self.stop));
        let (sender, receiver) = sync_channel(QUEUE);
        self.threads.push(thread::spawn(move || read_packets(from, &sender, &stop, delay)));
        self.threads.push(thread::spawn(move || write_packets(to, &receiver)));
        Ok(())
    }
}

impl Drop for DelayedLink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A packet and when it is due at the other end.
type Held = (Instant, Vec<u8>);

fn read_packets(mut from: File, queue: &SyncSender<Held>, stop: &AtomicBool, delay: Duration) {
    let mut packet = vec![0; PACKET];
    while !stop.load(Ordering::Relaxed) {
        let mut wait = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut wait, PollTimeout::from(STOP_CHECK_MS)), Ok(1)) {
            continue;
        }
        // A device that was deleted with its namespace ends the link.
        let Ok(length) = from.read(&mut packet) else { return };
        let _ = queue.try_send((Instant::now() + delay, packet[..length].to_vec()));
    }
}

fn write_packets(mut to: File, queue: &Receiver<Held>) {
    for (due, packet) in queue {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // The device refuses packets until it is up: those are lost, as on a wire.
        let _ = to.write(&packet);
    }
}

#[allow(unsafe_code, reason = "there is no safe wrapper for this ioctl")]
fn open(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: `ifreq` is a plain C struct for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0, so that the name is terminated.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open and TUNSETIFF reads and writes one `ifreq`.
    let code = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if code == 0 { Ok(file) } else { Err(io::Error::last_os_error()) }
}
