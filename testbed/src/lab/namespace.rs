//! A network namespace without a name: it lives as long as its file descriptor, so it
//! goes even when the process that made it is killed.

use std::{
    fs::{self, File},
    io::Write,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

use crate::{Error, Result, error::Context};

/// The calling thread's own network namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// Makes a namespace with nothing but a loopback interface, which is up.
    ///
    /// # Errors
    /// Without `CAP_SYS_ADMIN`.
    pub fn new() -> Result<Self> {
        let namespace = in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context(|| "new network namespace".into())?;
            Self::current()
        })??;
        // Duplicate address detection would keep every address tentative for a second.
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn current() -> Result<Self> {
        Ok(Self { file: File::open(OWN).context(|| format!("open {OWN}"))? })
    }

    /// Another handle of the same namespace.
    pub(super) fn share(&self) -> std::io::Result<Self> {
        Ok(Self { file: self.file.try_clone()? })
    }

    /// Runs `work` on a thread inside the namespace. Sockets made there and processes started
    /// there belong to the namespace for good.
    ///
    /// # Errors
    /// When the namespace cannot be entered or `work` panicked.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        in_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .context(|| "enter network namespace".into())?;
            Ok(work())
        })?
    }

    /// A path by which other processes can name the namespace while this one lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// Inode of the namespace, unique on the machine while it exists.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub fn inode(&self) -> Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.file.metadata().context(|| "stat network namespace".into())?.ino())
    }

    /// Runs `ip` commands, one per line and without the leading `ip`.
    ///
    /// # Errors
    /// When one of them fails; those before it stay done.
    pub fn ip(&self, commands: &str) -> Result<()> {
        self.tool("ip", &["-batch", "-"], commands)
    }

    /// Applies an nftables ruleset.
    ///
    /// # Errors
    /// When nft does not accept it; nothing is applied then.
    pub fn nft(&self, ruleset: &str) -> Result<()> {
        self.tool("nft", &["-f", "-"], ruleset)
    }

    /// Sets a network sysctl, such as `net/ipv4/tcp_syn_retries`.
    ///
    /// # Errors
    /// When there is no such setting or it does not take the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.run(|| fs::write(&path, value))?.context(|| format!("set {key} to {value}"))
    }

    fn tool(&self, program: &str, args: &[&str], input: &str) -> Result<()> {
        let output = self
            .run(|| {
                let mut child = Command::new(program)
                    .args(args)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()?;
                if let Some(mut stdin) = child.stdin.take() {
                    stdin.write_all(input.as_bytes())?;
                    stdin.write_all(b"\n")?;
                }
                child.wait_with_output()
            })?
            .context(|| format!("run {program}"))?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stderr, output.stdout].concat();
        Err(Error::Tool {
            command: format!("{program} {}", args.join(" ")),
            output: format!("{} (input: {input})", String::from_utf8_lossy(&text).trim()),
        })
    }
}

/// Runs `work` on a thread of its own, whose namespace may change without harm to others.
fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join())
        .map_err(|_| Error::Unavailable("a thread in a network namespace panicked".into()))
}
