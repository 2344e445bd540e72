//! The aggregator under load: a child of ours, or one that runs already.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{pki::Authority, process::Usage};

/// How long it may take to listen: it reads back what it had first.
const START: Duration = Duration::from_secs(60);

/// How long it may take to end when it is told to.
const END: Duration = Duration::from_secs(30);

const EVERY: Duration = Duration::from_millis(5);

/// Where agents and readers go.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub agents: SocketAddr,
    pub readers: SocketAddr,
}

pub struct Server {
    pub addresses: Addresses,
    kind: Kind,
}

enum Kind {
    Child {
        program: PathBuf,
        arguments: Vec<String>,
        log: PathBuf,
        data: PathBuf,
        running: Mutex<Running>,
    },
    /// Of this process id, if it is known.
    Attached(Option<u32>),
}

struct Running {
    child: Option<Child>,
    /// CPU-seconds of those that were killed, and what they wrote.
    spent: f64,
    written_mb: f64,
}

impl Server {
    /// Starts the aggregator on ports of its choice and with data below `dir`.
    pub fn start(
        program: &Path,
        dir: &Path,
        authority: &Authority,
        settings: &[String],
    ) -> Result<Self> {
        let file = |name: &str| authority.file(name).display().to_string();
        let pairs = [
            ("--data-dir", dir.join("data").display().to_string()),
            ("--tls-client-ca", file("ca.crt")),
            ("--tls-cert", file("aggregator.crt")),
            ("--tls-key", file("aggregator.key")),
        ];
        let pairs = pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        let arguments: Vec<String> = pairs.chain(settings.iter().cloned()).collect();
        let log = dir.join("aggregator.log");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let any = Addresses { agents: any, readers: any };
        let (child, addresses) = spawn(program, &arguments, any, &log)?;
        let running = Mutex::new(Running { child: Some(child), spent: 0.0, written_mb: 0.0 });
        let program = program.to_owned();
        let data = dir.join("data");
        Ok(Self { addresses, kind: Kind::Child { program, arguments, log, data, running } })
    }

    /// One that runs already.
    pub const fn attach(addresses: Addresses, pid: Option<u32>) -> Self {
        Self { addresses, kind: Kind::Attached(pid) }
    }

    /// What it has used, those before it included; `None` when that is not known.
    pub fn usage(&self) -> Option<Usage> {
        match &self.kind {
            Kind::Child { running, .. } => {
                let running = lock(running);
                let mut usage = Usage::of(running.child.as_ref()?.id()).ok()?;
                usage.cpu_seconds += running.spent;
                usage.written_mb += running.written_mb;
                Some(usage)
            }
            Kind::Attached(pid) => Usage::of((*pid)?).ok(),
        }
    }

    /// The snapshots that lie in its data directory, one that is being written included; none of one that ran
    /// already.
    pub fn snapshots(&self) -> Vec<OsString> {
        let Kind::Child { data, .. } = &self.kind else { return Vec::new() };
        let names = data.read_dir().into_iter().flatten().flatten().map(|entry| entry.file_name());
        let is_one = |name: &OsString| {
            let name = name.to_string_lossy();
            name.starts_with("snapshot-") || name == "unfinished"
        };
        let mut found: Vec<_> = names.filter(is_one).collect();
        found.sort_unstable();
        found
    }

    /// Ends it without a warning and starts it again on the same ports and data. Returns how
    /// long it took to listen.
    pub fn kill_and_restart(&self) -> Result<Duration> {
        let Kind::Child { program, arguments, log, running, .. } = &self.kind else {
            bail!("an aggregator that was running already is not killed");
        };
        let mut running = lock(running);
        if let Some(mut child) = running.child.take() {
            let usage = Usage::of(child.id()).unwrap_or_default();
            running.spent += usage.cpu_seconds;
            running.written_mb += usage.written_mb;
            child.kill().context("kill the aggregator")?;
            child.wait().context("wait for the aggregator")?;
        }
        let begin = Instant::now();
        let (child, _) = spawn(program, arguments, self.addresses, log)?;
        running.child = Some(child);
        Ok(begin.elapsed())
    }

    /// Ends it as a service manager would; fails when it does not end well.
    pub fn stop(&self) -> Result<()> {
        let Kind::Child { running, .. } = &self.kind else { return Ok(()) };
        let Some(mut child) = lock(running).child.take() else { return Ok(()) };
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let begin = Instant::now();
        while begin.elapsed() < END {
            if let Some(status) = child.try_wait()? {
                anyhow::ensure!(status.success(), "the aggregator ended with {status}");
                return Ok(());
            }
            std::thread::sleep(EVERY);
        }
        child.kill()?;
        child.wait()?;
        bail!("the aggregator did not end within {} s", END.as_secs())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Kind::Child { running, .. } = &self.kind else { return };
        if let Some(mut child) = lock(running).child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts it and waits until it listens. Its log goes on where it was.
fn spawn(
    program: &Path,
    arguments: &[String],
    addresses: Addresses,
    log: &Path,
) -> Result<(Child, Addresses)> {
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    let before = file.metadata()?.len() as usize;
    let mut child = Command::new(program)
        .arg(format!("--grpc-listen={}", addresses.agents))
        .arg(format!("--http-listen={}", addresses.readers))
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(file))
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let begin = Instant::now();
    loop {
        let text = std::fs::read(log)?;
        let text = String::from_utf8_lossy(text.get(before..).unwrap_or_default()).into_owned();
        if let Some(found) = listening(&text) {
            return Ok((child, found));
        }
        if let Some(status) = child.try_wait()? {
            bail!("the aggregator ended with {status}: {}", text.trim());
        }
        if begin.elapsed() > START {
            // Whether that works makes no difference now.
            let _ = child.kill();
            let _ = child.wait();
            bail!("the aggregator did not listen within {} s: {}", START.as_secs(), text.trim());
        }
        std::thread::sleep(EVERY);
    }
}

/// The addresses in the line that says so, once it is whole.
fn listening(log: &str) -> Option<Addresses> {
    let line = log.split_inclusive('\n').find(|line| line.contains("listening"))?;
    let line = line.strip_suffix('\n')?;
    let address = |key: &str| line.split_once(key)?.1.split_whitespace().next()?.parse().ok();
    Some(Addresses { agents: address("agents=")?, readers: address("readers=")? })
}

/// Lets this process and its children have as many connections as the system allows.
pub fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // With fewer, the connections that do not fit will say so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// The path of a built program: beside this one, or where tests are built into.
pub fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut folders = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    folders.find(|path| path.is_file()).with_context(|| {
        format!("no {name} beside this program: `cargo build -p aggregator --bins` first")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_once_the_line_is_whole() {
        let line = "2026 INFO weft_aggregator: listening agents=127.0.0.1:41 readers=127.0.0.1:42";
        assert!(listening(line).is_none());
        let addresses = listening(&format!("other\n{line}\n")).unwrap();
        assert_eq!((addresses.agents.port(), addresses.readers.port()), (41, 42));
    }
}
