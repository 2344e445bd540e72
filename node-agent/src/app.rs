//! The agent as a whole: starts its parts, and stops them in reverse order.

use std::{
    sync::{Arc, mpsc::SyncSender},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use proto::v1;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};

use crate::{
    addresses::Addresses,
    collector::{Collector, DRAIN_TIME, Parts, status},
    config::Config,
    former,
    http::{self, Health},
    metrics::Metrics,
    owners::{Owners, ProcFs},
    queue::{
        Leftovers, Queue, Spool,
        leftover::{self, Leftover},
    },
    runtimes::{NEWS_WAITING, Runtimes, Told, files::Files, kubernetes::PodNames},
    source::{ProgramState, Source},
    uplink::{Credentials, EVENTS_WAITING, Event, Patience, Recorder, Uplink, random},
};

/// Beyond [`DRAIN_TIME`], for the last look and for detaching the programs.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// For answers that are under way.
const HTTP_STOP_TIME: Duration = Duration::from_secs(1);

/// Runs the agent until `shutdown` resolves. `load` attaches the kernel programs; `listener`
/// serves `/metrics` and `/healthz` from the start.
///
/// # Errors
/// When the kernel programs cannot be loaded, or a part ends by itself.
pub async fn run<S, L>(
    config: Config,
    load: L,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()>
where
    S: Source,
    L: FnOnce() -> anyhow::Result<S> + Send + 'static,
{
    let recorder = config.record.as_deref().map(Recorder::new).transpose();
    let recorder = recorder.context("--record: cannot write the file")?;
    let metrics = Metrics::new().context("cannot set up the agent's own metrics")?;
    let credentials = Credentials::read(config.tls.clone(), &config.node, metrics.clone())?;
    let health = Health::default();
    let stop_http = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop_http);
    let served = http::serve(listener, metrics.clone(), health.clone(), async move {
        stopped.notified().await;
    });
    let mut http = tokio::spawn(served);

    let (told, news) = mpsc::channel(NEWS_WAITING);
    let stop_runtimes = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop_runtimes);
    let unnamed = look_for_names(&config, &told)?;
    let (pods, kubernetes) = config.kubernetes.clone().map(|settings| settings.prepare()).unzip();
    let runtimes = Runtimes { engines: config.container_engines.clone(), kubernetes };
    let runtimes = tokio::spawn(runtimes.run(told, metrics.clone(), async move {
        stopped.notified().await;
    }));

    let (events, heard) = mpsc::channel(EVENTS_WAITING);
    let (stop_collector, over) = watch::channel(false);
    let (mut ready, mut collector) = start_collector(
        &config,
        load,
        heard,
        (news, unnamed, pods),
        metrics.clone(),
        health.clone(),
        over,
    )?;
    tokio::pin!(shutdown);
    let session = tokio::select! {
        session = &mut ready => session.ok(),
        () = &mut shutdown => None,
    };
    let stop_uplink = Arc::new(Notify::new());
    let uplink = session.map(|Session { hello, leftovers }| {
        let stopped = Arc::clone(&stop_uplink);
        let (aggregators, leftovers) = (config.aggregators.clone(), leftovers.into());
        let patience = Patience::default();
        let uplink = Uplink {
            aggregators,
            credentials,
            hello,
            leftovers,
            patience,
            recorder,
            events,
            metrics,
        };
        tokio::spawn(uplink.run(async move {
            stopped.notified().await;
        }))
    });
    let mut result = Ok(());
    if uplink.is_some() {
        tokio::select! {
            () = &mut shutdown => match &config.pin_dir {
                Some(dir) => tracing::info!(dir = %dir.display(), "stopping; programs count on"),
                None => tracing::info!("stopping"),
            },
            ended = &mut collector => {
                result = ended.unwrap_or(Ok(())).and(Err(anyhow::anyhow!("the collector ended")));
            }
            ended = &mut http => {
                result = ended.context("http")?.context("cannot serve /metrics");
            }
        }
    }
    health.set_healthy(false);
    stop_collector.send_replace(true);
    if result.is_ok() {
        let ended = timeout(DRAIN_TIME + STOP_MARGIN, collector).await;
        result = ended.context("the collector does not stop")?.unwrap_or(Ok(()));
    }
    stop_runtimes.notify_one();
    runtimes.await.context("runtimes")?;
    stop_uplink.notify_one();
    if let Some(uplink) = uplink {
        uplink.await.context("uplink")?;
    }
    stop_http.notify_one();
    if !http.is_finished() {
        // A reader that dawdles does not keep the agent.
        let _ = timeout(HTTP_STOP_TIME, http).await;
    }
    result
}

/// What containers are called: what is told, and who is asked.
type Naming = (mpsc::Receiver<Told>, Option<SyncSender<String>>, Option<PodNames>);

type Ended = oneshot::Receiver<anyhow::Result<()>>;

/// What is known once the programs are loaded.
struct Session {
    hello: v1::Hello,
    leftovers: Vec<Leftover>,
}

