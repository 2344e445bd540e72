//! The one task that owns the kernel's maps and the report.
//!
//! Everything that reads the kernel or `/proc` happens here, in a thread of its own, so that a slow
//! look at many sockets never holds up the network. It hears of the network by events and
//! answers with batches; both ways are bounded, and neither is waited for.

mod apart;
mod early;
mod look;
mod names;
mod outgoing;
pub(crate) mod status;

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::mpsc::SyncSender,
    time::{Duration, Instant},
};

use common::kernel::{HintKind, SLOTS};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, watch},
    time::{Instant as TokioInstant, MissedTickBehavior, interval_at, sleep_until},
};

use crate::{
    addresses::Addresses,
    clock::Moment,
    ledger::Link,
    metrics::Metrics,
    nat::Nat,
    owners::{NewContainer, Owners},
    queue::{Entry, Queue},
    report::Report,
    runtimes::{Told, kubernetes::PodNames},
    source::Source,
    uplink::Event,
};
use apart::Apart;
use early::Early;
use names::news;
use outgoing::{Outgoing, Sent};
use status::Status;

/// What is left after a shutdown has this long to be sent and acknowledged.
pub const DRAIN_TIME: Duration = Duration::from_secs(3);

/// How a collector is made.
pub struct Parts<S> {
    /// The kernel.
    pub source: S,
    /// Names owners.
    pub owners: Owners,
    /// The node's own addresses.
    pub addresses: Addresses,
    /// From the uplink.
    pub events: mpsc::Receiver<Event>,
    /// From the runtimes of containers.
    pub runtimes: mpsc::Receiver<Told>,
    /// Takes names of containers that nobody has said anything of; `None` when nobody would know.
    pub unnamed: Option<SyncSender<String>>,
    /// Knows pods.
    pub pods: Option<PodNames>,
    /// Counted into.
    pub metrics: Metrics,
    /// Time between two looks at everything.
    pub interval: Duration,
    /// How many halves are told apart at a time.
    pub max_halves: u32,
    /// Keeps batches until they are acknowledged.
    pub queue: Queue,
}

/// Reads the kernel and fills the report.
pub struct Collector<S> {
    source: S,
    owners: Owners,
    addresses: Addresses,
    nat: Nat,
    events: mpsc::Receiver<Event>,
    /// `None` when nobody tells anything any more.
    runtimes: Option<mpsc::Receiver<Told>>,
    unnamed: Option<SyncSender<String>>,
    pods: Option<PodNames>,
    /// Those that there was no room for.
    unasked: Vec<NewContainer>,
    metrics: Metrics,
    interval: Duration,
    report: Report,
    /// What slots were reported as by the process before, until they have been looked at.
    links: HashMap<u32, Link>,
    /// Nothing was told of the session yet that a process before this one had begun.
    resumed: bool,
    status: Status,
    early: Early,
    apart: Apart,
    queue: Queue,
    outgoing: Option<Outgoing>,
    /// Sending stopped because the network takes no more for the moment.
    full: bool,
    listed: Option<Instant>,
    tidied: Option<Instant>,
    refresh_fails: bool,
}

impl<S: Source> Collector<S> {
    /// One that has not looked yet.
    #[must_use]
    pub fn new(parts: Parts<S>) -> Self {
        let Parts {
            mut source,
            mut owners,
            addresses,
            events,
            runtimes,
            unnamed,
            pods,
            metrics,
            interval,
            max_halves,
            queue,
        } = parts;
        let status = Status::new(source.programs());
        let now = Instant::now();
        let past = source.ledger().and_then(|ledger| ledger.past());
        let max_halves = max_halves as usize;
        let report = match &past {
            Some(past) => Report::resume(past, max_halves, now),
            None => Report::new(max_halves),
        };
        let resumed = past.is_some();
        let links = past.map(|past| past.links).unwrap_or_default();
        for link in links.values() {
            let known = source.owner(link.owner);
            owners.recall(link.owner, &link.half.workload, known, now);
        }
        Self {
            source,
            owners,
            addresses,
            nat: Nat::default(),
            events,
            runtimes: Some(runtimes),
            unnamed,
            pods,
            unasked: Vec::new(),
            metrics,
            interval,
            report,
            links,
            resumed,
            status,
            early: Early::default(),
            apart: Apart::default(),
            queue,
            outgoing: None,
            full: false,
            listed: None,
            tidied: None,
            refresh_fails: false,
        }
    }

