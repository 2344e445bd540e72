//! The agent's metrics of itself.

use std::time::Duration;

use prometheus::{
    Counter, Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::{queue::State, source::SlotUse};

/// Handles to all metrics; a clone counts into the same ones.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// 1 while a stream to the aggregator is up.
    pub connected: IntGauge,
    /// Attempts to connect that failed, and streams that broke.
    pub disconnects: IntCounter,
    /// Batches handed to the stream.
    pub batches_sent: IntCounter,
    /// Batches the aggregator has taken over.
    pub batches_acked: IntCounter,
    /// From sending a batch to its acknowledgement.
    pub ack_seconds: Histogram,
    /// Readers of these metrics that the system refused a connection.
    pub readers_delayed: IntCounter,
    /// Refreshes that the kernel refused.
    pub refresh_failures: IntCounter,
    /// End of the node's certificate, in seconds since the epoch.
    pub certificate_expiry: IntGauge,
    /// 1 while what was read before holds, because the certificate's files cannot be used.
    pub tls_stale: IntGauge,
    /// Halves in the report.
    pub halves: IntGauge,
    /// 1 while a container engine tells what happens to its containers, by its socket.
    pub engine_connected: IntGaugeVec,
    /// Times that it could not be asked, or stopped to tell.
    pub engine_failures: IntCounterVec,
    /// Events and containers of which it is not clear what they say.
    pub engine_unreadable: IntCounter,
    /// 1 while the API server of Kubernetes tells what happens to the node's pods.
    pub kubernetes_connected: IntGauge,
    /// Times that it could not be asked, or stopped to tell.
    pub kubernetes_failures: IntCounter,
    /// Pods and events of which it is not clear what they say, or for which there was no room.
    pub kubernetes_unreadable: IntCounter,
    /// Pods of the node.
    pub kubernetes_pods: IntGauge,
    container_names: IntGauge,
    container_names_refused: IntCounter,
    /// Batches of earlier processes that were delivered from files.
    pub spool_delivered: IntCounter,
    /// Times that this had to wait because it was not acknowledged.
    pub spool_postponed: IntCounter,
    /// Batches not acknowledged yet.
    pub queue_batches: IntGauge,
    queue_bytes: IntGauge,
    spool_bytes: IntGauge,
    spool_failures: IntCounter,
    spool_slow: IntCounter,
    programs_attached: IntGauge,
    slots_used: IntGauge,
    slots_capacity: IntGauge,
    losses: IntCounterVec,
    cpu_seconds: Counter,
    resident_bytes: IntGauge,
}

