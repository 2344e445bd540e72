//! Things that go wrong, at random moments that follow from the seed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    agent::Command,
    fleet::{Commander, Fleet, Shared},
    report::figures::Figures,
    scenario::Scenario,
    server::Server,
    world::Random,
};

const EVERY: Duration = Duration::from_millis(20);

/// What went wrong.
#[derive(Debug, Default)]
pub struct Happened {
    pub kills: u32,
    pub cuts: u32,
    pub restarts: u32,
    /// From a kill until it listened again, and until everybody was back and everything that
    /// had been counted before was acknowledged.
    pub listening: Vec<Duration>,
    pub back: Vec<Duration>,
}

impl Happened {
    pub fn figures(&self, all: &mut Figures) {
        all.add("aggregator killed", f64::from(self.kills), "");
        all.add("connections cut", f64::from(self.cuts), "");
        for (name, durations) in
            [("listening again", &self.listening), ("everybody back", &self.back)]
        {
            if !durations.is_empty() {
                let quantiles = super::quantiles(durations);
                all.add(&format!("{name} after a kill, p50"), quantiles.p50 / 1e3, "s");
                all.add(&format!("{name} after a kill, highest"), quantiles.max / 1e3, "s");
                all.add(&format!("{name} after a kill, times"), quantiles.count as f64, "");
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.kills += other.kills;
        self.cuts += other.cuts;
        self.restarts += other.restarts;
        self.listening.extend(other.listening);
        self.back.extend(other.back);
    }
}

/// Everything that goes wrong now.
pub struct Faulty {
    stop: watch::Sender<bool>,
    /// All kills there were to be have been.
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<Happened>>>,
}

/// One kind of fault.
struct Task {
    random: Random,
    every: Duration,
    stopping: watch::Receiver<bool>,
}

impl Task {
    /// Waits for the next moment; false when there is none.
    async fn next(&mut self) -> bool {
        if self.every.is_zero() {
            return false;
        }
        let wait = self.every.mul_f64(0.2 + 1.6 * self.random.unit());
        let stopped = self.stopping.wait_for(|stop| *stop);
        timeout(wait, stopped).await.is_err()
    }
}

impl Faulty {
    /// Begins.
    pub fn start(scenario: &Scenario, server: &Arc<Server>, fleet: &Fleet) -> Self {
        let stop = watch::Sender::new(false);
        let over = Arc::new(AtomicBool::new(false));
        let faults = &scenario.faults;
        let task = |number: u64, every: Duration| Task {
            random: Random::of(&[scenario.seed, 0xfa17, number]),
            every,
            stopping: stop.subscribe(),
        };
        let killing = Killing {
            task: task(1, faults.kill_aggregator_every),
            server: Arc::clone(server),
            shared: Arc::clone(&fleet.shared),
            agents: fleet.agents() as u64,
            over: Arc::clone(&over),
            times: faults.kills,
        };
        let cuts = agents(task(2, faults.cut_connections_every), fleet.commander(), Command::Cut);
        let restarts =
            agents(task(3, faults.restart_agents_every), fleet.commander(), Command::Restart);
        let tasks = vec![tokio::spawn(killing.run()), tokio::spawn(cuts), tokio::spawn(restarts)];
        Self { stop, over, tasks }
    }

    /// Whether all kills there were to be have been.
    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// Ends; returns what happened.
    pub async fn stop(self) -> Result<Happened> {
        self.stop.send_replace(true);
        let mut all = Happened::default();
        for task in self.tasks {
            all.merge(task.await??);
        }
        Ok(all)
    }
}

/// Commands for agents, one at a time.
async fn agents(mut task: Task, commander: Commander, command: Command) -> Result<Happened> {
    let mut happened = Happened::default();
    while task.next().await {
        let agent = task.random.below(commander.agents() as u64) as usize;
        commander.tell(agent, command);
        match command {
            Command::Cut => happened.cuts += 1,
            Command::Restart => happened.restarts += 1,
        }
    }
    Ok(happened)
}

struct Killing {
    task: Task,
    server: Arc<Server>,
    shared: Arc<Shared>,
    agents: u64,
    over: Arc<AtomicBool>,
    times: u32,
}

impl Killing {
    async fn run(mut self) -> Result<Happened> {
        let mut happened = Happened::default();
        while self.task.next().await {
            let counted = self.shared.stats.records_counted.load(Relaxed);
            let begin = Instant::now();
            let server = Arc::clone(&self.server);
            let restarted = tokio::task::spawn_blocking(move || server.kill_and_restart());
            happened.kills += 1;
            let listening = restarted.await?.context("after a kill").inspect_err(|_| {
                // There is nothing to go on with.
                self.over.store(true, Relaxed);
            });
            happened.listening.push(listening?);
            let last = self.times > 0 && happened.kills >= self.times;
            // The last one is waited for; the others only until the next is due.
            let patience = if last { Duration::from_secs(120) } else { self.task.every * 4 };
            if let Some(back) = self.back(begin, counted, patience, last).await {
                happened.back.push(back);
            }
            if last {
                self.over.store(true, Relaxed);
                break;
            }
        }
        Ok(happened)
    }

    /// How long it took since `begin` until everybody was back.
    async fn back(
        &mut self,
        begin: Instant,
        counted: u64,
        patience: Duration,
        last: bool,
    ) -> Option<Duration> {
        // Half of the kills do not wait: they hit an aggregator that is still coming back.
        if !last && self.task.random.chance(0.5) {
            return None;
        }
        let stats = &self.shared.stats;
        while begin.elapsed() < patience && (last || !*self.task.stopping.borrow()) {
            let back = stats.connected.load(Relaxed) == self.agents;
            if back && stats.records.load(Relaxed) >= counted {
                return Some(begin.elapsed());
            }
            sleep(EVERY).await;
        }
        None
    }
}
