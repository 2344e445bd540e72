//! A world from its seed to its verdict.

use std::{
    fmt::{self, Write as _},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    draw,
    feature::Features,
    plan::World,
    play::Stage,
    ports::{Again, used_again},
    verdict::Verdict,
};
use crate::{
    Error, Result,
    error::Context,
    fleet::{Graph, published},
    truth::Truth,
};

/// How long the graph may take to be what it will be.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// A graph that was not true and did not change for so long will not be.
const STILL: Duration = Duration::from_secs(15);

/// How long a true graph is watched for something that must not come.
const STAY: Duration = Duration::from_secs(2);

/// Pause between two looks at the graph.
const LOOK: Duration = Duration::from_millis(200);

/// How a world is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What may happen in it.
    pub features: Features,
    /// Where what is known of a world that came out wrong is left.
    pub keep: Option<PathBuf>,
}

/// What came of a world.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Its hosts.
    pub hosts: usize,
    /// Its workloads.
    pub workloads: usize,
    /// Connections that there were.
    pub connections: u64,
    /// Payload bytes both ways.
    pub bytes: u64,
    /// How the graph compares.
    pub verdict: Verdict,
    /// How long it took: until everybody was ready, until everything had happened, and altogether.
    pub took: [Duration; 3],
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "seed {}: {} hosts, {} workloads, {} edges, {} connections, {:.1} MB: {}, {:.1} s (ready {:.1}, played {:.1})",
            self.seed,
            self.hosts,
            self.workloads,
            self.verdict.true_edges,
            self.connections,
            self.bytes as f64 / 1e6,
            self.verdict,
            self.took[2].as_secs_f64(),
            self.took[0].as_secs_f64(),
            self.took[1].as_secs_f64()
        )
    }
}

/// Draws, plays and compares. A graph that is not true is an outcome, not an error.
///
/// # Errors
/// When the world cannot be made, or does not do as it is told.
pub fn run(seed: u64, options: &Options) -> Result<Outcome> {
    let begin = Instant::now();
    let world = draw::draw(seed, &options.features);
    world.check().map_err(|reason| Error::Answer { who: format!("seed {seed}"), reason })?;
    let mut stage = Stage::new(&world)?;
    let ready = begin.elapsed();
    stage.play()?;
    let played = begin.elapsed();
    let truth = stage.truth()?;
    let again = used_again(&world, &stage.reports()?);
    let (served, verdict) = settle(&stage, &world, &truth, &again)?;
    if let Some(folder) = options.keep.as_deref().filter(|_| !verdict.is_exact()) {
        let folder = folder.join(format!("seed-{seed}"));
        keep(&folder, &mut stage, &world, &truth, &served, &verdict)
            .context(|| format!("write {}", folder.display()))?;
    }
    let Stage { fleet, .. } = stage;
    fleet.stop()?;
    Ok(Outcome {
        seed,
        hosts: world.hosts.len(),
        workloads: world.workloads.len(),
        connections: truth.values().map(|edge| edge.connections).sum(),
        bytes: truth.values().map(|edge| edge.bytes_to_server + edge.bytes_to_client).sum(),
        verdict,
        took: [ready, played, begin.elapsed()],
    })
}

/// Waits until the graph is true and stays so, or will not be any more.
fn settle(
    stage: &Stage<'_>,
    world: &World,
    truth: &Truth,
    again: &[Again],
) -> Result<(Value, Verdict)> {
    let Stage { fleet, path, .. } = stage;
    let begin = Instant::now();
    let mut last = (Value::Null, begin);
    let mut true_since = None;
    loop {
        let served = fleet.json(path)?;
        let graph = Graph::parse(&served)?;
        let now = Instant::now();
        if served["edges"] != last.0["edges"] {
            last = (served.clone(), now);
        }
        let pending = graph.documents.values().any(|edge| edge["pending"] != false);
        let published = published(&fleet.get("/metrics")?.body)?;
        let verdict = Verdict::new(world, truth, again, &graph, &published);
        if !pending && verdict.is_exact() {
            let since = *true_since.get_or_insert(now);
            if now.duration_since(since) >= STAY {
                return Ok((served, verdict));
            }
        } else {
            true_since = None;
        }
        let still = !pending && now.duration_since(last.1) >= STILL;
        if still || now.duration_since(begin) >= SETTLE_LIMIT {
            return Ok((served, verdict));
        }
        std::thread::sleep(LOOK);
    }
}

/// Leaves everything that is known of a world.
fn keep(
    folder: &Path,
    stage: &mut Stage<'_>,
    world: &World,
    truth: &Truth,
    served: &Value,
    verdict: &Verdict,
) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("wrong.txt"), &verdict.wrong)?;
    fs::write(folder.join("world.txt"), format!("{world:#?}\n"))?;
    fs::write(folder.join("served.json"), format!("{served:#}\n"))?;
    let truth: Vec<_> = truth.iter().map(|edge| json!(format!("{edge:?}"))).collect();
    fs::write(folder.join("truth.json"), format!("{:#}\n", json!(truth)))?;
    let mut connections = String::new();
    for (who, report) in stage.reports().unwrap_or_default() {
        let client = world.workloads.get(who).map(|workload| workload.shown.as_str());
        for connection in report.connections {
            let _ = writeln!(connections, "{} {connection:?}", client.unwrap_or_default());
        }
    }
    fs::write(folder.join("connections.txt"), connections)?;
    for path in ["nodes", "coverage"] {
        let answer = stage.fleet.get(&format!("/api/v1/{path}"));
        let answer = answer.map_or_else(|error| error.to_string(), |answer| answer.body);
        fs::write(folder.join(format!("{path}.json")), answer)?;
    }
    // What the programs wrote is in the lab's folder, which goes.
    for entry in fs::read_dir(stage.lab.folder())?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    Ok(())
}
