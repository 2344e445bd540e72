//! Network namespaces: their cookies, and work done inside them.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    thread,
};

use nix::sched::{CloneFlags, setns};

use crate::netns;

/// Processes remembered per namespace: enough that one of them usually still lives.
const WITNESSES: usize = 8;

/// The namespaces seen so far. None is held open, so that the agent never keeps one alive.
#[derive(Default)]
pub struct Namespaces {
    own_cookie: Option<u64>,
    /// Processes by the cookie of the namespace that one of their sockets is in. A process may have made that socket
    /// in another namespace than its own, so each is a guess that is checked on entering.
    witnesses: HashMap<u64, VecDeque<u32>>,
}

/// A namespace to enter, through a process that should live in it.
pub struct Entrance {
    cookie: u64,
    tgid: u32,
    file: File,
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
    pub fn new() -> Self {
        Self { own_cookie: netns::cookie().ok(), ..Self::default() }
    }

    /// Remembers that a process made a socket in the namespace with this cookie.
    pub fn note(&mut self, cookie: u64, tgid: u32) {
        if tgid == 0 || cookie == 0 || Some(cookie) == self.own_cookie {
            return;
        }
        let known = self.witnesses.entry(cookie).or_default();
        if !known.contains(&tgid) {
            known.push_front(tgid);
            known.truncate(WITNESSES);
        }
    }

    /// Whether the namespace can perhaps be entered, or is the agent's own.
    #[must_use]
    pub fn knows(&self, cookie: u64) -> bool {
        Some(cookie) == self.own_cookie || self.witnesses.contains_key(&cookie)
    }

    /// Whether the agent's own namespace is one of these, or may be since its cookie is not known.
    #[must_use]
    pub fn is_own_among<T>(&self, cookies: &HashMap<u64, T>) -> bool {
        self.own_cookie.map_or(!cookies.is_empty(), |own| cookies.contains_key(&own))
    }

    /// Entrances to the namespaces among `wanted` other than the agent's own. Those in which no process is known to
    /// live are forgotten.
    pub fn entrances(&mut self, wanted: impl Fn(u64) -> bool) -> Vec<Entrance> {
        let mut found = Vec::new();
        self.witnesses.retain(|cookie, witnesses| {
            if !wanted(*cookie) {
                return true;
            }
            while let Some(tgid) = witnesses.front().copied() {
                if let Ok(file) = File::open(path(tgid)) {
                    found.push(Entrance { cookie: *cookie, tgid, file });
                    return true;
                }
                witnesses.pop_front();
            }
            false
        });
        found
    }

    /// Does `work` once in each of these namespaces; an entrance that leads elsewhere is not used again. One that
    /// fails does not keep the others from their turn.
    ///
    /// # Errors
    /// The last error of entering or working.
    pub fn within(
        &mut self,
        entrances: &[Entrance],
        mut work: impl FnMut() -> io::Result<()> + Send,
    ) -> io::Result<()> {
        let results = on_own_thread(|| {
            entrances
                .iter()
                .map(|entrance| {
                    setns(&entrance.file, CloneFlags::CLONE_NEWNET)?;
                    if netns::cookie()? != entrance.cookie {
                        return Ok(false);
                    }
                    work().map(|()| true)
                })
                .collect::<Vec<io::Result<bool>>>()
        })?;
        let mut outcome = Ok(());
        for (entrance, result) in entrances.iter().zip(results) {
            match result {
                Ok(true) => {}
                Ok(false) => self.reject(entrance),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    fn reject(&mut self, entrance: &Entrance) {
        if let Some(witnesses) = self.witnesses.get_mut(&entrance.cookie) {
            witnesses.retain(|tgid| *tgid != entrance.tgid);
        }
    }
}

/// Cookie of the network namespace that a process lives in.
///
/// # Errors
/// When the process is gone, or before kernel 5.14.
pub fn cookie_of(tgid: u32) -> io::Result<u64> {
    let file = File::open(path(tgid))?;
    on_own_thread(|| {
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        netns::cookie()
    })?
}

/// Runs `work` on a thread that ends afterwards, so that the namespace it enters is nobody else's.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        scope
            .spawn(work)
            .join()
            .map_err(|_| io::Error::other("the thread inside the namespace panicked"))
    })
}
