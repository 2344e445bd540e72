//! What the aggregator uses and does, twice a second.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};

use crate::{fleet::Shared, server::Server};

const EVERY: Duration = Duration::from_millis(500);

/// One moment, and what happened since the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Since the load began.
    pub seconds: f64,
    pub cpu_cores: f64,
    pub resident_mb: f64,
    pub files: f64,
    pub threads: f64,
    pub connected: f64,
    pub records_per_second: f64,
    pub ack_p50_ms: f64,
    pub ack_p99_ms: f64,
    /// Whether a snapshot was being written, or was new.
    #[serde(default)]
    pub snapshot: bool,
}

/// Takes samples until it is to stop.
pub async fn run(
    server: Arc<Server>,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
) -> Vec<Moment> {
    let mut moments = Vec::new();
    let begin = Instant::now();
    let stats = &shared.stats;
    let mut last = (begin, stats.records.load(Relaxed), stats.latency.counts());
    let mut snapshots = server.snapshots();
    let mut cpu = server.usage().map(|usage| usage.cpu_seconds);
    while timeout(EVERY, stopping.wait_for(|stop| *stop)).await.is_err() {
        let now = Instant::now();
        let past = now.duration_since(last.0).as_secs_f64();
        let (records, counts) = (stats.records.load(Relaxed), stats.latency.counts());
        let acks = stats.latency.since(&last.2);
        // It is not there for a moment after it was killed.
        let usage = server.usage();
        let used = usage.map(|usage| usage.cpu_seconds);
        let cores = used.zip(cpu).map_or(0.0, |(now, before)| (now - before).max(0.0) / past);
        cpu = used.or(cpu);
        let usage = usage.unwrap_or_default();
        moments.push(Moment {
            seconds: now.duration_since(begin).as_secs_f64(),
            cpu_cores: cores,
            resident_mb: usage.resident_mb,
            files: usage.files,
            threads: usage.threads,
            connected: stats.connected.load(Relaxed) as f64,
            records_per_second: (records - last.1) as f64 / past,
            ack_p50_ms: acks.p50,
            ack_p99_ms: acks.p99,
            snapshot: {
                let now = server.snapshots();
                let written = now != snapshots;
                snapshots = now;
                written
            },
        });
        last = (now, records, counts);
    }
    moments
}
