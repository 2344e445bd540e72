//! All simulated agents.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU32},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use crate::{
    agent::{Agent, AgentError, Command, Ledger, node_name},
    pki::Authority,
    stats::Stats,
    world::{NEVER, Tick, World},
};

/// Handshakes at a time while the fleet comes up.
const TURNS: usize = 128;

/// Commands that an agent has not looked at.
const COMMANDS: usize = 8;

const EVERY: Duration = Duration::from_millis(20);

/// What the whole fleet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connect, and wait for each other.
    Connecting,
    /// Count and send. Without a pace only the first tick, until `go`.
    Running { start: Instant, go: bool },
    /// End.
    Over,
}

/// What agents share.
pub struct Shared {
    pub world: Arc<World>,
    pub seed: u64,
    pub address: SocketAddr,
    pub interval: Duration,
    /// Once per interval, or as fast as batches are acknowledged.
    pub paced: bool,
    pub phase: watch::Sender<Phase>,
    pub turns: Semaphore,
    /// The newest tick that anybody has counted, and the one that is the last for all.
    pub newest_tick: AtomicU32,
    pub last_tick: AtomicU32,
    pub stats: Stats,
}

impl Shared {
    pub fn new(
        world: Arc<World>,
        seed: u64,
        address: SocketAddr,
        interval: Duration,
        paced: bool,
    ) -> Self {
        Self {
            world,
            seed,
            address,
            interval,
            paced,
            phase: watch::Sender::new(Phase::Connecting),
            turns: Semaphore::new(TURNS),
            newest_tick: AtomicU32::new(0),
            last_tick: AtomicU32::new(NEVER - 1),
            stats: Stats::default(),
        }
    }
}

/// Tells agents what to do.
#[derive(Clone)]
pub struct Commander(Arc<Vec<mpsc::Sender<Command>>>);

impl Commander {
    pub fn agents(&self) -> usize {
        self.0.len()
    }

    /// Tells an agent what to do; one that is busy with other commands does not hear it.
    pub fn tell(&self, agent: usize, command: Command) {
        if let Some(commands) = self.0.get(agent) {
            let _ = commands.try_send(command);
        }
    }
}

pub struct Fleet {
    pub shared: Arc<Shared>,
    commander: Commander,
    ledgers: mpsc::UnboundedReceiver<Ledger>,
    tasks: JoinSet<Result<(), AgentError>>,
}

impl Fleet {
    /// Makes a certificate for each agent and lets them connect.
    pub fn start(shared: Arc<Shared>, authority: &Authority) -> Result<Self> {
        let (sender, ledgers) = mpsc::unbounded_channel();
        let (mut commands, mut tasks) = (Vec::new(), JoinSet::new());
        for (number, plan) in shared.world.plans().into_iter().enumerate() {
            let number = number as u32;
            let tls = authority.node(&node_name(number))?;
            let (to, from) = mpsc::channel(COMMANDS);
            commands.push(to);
            let agent = Agent::new(number, Arc::clone(&shared), tls, plan, from, sender.clone());
            tasks.spawn(agent.run());
        }
        Ok(Self { shared, commander: Commander(Arc::new(commands)), ledgers, tasks })
    }

    pub fn agents(&self) -> usize {
        self.commander.agents()
    }

    pub fn commander(&self) -> Commander {
        self.commander.clone()
    }

    /// Waits until `holds`; fails when that takes too long or an agent has given up.
    pub async fn wait_for(
        &mut self,
        what: &str,
        patience: Duration,
        mut holds: impl FnMut(&Shared) -> bool,
    ) -> Result<()> {
        let begin = Instant::now();
        while !holds(&self.shared) {
            self.check()?;
            if begin.elapsed() > patience {
                let errors = self.shared.stats.errors();
                bail!(
                    "{what}: not within {} s; streams ended like this: {errors:?}",
                    patience.as_secs()
                );
            }
            sleep(EVERY).await;
        }
        Ok(())
    }

    /// Fails when an agent has given up.
    pub fn check(&mut self) -> Result<()> {
        while let Some(ended) = self.tasks.try_join_next() {
            ended.context("an agent has failed")?.context("an agent has given up")?;
        }
        Ok(())
    }

    /// Lets all agents count up to the same tick, waits until everything is acknowledged, and
    /// returns what all have counted.
    pub async fn finish(&mut self, last: Tick, patience: Duration) -> Result<Ledger> {
        use std::sync::atomic::Ordering::Relaxed;
        self.shared.last_tick.store(last, Relaxed);
        self.shared.phase.send_modify(|_| {});
        let mut all = Ledger::new();
        let begin = Instant::now();
        for done in 0..self.agents() {
            let left = patience.saturating_sub(begin.elapsed());
            let ledger = tokio::time::timeout(left, self.ledgers.recv()).await;
            self.check()?;
            let Ok(Some(ledger)) = ledger else {
                let errors = self.shared.stats.errors();
                bail!(
                    "only {done} of {} agents had everything acknowledged within {} s; streams \
                     ended like this: {errors:?}",
                    self.agents(),
                    patience.as_secs()
                );
            };
            for (edge, totals) in ledger {
                all.entry(edge).or_default().merge(&totals);
            }
        }
        Ok(all)
    }

    /// Ends all agents.
    pub async fn end(mut self) -> Result<()> {
        self.shared.phase.send_replace(Phase::Over);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("an agent has failed")?.context("an agent has given up")?;
        }
        Ok(())
    }
}
