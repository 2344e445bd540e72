//! A peer that runs as a process of a lab.

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr},
    process::ChildStdin,
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

use super::{
    plan::{Answer, Burst, Command, Ending, Exchange, Listen, Open},
    report::Report,
};
use crate::{Error, Result, error::Context, lab::Process};

/// The longest that a command may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Handle of a peer. Dropping it kills the process.
#[derive(Debug)]
pub struct Peer {
    process: Process,
    commands: ChildStdin,
    answers: Receiver<std::io::Result<String>>,
}

impl Peer {
    /// Takes over a weft-traffic process that was started with pipes.
    ///
    /// # Errors
    /// When it has none.
    pub fn new(mut process: Process) -> Result<Self> {
        let (commands, output) = process
            .pipes()
            .ok_or_else(|| Error::Unavailable("a peer needs pipes to its process".into()))?;
        let (sender, answers) = sync_channel(16);
        // Reading on a thread, so that waiting for an answer can time out.
        thread::spawn(move || {
            BufReader::new(output).lines().try_for_each(|line| sender.send(line).ok())
        });
        Ok(Self { process, commands, answers })
    }

    /// Name of the process: basename of its executable.
    #[must_use]
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Gives a command without waiting for its answer.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn tell(&mut self, command: &Command) -> Result<()> {
        let mut line = serde_json::to_vec(command).context(|| "write a command".into())?;
        line.push(b'\n');
        self.commands.write_all(&line).context(|| format!("tell {}", self.process.name()))
    }

    /// Waits for the answer to the oldest command that has none.
    ///
    /// # Errors
    /// When the peer could not do it, has ended or takes too long.
    pub fn answer(&mut self) -> Result<Answer> {
        let late = |_| Error::Timeout { what: format!("answer of {}", self.name()), limit: LIMIT };
        let line = self.answers.recv_timeout(LIMIT).map_err(late)?;
        let line = line.context(|| format!("hear {}", self.name()))?;
        match serde_json::from_str(&line) {
            Ok(Answer::Error { message }) => Err(self.wrong(message)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.wrong(error.to_string())),
        }
    }

    /// Gives a command and waits for its answer.
    ///
    /// # Errors
    /// As [`Peer::answer`].
    pub fn ask(&mut self, command: &Command) -> Result<Answer> {
        self.tell(command)?;
        self.answer()
    }

    /// Listens at an address for plain TCP.
    ///
    /// # Errors
    /// As [`Peer::answer`].
    pub fn listen(&mut self, ip: IpAddr, port: u16) -> Result<SocketAddr> {
        let address = SocketAddr::new(ip, port);
        self.listen_as(Listen { address, mptcp: false, reuse_port: false })
    }

    /// Listens as told.
    ///
    /// # Errors
    /// As [`Peer::answer`].
    pub fn listen_as(&mut self, how: Listen) -> Result<SocketAddr> {
        match self.ask(&Command::Listen(how))? {
            Answer::Listening { address } => Ok(address),
            other => Err(self.wrong(format!("unexpected answer {other:?}"))),
        }
    }

    /// Opens connections; returns how many were established and how many attempts failed.
    ///
    /// # Errors
    /// As [`Peer::answer`]; a failed attempt is none.
    pub fn open(&mut self, open: Open) -> Result<(u32, u32)> {
        self.opened(&Command::Open(open))
    }

    /// Does a burst; returns how many connections were established and how many failed.
    ///
    /// # Errors
    /// As [`Peer::answer`]; a failed attempt is none.
    pub fn burst(&mut self, burst: Burst) -> Result<(u32, u32)> {
        self.opened(&Command::Burst(burst))
    }

    /// Talks on every connection of a group.
    ///
    /// # Errors
    /// As [`Peer::answer`].
    pub fn exchange(&mut self, group: &str, exchange: Exchange, ending: Ending) -> Result<()> {
        self.ask(&Command::Exchange { group: group.into(), exchange, ending }).map(drop)
    }

    /// Ends every connection of a group.
    ///
    /// # Errors
    /// As [`Peer::answer`].
    pub fn end(&mut self, group: &str, ending: Ending) -> Result<()> {
        self.ask(&Command::End { group: group.into(), ending }).map(drop)
    }

    /// What the peer has counted so far.
    ///
    /// # Errors
    /// As [`Peer::answer`].
    pub fn report(&mut self) -> Result<Report> {
        match self.ask(&Command::Report)? {
            Answer::Report(report) => Ok(report),
            other => Err(self.wrong(format!("unexpected answer {other:?}"))),
        }
    }

    fn opened(&mut self, command: &Command) -> Result<(u32, u32)> {
        match self.ask(command)? {
            Answer::Opened { established, failed } => Ok((established, failed)),
            other => Err(self.wrong(format!("unexpected answer {other:?}"))),
        }
    }

    fn wrong(&self, reason: String) -> Error {
        Error::Answer { who: self.name().into(), reason }
    }
}