impl Metrics {
    /// A set of its own.
    ///
    /// # Errors
    /// When a name is wrong or taken, which a test rules out.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(format!("weft_agent_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(format!("weft_agent_{name}_total"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let connected = gauge("connected", "1 while a stream to the aggregator is up.")?;
        let disconnects =
            counter("disconnects", "Attempts to connect that failed, and streams that broke.")?;
        let batches_sent = counter("batches_sent", "Batches sent to the aggregator.")?;
        let batches_acked = counter("batches_acked", "Batches the aggregator acknowledged.")?;
        let queue_batches =
            gauge("queue_batches", "Batches not acknowledged yet, those in files included.")?;
        let queue_bytes = gauge("queue_bytes", "Bytes of such batches in memory.")?;
        let spool_bytes = gauge("spool_bytes", "Bytes of such batches in files.")?;
        let spool_failures =
            counter("spool_failures", "Spool files that could not be written or removed.")?;
        let spool_slow = counter("spool_slow", "Batches that the disk took longer than 1 s for.")?;
        let spool_delivered = counter(
            "spool_delivered",
            "Batches of earlier processes that the aggregator took over from files.",
        )?;
        let spool_postponed = counter(
            "spool_postponed",
            "Times that delivering such batches was put off because they were not acknowledged.",
        )?;
        let readers_delayed = counter(
            "accepts_delayed",
            "Times that readers of these metrics had to wait because the system refused them.",
        )?;
        let refresh_failures =
            counter("refresh_failures", "Looks at live sockets that the kernel refused.")?;
        let certificate_expiry =
            gauge("certificate_expiry_timestamp_seconds", "When the node's certificate expires.")?;
        let tls_stale = gauge(
            "tls_stale",
            "1 while what was read before holds, because the certificate's files cannot be used.",
        )?;
        let halves = gauge("halves", "Halves of edges known.")?;
        let options = Opts::new(
            "weft_agent_container_engine_connected",
            "1 while the engine at a socket tells what happens to its containers.",
        );
        let engine_connected = IntGaugeVec::new(options, &["socket"])?;
        registry.register(Box::new(engine_connected.clone()))?;
        let options = Opts::new(
            "weft_agent_container_engine_failures_total",
            "Times that the engine at a socket could not be asked, or stopped to tell.",
        );
        let engine_failures = IntCounterVec::new(options, &["socket"])?;
        registry.register(Box::new(engine_failures.clone()))?;
        let engine_unreadable = counter(
            "container_engine_unreadable",
            "Events and containers of engines that could not be read.",
        )?;
        let kubernetes_connected = gauge(
            "kubernetes_connected",
            "1 while the API server tells what happens to the pods of the node.",
        )?;
        let kubernetes_failures = counter(
            "kubernetes_failures",
            "Times that the API server could not be asked, or stopped to tell.",
        )?;
        let kubernetes_unreadable = counter(
            "kubernetes_unreadable",
            "Pods and events that could not be read, or that there was no room for.",
        )?;
        let kubernetes_pods = gauge("kubernetes_pods", "Pods of the node.")?;
        let container_names = gauge("container_names", "Containers whose names are known.")?;
        let container_names_refused = counter(
            "container_names_refused",
            "Times that there was no room for the name of a container.",
        )?;
        let programs_attached = gauge("programs_attached", "Kernel programs attached.")?;
        let slots_used = gauge("slots_used", "Kernel slots in use.")?;
        let slots_capacity = gauge("slots_capacity", "Kernel slots there are.")?;
        let resident_bytes = gauge("resident_bytes", "Resident memory of the agent.")?;
        let options = HistogramOpts::new(
            "weft_agent_ack_seconds",
            "From sending a batch to its acknowledgement.",
        );
        let buckets = vec![0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
        let ack_seconds = Histogram::with_opts(options.buckets(buckets))?;
        registry.register(Box::new(ack_seconds.clone()))?;
        let options = Opts::new("weft_agent_losses_total", "What was not counted, by cause.");
        let losses = IntCounterVec::new(options, &["cause"])?;
        registry.register(Box::new(losses.clone()))?;
        let cpu_seconds =
            Counter::new("weft_agent_cpu_seconds_total", "User and system time of the agent.")?;
        registry.register(Box::new(cpu_seconds.clone()))?;
        Ok(Self {
            registry,
            connected,
            disconnects,
            batches_sent,
            batches_acked,
            ack_seconds,
            queue_batches,
            queue_bytes,
            spool_bytes,
            spool_failures,
            spool_slow,
            spool_delivered,
            spool_postponed,
            readers_delayed,
            refresh_failures,
            certificate_expiry,
            tls_stale,
            halves,
            engine_connected,
            engine_failures,
            engine_unreadable,
            kubernetes_connected,
            kubernetes_failures,
            kubernetes_unreadable,
            kubernetes_pods,
            container_names,
            container_names_refused,
            programs_attached,
            slots_used,
            slots_capacity,
            losses,
            cpu_seconds,
            resident_bytes,
        })
    }

    /// How many programs are attached.
    pub fn set_programs(&self, attached: usize) {
        self.programs_attached.set(attached as i64);
    }

    /// How full the slots are.
    pub fn set_slots(&self, slots: SlotUse) {
        self.slots_used.set(slots.used.into());
        self.slots_capacity.set(slots.capacity.into());
    }

    /// How full the queue is.
    pub fn set_queue(&self, queue: &State) {
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.queue_batches.set(gauge(queue.batches));
        self.queue_bytes.set(gauge(queue.memory_bytes as u64));
        self.spool_bytes.set(gauge(queue.spool_bytes));
        for (counter, total) in
            [(&self.spool_failures, queue.spool_failures), (&self.spool_slow, queue.spool_slow)]
        {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    /// What is known of containers, and what there was no room for.
    pub fn set_names(&self, names: usize, refused: u64) {
        self.container_names.set(names as i64);
        let counter = &self.container_names_refused;
        counter.inc_by(refused.saturating_sub(counter.get()));
    }

    /// Brings the counter of a cause up to a total.
    pub fn set_loss(&self, cause: &str, total: u64) {
        let counter = self.losses.with_label_values(&[cause]);
        counter.inc_by(total.saturating_sub(counter.get()));
    }

    /// All metrics in the text format.
    ///
    /// # Errors
    /// When the encoder refuses a metric.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        if let Some((cpu, resident)) = own_use() {
            self.cpu_seconds.inc_by((cpu.as_secs_f64() - self.cpu_seconds.get()).max(0.0));
            self.resident_bytes.set(resident);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Processor time and resident bytes of this process.
fn own_use() -> Option<(Duration, i64)> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()?;
    let time = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = pages.split(' ').nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some((time(usage.user_time()) + time(usage.system_time()), pages.saturating_mul(page)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_every_metric() {
        let metrics = Metrics::new().unwrap();
        metrics.set_loss("hints_full", 4);
        metrics.set_loss("hints_full", 3);
        metrics.set_slots(SlotUse { used: 5, capacity: 9 });
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        for line in [
            "weft_agent_connected 0",
            "weft_agent_losses_total{cause=\"hints_full\"} 4",
            "weft_agent_slots_used 5",
            "weft_agent_ack_seconds_count 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
        assert!(metrics.resident_bytes.get() > 1 << 20);
        assert!(metrics.cpu_seconds.get() > 0.0);
    }
}
