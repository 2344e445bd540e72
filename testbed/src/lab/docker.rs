//! A real container engine on a host of a lab: a Docker daemon of its own, whose containers are workloads of the host.
//!
//! The daemon runs in the host's network namespace and in a mount namespace of its own, with data, socket and cgroups
//! in places of the lab. No image can be had from elsewhere: the one there is holds the traffic peer and what it is
//! linked with.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Host, Process, Spawn, mount_point};
use crate::{
    Error, Result, binaries,
    error::Context,
    traffic::{Answer, Command as Order, Peer},
};

/// How long the daemon may take to answer, or to end, and a command of its client.
const LIMIT: Duration = Duration::from_secs(60);

/// What `timeout` ends with when it had to end the command.
const TIMED_OUT: i32 = 124;

/// The image, and the program in it.
const IMAGE: &str = "traffic:1";
const PROGRAM: &str = "/bin/weft-traffic";

/// Becomes the daemon: where cgroups are mounted in the old way, it is shown the new one alone.
const SCRIPT: &str = "test -e /sys/fs/cgroup/cgroup.controllers || \
                      { umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup; } && \
                      exec \"$0\" \"$@\"";

/// A daemon. Dropping it ends it; its containers go with the host.
#[derive(Debug)]
pub struct Docker {
    folder: PathBuf,
    daemon: Process,
}

/// A container to run.
#[derive(Clone, Debug, Default)]
pub struct Container<'a> {
    /// Its name.
    pub name: &'a str,
    /// The network that it is on, and its address there.
    pub network: &'a str,
    /// As above.
    pub ip: &'a str,
    /// Project and service of a compose file, as compose would say them.
    pub compose: Option<(&'a str, &'a str)>,
    /// Further options of `docker run`.
    pub options: &'a [&'a str],
}

impl Container<'_> {
    fn arguments(&self) -> Vec<String> {
        let mut all: Vec<String> = ["run", "--rm", "--interactive"].map(str::to_owned).into();
        let mut add = |option: &str, value: &str| all.extend([option.into(), value.into()]);
        add("--name", self.name);
        add("--network", self.network);
        add("--ip", self.ip);
        if let Some((project, service)) = self.compose {
            add("--label", &format!("com.docker.compose.project={project}"));
            add("--label", &format!("com.docker.compose.service={service}"));
        }
        all.extend(self.options.iter().map(|option| (*option).to_owned()));
        all.extend([IMAGE.to_owned(), PROGRAM.to_owned()]);
        all
    }
}

impl Docker {
    /// Starts a daemon on a host and gives it its image.
    ///
    /// # Errors
    /// When there is none on the PATH, or it does not answer in time.
    pub fn start(host: &Host) -> Result<Self> {
        let folder = host.folder().join(format!("docker-{}", host.name()));
        fs::create_dir_all(&folder).context(|| format!("make {}", folder.display()))?;
        let mount = mount_point()?;
        let parent = host.cgroup().strip_prefix(&mount).unwrap_or(host.cgroup());
        let at = |name: &str| folder.join(name).display().to_string();
        let spawn = Spawn::new("/usr/bin/unshare")
            .args(["--mount", "--propagation", "private", "/bin/sh", "-c", SCRIPT])
            .args([program("dockerd")?])
            .args(["--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["--pidfile", &at("pid"), "--host", &format!("unix://{}", at("docker.sock"))])
            .args(["--cgroup-parent", &format!("/{}", parent.display())])
            // The one that works on whatever the folder is on.
            .args(["--storage-driver", "vfs"])
            .log(folder.join("log"));
        let daemon = host.spawn_system(&spawn)?;
        let mut docker = Self { folder, daemon };
        docker.wait_until_it_answers()?;
        docker.import()?;
        Ok(docker)
    }

    /// Says in one line what is missing for a daemon, if anything is.
    ///
    /// # Errors
    /// When something is missing.
    pub fn check() -> Result<()> {
        program("dockerd").and_then(|_| program("docker")).map(drop)
    }

    /// Where the daemon answers.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    /// Makes a user network with these addresses.
    ///
    /// # Errors
    /// When the daemon says no.
    pub fn network(&self, name: &str, subnet: &str) -> Result<()> {
        self.run(&["network", "create", "--subnet", subnet, name]).map(drop)
    }

    /// Runs a container with a traffic peer in it; the client that talks to it belongs to the host.
    ///
    /// # Errors
    /// When it does not start.
    pub fn peer(&self, host: &Host, container: &Container<'_>) -> Result<Peer> {
        let spawn =
            Spawn::new(program("docker")?).args(self.options()).args(container.arguments()).piped();
        Peer::new(host.spawn_system(&spawn)?)
    }

    /// Runs a container that does what it is told and ends; returns its answers.
    ///
    /// # Errors
    /// When it does not start, or not end well.
    pub fn run_to_its_end(
        &self,
        container: &Container<'_>,
        orders: &[Order],
    ) -> Result<Vec<Answer>> {
        let mut input = Vec::new();
        for order in orders {
            serde_json::to_writer(&mut input, order).context(|| "write a command".into())?;
            input.push(b'\n');
        }
        let mut command = self.command()?;
        command.args(container.arguments()).stdin(Stdio::piped());
        let mut child = command.spawn().context(|| "start docker".into())?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&input).context(|| format!("tell {}", container.name))?;
        }
        let output = child.wait_with_output().context(|| "wait for docker".into())?;
        let text = done("docker run", &output)?;
        let answers = text.lines().map(serde_json::from_str).collect::<serde_json::Result<_>>();
        answers.map_err(|error| Error::Answer {
            who: container.name.to_owned(),
            reason: format!("{error} in {text}"),
        })
    }

