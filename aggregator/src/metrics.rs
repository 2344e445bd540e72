//! The aggregator's own metrics. Handles are made once; hot paths only add.

mod kubernetes;
mod tls;

use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};
use topology::Stats;

pub use kubernetes::KubernetesMetrics;
pub use tls::TlsMetrics;

/// The aggregator's own metrics.
pub struct Metrics {
    registry: Registry,
    /// Streams of agents that are open.
    pub streams: IntGauge,
    /// Streams that were refused, by reason.
    pub streams_refused: IntCounterVec,
    /// Certificates.
    pub tls: TlsMetrics,
    /// The watch of Kubernetes.
    pub kubernetes: KubernetesMetrics,
    /// Batches taken over.
    pub batches: IntCounter,
    /// Batches that had been taken over before.
    pub batches_replayed: IntCounter,
    /// Records in batches.
    pub records: IntCounter,
    /// Records of halves that their stream had not defined.
    pub records_undefined: IntCounter,
    /// Definitions that could not be used.
    pub definitions_refused: IntCounter,
    /// Sections of an unknown kind.
    pub sections_unknown: IntCounter,
    /// Seconds it takes to add a batch to the graph, waiting for the graph included.
    pub apply_seconds: Histogram,
    /// Seconds a tick takes.
    pub tick_seconds: Histogram,
    /// By how much the aggregator's time is ahead of the wall clock.
    pub clock_ahead_seconds: Gauge,
    /// Connections that had to wait because the system refused to accept them, or there was no place, by whose.
    pub accepts_delayed: IntCounterVec,
    /// HTTP requests, by route and status.
    pub http_requests: IntCounterVec,
    /// Answers that were cut off because their reader was slow and others waited.
    pub answers_cut: IntCounter,
    /// Readers' connections that were ended because others waited.
    pub readers_ended: IntCounter,
    /// Bytes of batches.
    pub batch_bytes: IntCounter,
    /// What is written to the data directory.
    pub store: StoreMetrics,
    /// The history in it.
    pub history: HistoryMetrics,
    /// Bytes that the system lets the aggregator have, 0 when it sets no limit.
    pub memory_limit: IntGauge,
    graph_size: IntGaugeVec,
    /// Records for halves that the graph had forgotten, as it counts them itself.
    records_stale: IntCounter,
    halves_folded: IntCounter,
    edges_folded: IntCounter,
    edges_unplaced: IntCounter,
    workloads_folded: IntCounter,
    series_forgotten: IntCounter,
    /// Seconds for which streams were not read because they had brought too much.
    pub streams_held_up_seconds: Counter,
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let made = Make { registry: &registry };
        let build =
            made.gauges("build_info", "Always 1; the version is in the label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let store = StoreMetrics::new(&made)?;
        Ok(Self {
            streams: made.gauge("streams", "Streams of agents that are open.")?,
            streams_refused: made.counters(
                "streams_refused_total",
                "Streams of agents that were refused.",
                &["reason"],
            )?,
            tls: TlsMetrics::new(&made)?,
            kubernetes: KubernetesMetrics::new(&made)?,
            batches: made.counter("batches_total", "Batches taken over.")?,
            batches_replayed: made.counter(
                "batches_replayed_total",
                "Batches that had been taken over before and changed nothing.",
            )?,
            records: made.counter("records_total", "Records of halves in batches.")?,
            records_undefined: made.counter(
                "records_undefined_total",
                "Records of halves that their stream had not defined.",
            )?,
            definitions_refused: made
                .counter("definitions_refused_total", "Definitions that could not be used.")?,
            sections_unknown: made
                .counter("sections_unknown_total", "Sections of an unknown kind, skipped.")?,
            apply_seconds: made.histogram(
                "batch_apply_seconds",
                "Time to add a batch to the graph, waiting for the graph included.",
            )?,
            tick_seconds: made.histogram("tick_seconds", "Time a tick of the graph takes.")?,
            clock_ahead_seconds: made.register(Gauge::with_opts(opts(
                "clock_ahead_seconds",
                "The aggregator's time less the wall clock, which it follows slowly when that is set.",
            ))?)?,
            accepts_delayed: made.counters(
                "accepts_delayed_total",
                "Times that connections had to wait: all places taken, or refused by the system.",
                &["side"],
            )?,
            http_requests: made.counters(
                "http_requests_total",
                "HTTP requests answered.",
                &["route", "code"],
            )?,
            answers_cut: made.counter(
                "answers_cut_total",
                "Answers cut off because their reader was slow and others waited.",
            )?,
            readers_ended: made.counter(
                "readers_ended_total",
                "Idle connections of readers ended because others waited.",
            )?,
            batch_bytes: made
                .counter("batch_bytes_total", "Bytes of batches, as the journal has them.")?,
            history: HistoryMetrics::new(&made, &store)?,
            store,
            records_stale: made
                .counter("records_stale_total", "Records of halves that were no longer known.")?,
            halves_folded: made.counter(
                "halves_folded_total",
                "Halves for which there was no room; they count for `other`.",
            )?,
            edges_folded: made.counter(
                "edges_folded_total",
                "Links whose edges there was no room for; they count for `other`.",
            )?,
            edges_unplaced: made.counter(
                "edges_unplaced_total",
                "Edges whose hosts and workloads are not told apart any more: there was no room.",
            )?,
            workloads_folded: made.counter(
                "workloads_folded_total",
                "Workloads for which there was no room; they count as `other`.",
            )?,
            series_forgotten: made.counter(
                "series_forgotten_total",
                "Series that were forgotten when others needed their room; none was shown any more.",
            )?,
            streams_held_up_seconds: made.seconds(
                "streams_held_up_seconds_total",
                "Time for which streams were not read because they had brought too much.",
            )?,
            memory_limit: made.gauge(
                "memory_limit_bytes",
                "Memory that the aggregator's cgroup lets it have, 0 without a limit.",
            )?,
            graph_size: made.gauges("graph_size", "How many there are of each kind.", &["kind"])?,
            registry,
        })
    }

