//! A peer: does what commands say and answers each.

use std::{
    io::{self, BufRead, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use super::{
    client::{Client, burst, repeat},
    ledger::Ledger,
    plan::{Answer, Command},
    server::Server,
};

/// A peer inside this process.
#[derive(Debug)]
pub struct Actor {
    ledger: Arc<Ledger>,
    client: Client,
    servers: Vec<Server>,
}

impl Default for Actor {
    fn default() -> Self {
        let ledger = Arc::<Ledger>::default();
        Self { client: Client::new(Arc::clone(&ledger)), ledger, servers: Vec::new() }
    }
}

impl Actor {
    /// Does what lines of JSON say until they end.
    ///
    /// # Errors
    /// When reading or answering fails. A command that fails is only answered so.
    pub fn run(mut self, commands: impl BufRead, mut answers: impl Write) -> io::Result<()> {
        for line in commands.lines() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let answer = match serde_json::from_str(&line) {
                Ok(command) => self.handle(command),
                Err(error) => Answer::Error { message: format!("not a command: {error}") },
            };
            serde_json::to_writer(&mut answers, &answer)?;
            answers.write_all(b"\n")?;
            answers.flush()?;
        }
        Ok(())
    }

    /// Does one thing.
    pub fn handle(&mut self, command: Command) -> Answer {
        self.act(command).unwrap_or_else(|error| Answer::Error { message: error.to_string() })
    }

    fn act(&mut self, command: Command) -> io::Result<Answer> {
        match command {
            Command::Listen(how) => {
                let server = Server::start(&how, &self.ledger)?;
                let address = server.address();
                self.servers.push(server);
                return Ok(Answer::Listening { address });
            }
            Command::Unlisten { address } => {
                let index = self.find(address)?;
                self.servers.remove(index);
            }
            Command::Open(open) => {
                let (established, failed) = self.client.open(&open);
                return Ok(Answer::Opened { established, failed });
            }
            Command::Exchange { group, exchange, ending } => {
                self.client.exchange(&group, &exchange, ending)?;
            }
            Command::Ask { group, exchange } => self.client.ask(&group, &exchange)?,
            Command::Receive { group, bytes } => self.client.receive(&group, bytes)?,
            Command::Push { address, bytes } => {
                let index = self.find(address)?;
                self.servers[index].push(bytes)?;
            }
            Command::End { group, ending } => self.client.end(&group, ending)?,
            Command::Burst(what) => {
                let (established, failed) = burst(&what, &self.ledger)?;
                return Ok(Answer::Opened { established, failed });
            }
            Command::Loop { burst, pause_ms } => {
                repeat(burst, Duration::from_millis(pause_ms), Arc::clone(&self.ledger));
            }
            Command::Report => return Ok(Answer::Report(self.ledger.report())),
        }
        Ok(Answer::Done)
    }

    fn find(&self, address: SocketAddr) -> io::Result<usize> {
        self.servers
            .iter()
            .position(|server| server.address() == address)
            .ok_or_else(|| io::Error::other(format!("not listening on {address}")))
    }
}