    /// Runs a command of the client and returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.command()?.args(args).output().context(|| "run docker".into())?;
        done(&format!("docker {}", args.join(" ")), &output)
    }

    /// Ends a container, and returns when its name and its address are free.
    ///
    /// # Errors
    /// When there is none, or it stays.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.run(&["kill", name])?;
        let deadline = Instant::now() + LIMIT;
        while !self
            .run(&["ps", "--all", "--quiet", "--filter", &format!("name=^{name}$")])?
            .is_empty()
        {
            if Instant::now() > deadline {
                return Err(Error::Timeout { what: format!("end of {name}"), limit: LIMIT });
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", &LIMIT.as_secs().to_string()])
            .arg(program("docker")?)
            .args(self.options())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    /// What every command of the client begins with.
    fn options(&self) -> [String; 4] {
        let config = self.folder.join("client").display().to_string();
        let host = format!("unix://{}", self.socket().display());
        ["--config".to_owned(), config, "--host".to_owned(), host]
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = self.run(&["version"]) {
            if self.daemon.ended()?.is_some() || Instant::now() > deadline {
                let log = self.daemon.output();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(20)..].join("\n");
                let reason = format!("{error}\n{end}");
                return Err(Error::Answer { who: "dockerd".into(), reason });
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Makes the image.
    fn import(&self) -> Result<()> {
        let root = self.folder.join("root");
        let traffic = binaries::find("weft-traffic")?;
        copy(&traffic, &root.join(PROGRAM.trim_start_matches('/')))?;
        for library in libraries(&traffic)? {
            copy(&library, &root.join(library.strip_prefix("/").unwrap_or(&library)))?;
        }
        let archive = self.folder.join("image.tar");
        let tar =
            Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").output();
        done("tar", &tar.context(|| "run tar".into())?)?;
        self.run(&["import", &archive.display().to_string(), IMAGE]).map(drop)
    }

    /// Ends every container, and the daemon.
    ///
    /// # Errors
    /// When it takes too long.
    pub fn stop(mut self) -> Result<()> {
        let running = self.run(&["ps", "--quiet"])?;
        let running: Vec<&str> = running.lines().collect();
        if !running.is_empty() {
            self.run(&[&["kill"], &running[..]].concat())?;
        }
        self.daemon.stop(LIMIT)
    }
}

/// A program of the engine: those that were unpacked for the tests lie beside each other.
fn program(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let with = |name: &str| folders.iter().find(|folder| folder.join(name).is_file());
    let beside = with("dockerd").map(|folder| folder.join(name)).filter(|path| path.is_file());
    let found = beside.or_else(|| with(name).map(|folder| folder.join(name)));
    found.ok_or_else(|| {
        Error::Unavailable(format!("no `{name}` on the PATH (`.ci/tools.sh` unpacks one)"))
    })
}

/// What a program is linked with.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context(|| "run ldd".into())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let path =
        |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(Into::into);
    Ok(text.lines().filter_map(path).collect())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder)
        .and_then(|()| fs::copy(from, to))
        .map(drop)
        .context(|| format!("copy {} to {}", from.display(), to.display()))
}

fn done(command: &str, output: &std::process::Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    if output.status.code() == Some(TIMED_OUT) {
        return Err(Error::Timeout { what: format!("end of `{command}`"), limit: LIMIT });
    }
    let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Tool { command: command.to_owned(), output })
}
