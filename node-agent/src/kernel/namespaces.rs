//! Network namespaces: their cookies, and work done inside them.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::PathBuf,
    thread,
};

use nix::{
    libc,
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

/// Processes remembered per namespace: enough that one of them usually still lives.
const WITNESSES: usize = 8;

struct Namespace {
    inode: u64,
    witnesses: VecDeque<u32>,
}

/// The namespaces seen so far. None is held open, so that the agent never keeps one alive.
#[derive(Default)]
pub struct Namespaces {
    own_inode: u64,
    by_cookie: HashMap<u64, Namespace>,
}

fn path(tgid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{tgid}/ns/net"))
}

/// Inode of a process's network namespace.
pub fn inode(tgid: u32) -> io::Result<u64> {
    Ok(std::fs::metadata(path(tgid))?.ino())
}

impl Namespaces {
    /// Starts with none but the agent's own.
    ///
    /// # Errors
    /// When /proc is not there.
    pub fn new() -> io::Result<Self> {
        Ok(Self { own_inode: std::fs::metadata("/proc/self/ns/net")?.ino(), ..Self::default() })
    }

    /// Remembers that a process lives in the namespace with this cookie.
    pub fn note(&mut self, cookie: u64, tgid: u32) {
        if tgid == 0 || cookie == 0 {
            return;
        }
        let Ok(inode) = inode(tgid) else {
            return;
        };
        let known = self
            .by_cookie
            .entry(cookie)
            .or_insert_with(|| Namespace { inode, witnesses: VecDeque::new() });
        // A reused process number may lead elsewhere.
        if known.inode == inode && !known.witnesses.contains(&tgid) {
            known.witnesses.push_front(tgid);
            known.witnesses.truncate(WITNESSES);
        }
    }

    /// Whether the cookie is known.
    #[must_use]
    pub fn knows(&self, cookie: u64) -> bool {
        self.by_cookie.contains_key(&cookie)
    }

    /// Files of the namespaces among `wanted` other than the agent's own, as far as a process still lives in them.
    /// Those of which none does are forgotten.
    pub fn open(&mut self, wanted: impl Fn(u64) -> bool) -> Vec<File> {
        let mut files = Vec::new();
        let own = self.own_inode;
        self.by_cookie.retain(|cookie, namespace| {
            if namespace.inode == own || !wanted(*cookie) {
                return true;
            }
            while let Some(tgid) = namespace.witnesses.front() {
                if let Ok(file) = File::open(path(*tgid))
                    && file.metadata().is_ok_and(|found| found.ino() == namespace.inode)
                {
                    files.push(file);
                    return true;
                }
                namespace.witnesses.pop_front();
            }
            false
        });
        files
    }
}

/// Does `work` once in each of these namespaces, on a thread that ends afterwards.
///
/// # Errors
/// The first error of entering or working.
pub fn within<T: Send>(
    files: &[File],
    mut work: impl FnMut() -> io::Result<T> + Send,
) -> io::Result<Vec<T>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    thread::scope(|scope| {
        scope
            .spawn(|| {
                files
                    .iter()
                    .map(|file| {
                        setns(file, CloneFlags::CLONE_NEWNET)?;
                        work()
                    })
                    .collect()
            })
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace panicked")))
    })
}

/// Cookie of the namespace of the calling thread.
///
/// # Errors
/// Before kernel 5.14.
pub fn cookie() -> io::Result<u64> {
    let probe = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // No wrapper in the crates at hand knows this option.
    // SAFETY: value and length are on the stack and of the sizes that they say.
    let result = unsafe {
        libc::getsockopt(
            probe.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