    /// Runs until `shutdown` turns true or its sender is gone; then sends what is left, within
    /// [`DRAIN_TIME`].
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let hints = self.hint_fd();
        // What is there already is looked at before anything else.
        self.tick();
        let mut ticks = interval_at(TokioInstant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.early.due();
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|over| *over) => break,
                // Before what may come without end: a storm of hints must not keep an interval waiting.
                _ = ticks.tick() => self.tick(),
                event = self.events.recv() => match event {
                    Some(event) => self.hear(event),
                    None => break,
                },
                () = sleep_until(due.unwrap_or_else(TokioInstant::now)), if due.is_some() => {
                    self.look_early();
                }
                () = readable(hints.as_ref()) => self.follow_hints(),
                news = news(self.runtimes.as_mut()) => self.hear_names(news),
                () = room(self.outgoing.as_ref()), if self.full => self.send(),
            }
        }
        self.drain().await;
    }

    fn hint_fd(&self) -> Option<AsyncFd<OwnedFd>> {
        let fd = self.source.hint_fd()?;
        let fd = fd.try_clone_to_owned().map_err(anyhow::Error::from);
        let fd = fd.and_then(|fd| {
            // SAFETY: an `OwnedFd` owns its descriptor, and is the same one as long as it lives.
            #[allow(unsafe_code)]
            let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
            registered.map_err(|error| std::io::Error::from(error).into())
        });
        fd.inspect_err(|error| tracing::warn!("hints wait for the next interval: {error:#}")).ok()
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Up(stream) => {
                self.acked(stream.acked);
                self.report.start();
                self.status.certificate_expires(stream.certificate_expires_unix_s);
                self.outgoing = Some(Outgoing::new(stream, &mut self.queue, &mut self.report));
                self.update_status();
                self.build();
                self.send();
            }
            Event::Acked(seq) => {
                if let Some(outgoing) = &mut self.outgoing {
                    outgoing.acked(seq, &self.metrics);
                    self.acked(seq);
                }
                self.send();
            }
            Event::Asked(tuples) => {
                self.answer(tuples);
                self.early.arm(TokioInstant::now());
            }
            Event::Split(endpoints) => self.split(&endpoints),
            Event::Down => self.hang_up(),
        }
    }

    fn acked(&mut self, seq: u64) {
        // A number that was never sent is not believed.
        let seq = seq.min(self.report.last_seq());
        self.queue.acked(seq);
        self.report.acked(seq);
        if let Some(ledger) = self.source.ledger() {
            ledger.acked(seq);
        }
        self.report.let_go(self.queue.start());
    }

    fn hang_up(&mut self) {
        self.outgoing = None;
        self.full = false;
        self.report.stop();
    }

    fn follow_hints(&mut self) {
        let mut hints = Vec::new();
        self.source.hints(&mut |hint| hints.push(hint));
        let now = TokioInstant::now();
        for hint in hints {
            if hint.kind == HintKind::Owner as u32 {
                // At once: the process may be gone in a moment.
                let source = &mut self.source;
                self.owners.workload(hint.subject, now.into_std(), |id| source.owner(id));
            } else if hint.kind == HintKind::Slot as u32 {
                let slot = u32::try_from(hint.subject).ok().filter(|slot| *slot < SLOTS);
                slot.into_iter().for_each(|slot| self.early.slot(slot, now));
            } else if hint.kind == HintKind::Listener as u32 {
                self.early.listeners(now);
            }
        }
        self.ask_for_names();
    }

    fn look_early(&mut self) {
        let look = self.early.take(TokioInstant::now());
        let now = Instant::now();
        self.read_slots(look.slots.as_deref(), now);
        if look.listeners {
            self.read_listeners(now);
        }
        // Without a stream nobody waits for it.
        if self.outgoing.is_some() && self.report.take_urgent() {
            self.build();
            self.send();
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.outgoing.as_ref().is_some_and(|outgoing| outgoing.is_stalled(now.into())) {
            // Tells the uplink, which starts anew.
            self.hang_up();
        }
        self.follow_hints();
        self.refresh();
        // On a busy host, each of these may take longer than a short life.
        self.follow_hints();
        self.read_slots(None, now);
        self.links.clear();
        if std::mem::take(&mut self.resumed) {
            self.pass_over();
        }
        self.follow_hints();
        self.read_host(now);
        self.ask_for_names();
        self.tidy(now);
        // Whoever comes next is told the latest: in each queued batch it would take room.
        if self.outgoing.is_some() {
            self.update_status();
        }
        self.build();
        self.send();
        self.metrics.set_queue(&self.queue.state());
    }

    /// Has all that is known told in the preface of the next stream.
    fn pass_over(&mut self) {
        let seq = self.report.pass_over();
        if let Some(ledger) = self.source.ledger() {
            ledger.built(seq, &[]);
        }
        self.queue.pass_over(seq, Moment::now());
    }

    /// Puts what there is into batches, whether or not there is a stream.
    fn build(&mut self) {
        let ended = Moment::now();
        while let Some(batch) = self.report.build() {
            if let Some(ledger) = self.source.ledger() {
                ledger.built(batch.seq, &self.report.retired_by(batch.seq));
            }
            self.queue.push(Entry::of(&batch, ended), &mut self.report);
        }
        self.report.let_go(self.queue.start());
        self.report.take_urgent();
    }

    /// Sends what the queue holds, as far as there is room.
    fn send(&mut self) {
        let Some(outgoing) = &mut self.outgoing else { return };
        let sent = outgoing.send(&mut self.queue, &mut self.report, &self.metrics);
        self.full = sent == Sent::Full;
        if sent == Sent::Broken {
            self.hang_up();
        }
    }

    /// What was not kept, for the status.
    fn queue_losses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let state = self.queue.state();
        let losses = [
            ("resolution_folded", state.folded.batches),
            ("resolution_folded_seconds", state.folded.span_ns.div_ceil(1_000_000_000)),
            ("spool_unreadable", state.spool_unreadable),
        ];
        losses.into_iter().filter(|(_, count)| *count > 0)
    }

    fn is_drained(&self) -> bool {
        self.report.is_clean() && self.queue.is_settled()
    }

    /// Reads the kernel for the last time, and waits for the acknowledgement. What is not
    /// acknowledged then is left to the next process, if there is a place for it.
    async fn drain(&mut self) {
        let deadline = TokioInstant::now() + DRAIN_TIME;
        self.tick();
        while !self.is_drained() {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.hear(event),
                    None => break,
                },
                () = room(self.outgoing.as_ref()), if self.full => self.send(),
                () = sleep_until(deadline) => break,
            }
        }
        if !self.is_drained() {
            tracing::warn!("stopped before the aggregator had taken over the last batch");
            self.queue.spill(&mut self.report);
        }
    }
}

/// Ready when the stream takes another batch; never when there is none.
async fn room(outgoing: Option<&Outgoing>) {
    match outgoing {
        Some(outgoing) => outgoing.room().await,
        None => std::future::pending().await,
    }
}

/// Ready when the descriptor is readable; never when there is none.
async fn readable(fd: Option<&AsyncFd<OwnedFd>>) {
    let guard = match fd {
        Some(fd) => fd.readable().await,
        None => std::future::pending().await,
    };
    match guard {
        // Cleared before the hints are read, so that one that arrives meanwhile wakes again.
        Ok(mut guard) => guard.clear_ready(),
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
