//! What a run has used and done, between some moments of it.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use super::{Moment, faults::Happened, verdict::Verdict};
use crate::{
    fleet::Shared, process::Usage, report::figures::Figures, scenario::Scenario, server::Server,
};

/// Definitions are paid for over this time.
const AMORTISED_S: f64 = 600.0;

/// What was used and done up to some moment.
pub struct Mark {
    pub at: Instant,
    usage: Option<Usage>,
    own: Usage,
    records: u64,
    batches: u64,
    sent: u64,
    received: u64,
    pub latency: Vec<u64>,
}

impl Mark {
    pub fn now(server: &Server, shared: &Shared) -> Self {
        let stats = &shared.stats;
        Self {
            at: Instant::now(),
            usage: server.usage(),
            own: Usage::of(std::process::id()).unwrap_or_default(),
            records: stats.records.load(Relaxed),
            batches: stats.batches.load(Relaxed),
            sent: stats.bytes.sent.load(Relaxed),
            received: stats.bytes.received.load(Relaxed),
            latency: stats.latency.counts(),
        }
    }
}

/// What the figures are made of.
pub struct Inputs<'a> {
    pub scenario: &'a Scenario,
    pub agents: u64,
    pub edges: usize,
    pub halves: f64,
    /// Begin, connected, defined, load begins, load ends.
    pub marks: [&'a Mark; 5],
    pub moments: &'a [Moment],
    pub verdict: &'a Verdict,
    pub faults: &'a Happened,
    pub shared: &'a Shared,
}

impl Inputs<'_> {
    pub fn figures(&self) -> Figures {
        let [begin, connected, defined, from, to] = self.marks;
        let seconds = |a: &Mark, b: &Mark| b.at.duration_since(a.at).as_secs_f64();
        let cpu = |a: &Mark, b: &Mark| {
            Some(b.usage.as_ref()?.cpu_seconds - a.usage.as_ref()?.cpu_seconds)
        };
        let bytes = |a: &Mark, b: &Mark| (b.sent + b.received - a.sent - a.received) as f64;
        let records = (to.records - from.records) as f64;
        let wall = seconds(from, to);
        let mut all = Figures::default();
        all.add("agents", self.agents as f64, "");
        all.add("edges", self.edges as f64, "");
        all.add("halves at the start", self.halves, "");
        all.add("records", records, "");
        all.add("batches", (to.batches - from.batches) as f64, "");
        all.add("load", wall, "s");
        all.add("records per second", records / wall, "1/s");
        if let Some(cpu) = cpu(from, to) {
            all.add("aggregator CPU", cpu, "s");
            all.add("aggregator cores", cpu / wall, "");
            all.add("aggregator CPU per million records", cpu / records * 1e6, "s");
        }
        all.add("load tester CPU", to.own.cpu_seconds - from.own.cpu_seconds, "s");
        let steady = bytes(from, to) / records;
        let amortised = bytes(begin, defined)
            / (self.halves * AMORTISED_S / self.scenario.load.interval.as_secs_f64());
        all.add("bytes per record, steady", steady, "B");
        all.add(
            "- of which from the aggregator",
            (to.received - from.received) as f64 / records,
            "B",
        );
        all.add("bytes per record, definitions over 10 min", amortised, "B");
        all.add("bytes per record, both", steady + amortised, "B");
        all.add("bytes per half, handshake", bytes(begin, connected) / self.halves, "B");
        all.add("bytes per half, definitions", bytes(connected, defined) / self.halves, "B");
        all.add("time to connect", seconds(begin, connected), "s");
        all.add("time to define", seconds(connected, defined), "s");
        if let Some(cpu) = cpu(begin, connected) {
            all.add("aggregator CPU per connection", cpu / self.agents as f64 * 1e3, "ms");
        }
        let highest = |of: fn(&Moment) -> f64| self.moments.iter().map(of).fold(0.0, f64::max);
        all.add("aggregator memory, highest", highest(|m| m.resident_mb), "MB");
        if let Some(usage) = &to.usage {
            all.add("aggregator memory, end", usage.resident_mb, "MB");
            all.add("aggregator files, end", usage.files, "");
        }
        all.add("load tester memory, end", to.own.resident_mb, "MB");
        self.disk(&mut all);
        let stats = &self.shared.stats;
        all.add("reconnects", stats.reconnects.load(Relaxed) as f64, "");
        all.add("agents restarted", stats.restarts.load(Relaxed) as f64, "");
        self.faults.figures(&mut all);
        self.verdict.figures(&mut all);
        all
    }

    /// What is written for what comes in, and whether anybody waits for it.
    fn disk(&self, all: &mut Figures) {
        let [_, _, _, from, to] = self.marks;
        if let Some((to, from)) = to.usage.as_ref().zip(from.usage.as_ref()) {
            let written = to.written_mb - from.written_mb;
            all.add("written to disk", written, "MB");
            let received = (self.marks[4].sent - self.marks[3].sent) as f64 / 1e6;
            all.add("- per byte received", written / received, "");
        }
        let worst = |with: bool| {
            let moments = self.moments.iter().filter(|m| m.snapshot == with && m.ack_p99_ms > 0.0);
            let mut p99: Vec<_> = moments.map(|moment| moment.ack_p99_ms).collect();
            p99.sort_unstable_by(f64::total_cmp);
            p99
        };
        let (with, without) = (worst(true), worst(false));
        if with.is_empty() {
            return;
        }
        all.add("half seconds with a snapshot", with.len() as f64, "");
        for (what, p99) in [("with", with), ("without", without)] {
            let name = format!("- acknowledged after, p99, in half of those {what}");
            all.add(&name, p99.get(p99.len() / 2).copied().unwrap_or(f64::NAN), "ms");
            let name = format!("- acknowledged after, p99, in the worst of those {what}");
            all.add(&name, p99.last().copied().unwrap_or(f64::NAN), "ms");
        }
    }
}
