//! Fleets of real agents and one real aggregator, with certificates of their own.

mod bpf;
mod graph;
mod http;
mod series;
mod turns;

use std::{
    ffi::OsString,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

pub use self::{
    bpf::KernelObjects,
    graph::{Graph, Node, differences},
    http::{Response, get},
    series::published,
    turns::Waited,
};
use crate::{
    Error, Result, binaries,
    error::Context,
    lab::{Host, Lab, Process, Spawn},
};

/// Where the aggregator serves HTTP, within its own namespace.
pub const HTTP: &str = "127.0.0.1:7480";
/// Where an agent serves HTTP, within its host's namespace.
pub const AGENT_HTTP: &str = "127.0.0.1:7481";
/// How long a start may take: a slow machine verifies BPF programs for seconds.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// An aggregator and its agents. Dropping it kills them.
#[derive(Debug)]
pub struct Fleet {
    // Agents first: they are to end before what they talk to.
    agents: Vec<Agent>,
    aggregator: Process,
    /// How it was started.
    spawn: Spawn,
    host: Host,
    interval: Duration,
}

/// An agent of a fleet.
#[derive(Debug)]
pub struct Agent {
    /// Name of its node.
    pub node: String,
    /// The process.
    pub process: Process,
}

impl Fleet {
    /// Makes certificates and starts an aggregator on a host of its own; `interval` is that of
    /// the agents to come.
    ///
    /// # Errors
    /// When it is not built, or not ready in time; its log is in the error.
    pub fn start(lab: &Lab, interval: Duration) -> Result<Self> {
        Self::start_with(lab, interval, &[])
    }

    /// As [`Fleet::start`], with further arguments for the aggregator.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub fn start_with(lab: &Lab, interval: Duration, args: &[&str]) -> Result<Self> {
        let host = lab.host("aggregator")?;
        let pki = lab.folder().join("pki");
        let sans = [host.ipv4(), host.ipv6()].map(|ip| ip.to_string());
        let init = ["pki".into(), "init".into(), pki.clone().into_os_string()]
            .into_iter()
            .chain(sans.iter().flat_map(|san| [OsString::from("--san"), san.into()]));
        run_aggregator(init)?;
        let file = |name: &str| pki.join(name).into_os_string();
        let spawn = Spawn::new(binaries::find("weft-aggregator")?)
            .args(["--grpc-listen", "[::]:7443", "--http-listen", HTTP])
            .args([OsString::from("--data-dir"), lab.folder().join("data").into()])
            .args([OsString::from("--tls-cert"), file("aggregator.crt")])
            .args([OsString::from("--tls-key"), file("aggregator.key")])
            .args([OsString::from("--tls-client-ca"), file("ca.crt")])
            .args(args)
            .log(lab.folder().join("aggregator.log"));
        let aggregator = host.spawn_system(&spawn)?;
        let mut fleet = Self { agents: Vec::new(), aggregator, spawn, host, interval };
        let ready = format!("http://{HTTP}/readyz");
        wait_until_ok(&fleet.host, &ready, &mut fleet.aggregator)?;
        Ok(fleet)
    }

    /// Starts an agent on a host and waits until its programs are attached and the aggregator
    /// knows it.
    ///
    /// # Errors
    /// When it is not built, or not there in time; its log is in the error.
    pub fn add_agent(&mut self, host: &Host) -> Result<()> {
        self.add_agent_with(host, &[])
    }

    /// As [`Fleet::add_agent`], with further arguments for the agent.
    ///
    /// # Errors
    /// As [`Fleet::add_agent`].
    pub fn add_agent_with(&mut self, host: &Host, args: &[&str]) -> Result<()> {
        self.launch(host, args)?;
        self.await_agents(&[host])
    }

    /// Starts an agent on each of these hosts, all at once, as [`Fleet::add_agent`] does on one.
    ///
    /// # Errors
    /// As [`Fleet::add_agent`].
    pub fn add_agents(&mut self, hosts: &[&Host]) -> Result<()> {
        hosts.iter().try_for_each(|host| self.launch(host, &[]))?;
        self.await_agents(hosts)
    }

    /// As [`Fleet::add_agent_with`], of an agent that need not find the aggregator.
    ///
    /// # Errors
    /// As [`Fleet::add_agent`].
    pub fn start_agent_with(&mut self, host: &Host, args: &[&str]) -> Result<()> {
        self.launch(host, args)?;
        self.await_start(host)
    }

    fn launch(&mut self, host: &Host, args: &[&str]) -> Result<()> {
        let node = host.name().to_owned();
        let pki = host.folder().join("pki");
        // An agent that takes the place of another has its certificate.
        if !pki.join(format!("{node}.crt")).exists() {
            run_aggregator(["pki".into(), "node".into(), pki.clone().into(), node.clone().into()])?;
        }
        let file = |name: String| pki.join(name).into_os_string();
        // The machine's own engine has nothing to do with the lab.
        let engine = ["--container-engine", "none"];
        let engine = if args.contains(&engine[0]) { &[][..] } else { &engine[..] };
        let spawn = Spawn::new(binaries::find("weft-agent")?)
            .args(["--aggregator", &format!("https://{}:7443", self.host.ipv4())])
            .args(["--node", &node])
            .args(["--interval", &format!("{}ms", self.interval.as_millis())])
            .args(["--metrics-listen", AGENT_HTTP])
            .args([OsString::from("--cgroup"), host.cgroup().into()])
            .args([OsString::from("--tls-ca"), file("ca.crt".into())])
            .args([OsString::from("--tls-cert"), file(format!("{node}.crt"))])
            .args([OsString::from("--tls-key"), file(format!("{node}.key"))])
            .args(engine.iter().chain(args).copied())
            .log(host.folder().join(format!("agent-{node}.log")));
        self.agents.push(Agent { node, process: host.spawn_system(&spawn)? });
        Ok(())
    }

    /// An agent that does not start is none of the fleet's.
    fn await_start(&mut self, host: &Host) -> Result<()> {
        let Some(at) = self.agents.iter().rposition(|agent| agent.node == host.name()) else {
            return Ok(());
        };
        let url = format!("http://{AGENT_HTTP}/healthz");
        let started = wait_until_ok(host, &url, &mut self.agents[at].process);
        if started.is_err() {
            self.agents.remove(at);
        }
        started
    }

    fn await_agents(&mut self, hosts: &[&Host]) -> Result<()> {
        hosts.iter().try_for_each(|host| self.await_start(host))?;
        for host in hosts {
            self.wait("agent in /api/v1/nodes", START_LIMIT, |fleet| {
                let nodes = fleet.json("/api/v1/nodes").map_err(|error| error.to_string())?;
                let connected = |node: &Value| {
                    node["name"] == host.name() && node["connected"].as_bool() == Some(true)
                };
                let known = nodes["nodes"].as_array().is_some_and(|all| all.iter().any(connected));
                if known {
                    Ok(())
                } else {
                    Err(format!("{} is not connected: {nodes}", host.name()))
                }
            })?;
        }
        Ok(())
    }

    /// Stops the agent of a host, so that another can take its place.
    ///
    /// # Errors
    /// When it takes too long or does not end with exit code 0.
    pub fn stop_agent(&mut self, host: &Host) -> Result<()> {
        let found = self.agents.iter().position(|agent| agent.node == host.name());
        let Some(mut agent) = found.map(|at| self.agents.remove(at)) else { return Ok(()) };
        agent.process.stop(STOP_LIMIT).map_err(|error| with_log(error, &agent.process))
    }

    /// Kills the agent of a host without a warning, so that another can take its place.
    ///
    /// # Errors
    /// When it was gone already.
    pub fn kill_agent(&mut self, host: &Host) -> Result<()> {
        let found = self.agents.iter().position(|agent| agent.node == host.name());
        let Some(mut agent) = found.map(|at| self.agents.remove(at)) else { return Ok(()) };
        agent.process.signal(Signal::SIGKILL)?;
        agent.process.wait(STOP_LIMIT).map(drop)
    }

    /// Kills the aggregator without a warning and starts it again on its data. Returns how long that took until it
    /// was ready.
    ///
    /// # Errors
    /// When it was gone already, or is not ready in time.
    pub fn kill_aggregator(&mut self) -> Result<Duration> {
        self.aggregator.signal(Signal::SIGKILL)?;
        self.aggregator.wait(STOP_LIMIT)?;
        let begin = Instant::now();
        self.aggregator = self.host.spawn_system(&self.spawn)?;
        let ready = format!("http://{HTTP}/readyz");
        wait_until_ok(&self.host, &ready, &mut self.aggregator)?;
        Ok(begin.elapsed())
    }

    /// The agents, in the order of their start.
    pub fn agents(&mut self) -> &mut [Agent] {
        &mut self.agents
    }

    /// How long the agent of a host has waited for a processor.
    #[must_use]
    pub fn waited(&self, host: &str) -> Waited {
        let agent = self.agents.iter().rfind(|agent| agent.node == host);
        agent.map(|agent| Waited::of(agent.process.id())).unwrap_or_default()
    }

    /// The aggregator's process.
    pub fn aggregator(&mut self) -> &mut Process {
        &mut self.aggregator
    }

    /// The aggregator's host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Gets a path of the aggregator's HTTP side.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&self, path: &str) -> Result<Response> {
        get(self.host.namespace(), &format!("http://{HTTP}{path}"))
    }

    /// Gets JSON from a path of the aggregator's HTTP side.
    ///
    /// # Errors
    /// When there is no answer, its status is not 200 or it is no JSON.
    pub fn json(&self, path: &str) -> Result<Value> {
        self.get(path)?.json()
    }

    /// The graph of the last five minutes.
    ///
    /// # Errors
    /// When there is none, or it contradicts itself.
    pub fn graph(&self) -> Result<Graph> {
        Graph::parse(&self.json("/api/v1/topology")?)
    }

    /// Asks `condition` until it holds. What it answers last is in the error.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Self) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            match condition(self) {
                Ok(value) => return Ok(value),
                Err(reason) if Instant::now() > deadline => {
                    return Err(Error::Answer {
                        who: format!("after {limit:?} of waiting for {what}"),
                        reason,
                    });
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Stops agents and aggregator.
    ///
    /// # Errors
    /// When one of them takes too long or does not end with exit code 0.
    pub fn stop(mut self) -> Result<()> {
        for agent in &mut self.agents {
            agent.process.stop(STOP_LIMIT).map_err(|error| with_log(error, &agent.process))?;
        }
        self.aggregator.stop(STOP_LIMIT).map_err(|error| with_log(error, &self.aggregator))
    }
}

/// Runs weft-aggregator to its end.
fn run_aggregator(args: impl IntoIterator<Item = OsString>) -> Result<()> {
    let program: PathBuf = binaries::find("weft-aggregator")?;
    let output = Command::new(&program)
        .args(args)
        .output()
        .context(|| format!("run {}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Tool {
        command: "weft-aggregator pki".into(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Waits until `url` answers 200, as long as `process` lives.
fn wait_until_ok(host: &Host, url: &str, process: &mut Process) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let answer = get(host.namespace(), url);
        if answer.as_ref().is_ok_and(|response| response.status == 200) {
            return Ok(());
        }
        let ended = process.ended()?;
        if ended.is_some() || Instant::now() > deadline {
            let reason = ended.map_or(format!("{answer:?}"), |status| format!("ended: {status}"));
            return Err(with_log(Error::Answer { who: process.name().into(), reason }, process));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The error with the end of the process's log.
fn with_log(error: Error, process: &Process) -> Error {
    let log = process.output();
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(20)..].join("\n");
    Error::Answer { who: process.name().into(), reason: format!("{error}\n{tail}") }
}