    /// Takes over what the graph says of itself.
    pub fn set_graph_stats(&self, stats: &Stats) {
        for (kind, size) in [
            ("services", stats.services),
            ("halves", stats.halves),
            ("links", stats.links),
            ("links_queued", stats.links_queued),
            ("edges", stats.edges),
            ("series", stats.series),
        ] {
            self.graph_size.with_label_values(&[kind]).set(i64::try_from(size).unwrap_or(i64::MAX));
        }
        for (counter, total) in [
            (&self.records_stale, stats.stale_records),
            (&self.halves_folded, stats.halves_folded),
            (&self.edges_folded, stats.edges_folded),
            (&self.edges_unplaced, stats.edges_unplaced),
            (&self.workloads_folded, stats.workloads_folded),
            (&self.series_forgotten, stats.series_forgotten),
        ] {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    /// Everything that is registered.
    #[must_use]
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

/// What is written to the data directory, and read from it.
#[derive(Clone)]
pub struct StoreMetrics {
    /// Bytes appended to the journal.
    pub journal_bytes: IntCounter,
    /// Seconds it takes to write and sync entries of the journal.
    pub journal_write_seconds: Histogram,
    /// 1 while the disk hangs.
    pub journal_stalled: IntGauge,
    /// 1 while the journal cannot be written.
    pub journal_failing: IntGauge,
    /// How often that began.
    pub journal_failures: IntCounter,
    /// Entries of the journal that were read at the start.
    pub journal_replayed: IntCounter,
    /// Snapshots written.
    pub snapshots: IntCounter,
    /// Snapshots that could not be written.
    pub snapshots_failed: IntCounter,
    /// Seconds the state is held for a snapshot.
    pub snapshot_hold_seconds: Histogram,
    /// Bytes of the last snapshot.
    pub snapshot_bytes: IntGauge,
    /// Bytes of all snapshots written.
    pub snapshot_bytes_written: IntCounter,
    /// Files that could not be read and were put aside.
    pub files_put_aside: IntCounter,
    /// Answers that were given before the journal had all they said.
    pub answers_ahead: IntCounter,
}

impl StoreMetrics {
    fn new(made: &Make<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            journal_bytes: made.counter("journal_bytes_total", "Bytes appended to the journal.")?,
            journal_write_seconds: made.histogram(
                "journal_write_seconds",
                "Time to write and sync a group of entries of the journal.",
            )?,
            journal_failing: made.gauge(
                "journal_failing",
                "1 while the journal cannot be written: nothing is acknowledged then.",
            )?,
            journal_stalled: made.gauge(
                "journal_stalled",
                "1 while the disk has taken longer than 5 s to write: nothing is acknowledged then.",
            )?,
            journal_failures: made
                .counter("journal_failures_total", "How often the journal began to fail.")?,
            journal_replayed: made.counter(
                "journal_replayed_total",
                "Entries of the journal that were done again at the start.",
            )?,
            snapshots: made.counter("snapshots_total", "Snapshots written.")?,
            snapshots_failed: made
                .counter("snapshots_failed_total", "Snapshots that could not be written.")?,
            snapshot_hold_seconds: made.histogram(
                "snapshot_hold_seconds",
                "Time for which the state is held for a snapshot.",
            )?,
            snapshot_bytes: made.gauge("snapshot_bytes", "Size of the last snapshot.")?,
            snapshot_bytes_written: made
                .counter("snapshot_bytes_written_total", "Bytes of all snapshots written.")?,
            files_put_aside: made.counter(
                "files_put_aside_total",
                "Files of the data directory that could not be read and were put aside.",
            )?,
            answers_ahead: made.counter(
                "answers_ahead_of_journal_total",
                "Answers that were given before the journal had all they said.",
            )?,
        })
    }
}

/// The history.
#[derive(Clone)]
pub struct HistoryMetrics {
    /// Bytes of steps, merged ones included.
    pub bytes: IntCounter,
    /// Seconds it takes to write a step.
    pub write_seconds: Histogram,
    /// 1 while the history cannot be written.
    pub failing: IntGauge,
    /// Steps that are in memory only, and will be forgotten.
    pub steps_lost: IntCounter,
    /// Rows between workloads that there was no room for a name for.
    pub rows_folded: IntCounter,
    /// Rows between workloads of before there is anything between workloads.
    pub rows_dropped: IntCounter,
    /// Questions that could not be answered from the history.
    pub read_failures: IntCounter,
    /// Files that could not be read and were put aside.
    pub files_put_aside: IntCounter,
}

impl HistoryMetrics {
    fn new(made: &Make<'_>, store: &StoreMetrics) -> Result<Self, prometheus::Error> {
        Ok(Self {
            bytes: made.counter(
                "history_bytes_total",
                "Bytes of steps written to the history, those that others were merged into included.",
            )?,
            write_seconds: made
                .histogram("history_write_seconds", "Time to write a step of the history.")?,
            failing: made.gauge("history_failing", "1 while the history cannot be written.")?,
            steps_lost: made.counter(
                "history_steps_lost_total",
                "Steps that could not be written and will be forgotten.",
            )?,
            rows_folded: made.counter(
                "history_rows_folded_total",
                "Rows between workloads that went to `other`: there was no room for more names.",
            )?,
            rows_dropped: made.counter(
                "history_rows_dropped_total",
                "Rows between workloads that came late and are of before the history has any; between services they are there.",
            )?,
            read_failures: made.counter(
                "history_read_failures_total",
                "Questions that could not be answered from the history.",
            )?,
            files_put_aside: store.files_put_aside.clone(),
        })
    }
}

struct Make<'a> {
    registry: &'a Registry,
}

impl Make<'_> {
    fn register<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        collector: C,
    ) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::with_opts(opts(name, help))?)
    }

    fn seconds(&self, name: &str, help: &str) -> Result<Counter, prometheus::Error> {
        self.register(Counter::with_opts(opts(name, help))?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(opts(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::with_opts(opts(name, help))?)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(opts(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        let bounds = prometheus::exponential_buckets(0.000_1, 4.0, 8)?;
        let opts = HistogramOpts::from(opts(name, help)).buckets(bounds);
        self.register(Histogram::with_opts(opts)?)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("weft").subsystem("aggregator")
}