/// Loads the programs and runs the collector, in a thread of its own. The first receiver gets the
/// session once the programs are loaded, the second how it ended.
fn start_collector<S: Source>(
    config: &Config,
    load: impl FnOnce() -> anyhow::Result<S> + Send + 'static,
    events: mpsc::Receiver<Event>,
    (runtimes, unnamed, pods): Naming,
    metrics: Metrics,
    health: Health,
    over: watch::Receiver<bool>,
) -> anyhow::Result<(oneshot::Receiver<Session>, Ended)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let config = config.clone();
    let (ready, is_ready) = oneshot::channel();
    let (ended, has_ended) = oneshot::channel();
    let work = move || -> anyhow::Result<()> {
        let mut source = load()?;
        give_back_memory();
        let programs = source.programs();
        let attached = programs.iter().filter(|program| program.state == ProgramState::Attached);
        metrics.set_programs(attached.count());
        for program in programs.iter().filter(|program| program.state == ProgramState::Failed) {
            let (program, without) = (program.name, program.lost_without);
            tracing::warn!(program, without, "a kernel program is not attached");
        }
        let missing = |program: &crate::source::Program| {
            program.essential && program.state != ProgramState::Attached
        };
        health.set_healthy(!programs.iter().any(missing));
        let session = source.ledger().map_or_else(random, |ledger| ledger.session());
        let hello = hello(&config, source.generation(), session);
        let mut owners = Owners::new(&config.node, config.cgroup.clone(), ProcFs::new("/proc"));
        let (queue, leftovers) = queue(&config, &hello, &mut source, &mut owners);
        // Nobody is left to hear it only when the agent is stopping already.
        let _ = ready.send(Session { hello, leftovers });
        let parts = Parts {
            source,
            owners,
            addresses: Addresses::new(ProcFs::new("/proc")),
            events,
            runtimes,
            unnamed,
            pods,
            metrics,
            interval: config.interval,
            max_halves: config.max_halves,
            queue,
        };
        runtime.block_on(Collector::new(parts).run(over));
        Ok(())
    };
    std::thread::Builder::new()
        .name("weft-collector".to_owned())
        .spawn(move || ended.send(work()))
        .context("cannot start the collector's thread")?;
    Ok((is_ready, has_ended))
}

/// Looks into the files of container runtimes, if there may be any.
fn look_for_names(
    config: &Config,
    told: &mpsc::Sender<Told>,
) -> anyhow::Result<Option<SyncSender<String>>> {
    let (roots, labels) = (config.container_states.clone(), config.container_labels.clone());
    if roots.is_empty() {
        return Ok(None);
    }
    let started = Files { roots, labels }.start(told.clone());
    started.map(Some).context("cannot start the thread that looks for names")
}

fn hello(config: &Config, generation: u64, session: u64) -> v1::Hello {
    v1::Hello {
        protocol_version: proto::PROTOCOL_VERSION,
        protocol_minor: proto::PROTOCOL_MINOR,
        node: config.node.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel_release(),
        boot_id: boot_id().to_vec(),
        generation,
        session,
        interval_ns: u64::try_from(config.interval.as_nanos()).unwrap_or(u64::MAX),
    }
}

/// The queue of the session, and what earlier processes left.
fn queue(
    config: &Config,
    hello: &v1::Hello,
    source: &mut impl Source,
    owners: &mut Owners,
) -> (Queue, Vec<Leftover>) {
    let shared = Arc::<Leftovers>::default();
    let dir = config.spool_dir.as_ref();
    let spool = |hello: &v1::Hello| {
        let (hello, shared) = (hello.clone(), Arc::clone(&shared));
        dir.map(|dir| Spool::new(dir.clone(), config.spool_max_bytes, hello, shared))
    };
    let mut last_reports = Vec::new();
    while let Some(mut former) = source.take_former() {
        // Without addresses the host would not be known by them until it tells of itself.
        let own = Addresses::new(ProcFs::new("/proc")).refresh(Vec::new(), Instant::now());
        let status = v1::NodeStatus {
            programs: source.programs().iter().map(status::wire).collect(),
            addresses: own.unwrap_or_default().iter().map(status::own).collect(),
            ..v1::NodeStatus::default()
        };
        let (hello, batches) = former::last_report(&mut former, status, owners, hello);
        let kept = spool(&hello).is_some_and(|mut spool| spool.keep(&batches));
        let report = Leftover::in_memory(hello, batches, former.folder, &shared);
        if kept {
            // In a file it outlives this process, too, and the host.
            report.remove();
        } else {
            last_reports.push(report);
        }
    }
    let mut leftovers = dir.map_or_else(Vec::new, |dir| leftover::find(dir, hello, &shared));
    let of_session = leftovers.iter().any(|leftover| leftover.hello().session == hello.session);
    leftovers.extend(last_reports);
    let queue = Queue::new(config.queue_max_bytes, spool(hello));
    let queue = match source.ledger().and_then(|ledger| ledger.past()) {
        Some(past) => {
            queue.resume(past.last_seq, past.acked, if of_session { past.last_seq } else { 0 })
        }
        None => queue,
    };
    (queue, leftovers)
}

/// Loading needs some 30 MB for a moment, most of it for the kernel's types; the allocator would
/// keep them.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: it has no requirements, and moves nothing that is in use.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Release of the running kernel; empty when it does not tell.
#[must_use]
pub fn kernel_release() -> String {
    let names = nix::sys::utsname::uname();
    names.map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// The kernel's boot id; zeros when it has none.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(32).collect();
    u128::from_str_radix(&digits, 16).map(u128::to_be_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests;
