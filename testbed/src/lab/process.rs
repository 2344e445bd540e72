//! Processes of a lab: started inside a cgroup and a network namespace, and never left behind.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::Namespace;
use crate::{Error, Result, error::Context};

/// What to start.
#[derive(Clone, Debug)]
pub struct Spawn {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    log: Option<PathBuf>,
    piped: bool,
}

impl Spawn {
    /// The program at this path, without arguments, its output where ours goes.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: vec![], env: vec![], log: None, piped: false }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Sends its output to a file.
    #[must_use]
    pub fn log(mut self, file: impl Into<PathBuf>) -> Self {
        self.log = Some(file.into());
        self
    }

    /// Makes its standard input and output pipes to us.
    #[must_use]
    pub fn piped(mut self) -> Self {
        self.piped = true;
        self
    }

    pub(super) fn start(&self, cgroup: &Path, namespace: &Namespace) -> Result<Process> {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = Command::new("/bin/sh");
        // The shell joins the cgroup and becomes the program, which so never runs outside.
        command
            .args(["-c", "echo 0 >\"$0\" && exec \"$@\""])
            .arg(cgroup.join("cgroup.procs"))
            .arg(&self.program)
            .args(&self.args)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            // Ctrl-C in a terminal is for us; we stop what we started in good order.
            .process_group(0);
        if let Some(path) = &self.log {
            let file = File::create(path).context(|| format!("create {}", path.display()))?;
            let copy = file.try_clone().context(|| "copy a descriptor".into())?;
            command.stdout(file).stderr(copy);
        }
        if self.piped {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        }
        let child = namespace.run(|| command.spawn())?.context(|| format!("start {name}"))?;
        Ok(Process { name, child, log: self.log.clone() })
    }
}

/// A process that was started in a lab. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Option<PathBuf>,
}

impl Process {
    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Basename of the program.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it wrote so far, if that goes to a file.
    #[must_use]
    pub fn output(&self) -> String {
        self.log.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// Its pipes, the first time when it was started with pipes.
    pub fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        self.child.stdin.take().zip(self.child.stdout.take())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)
            .context(|| format!("signal {}", self.name))
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context(|| format!("wait for {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(Error::Timeout { what: format!("end of {}", self.name), limit });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it still runs after `limit` or did not end with exit code 0.
    pub fn stop(&mut self, limit: Duration) -> Result<()> {
        if self.ended()?.is_none() {
            self.signal(Signal::SIGTERM)?;
        }
        let status = self.wait(limit)?;
        if status.success() {
            return Ok(());
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
        };
        Err(Error::Answer { who: self.name.clone(), reason: how })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
