use std::collections::{BTreeMap, HashMap};

use common::{
    Counter, HistogramKind,
    kernel::{HalfKey, ListenerKey, Owner, role},
};
use proto::{
    convert::ContainerName,
    v1::{AgentMessage, agent_message::Body},
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use topology::model::{Address, Endpoint, Scope, Tuple, Workload, WorkloadKind};

use super::*;
use crate::{
    cgroup_fs::CgroupFs,
    ledger::{LEAST, Link},
    owners::ProcFs,
    runtimes::{News, Source},
    source::PortSharing,
    testing::{
        client_key, eventually, ledger, raw,
        receiver::{Receiver, Value},
        source::{FakeSource, Handle},
    },
    uplink::Stream,
};

const OWNER: u64 = 11;

/// A collector over a pretended kernel, and the other end of its streams.
struct Setup {
    kernel: Handle,
    events: mpsc::Sender<Event>,
    runtimes: mpsc::Sender<Told>,
    stop: watch::Sender<bool>,
    collector: JoinHandle<()>,
    metrics: Metrics,
    receiver: Receiver,
    batches: Option<mpsc::Receiver<AgentMessage>>,
    hung_up: Option<oneshot::Receiver<()>>,
}

impl Setup {
    fn new(interval: Duration) -> Option<Self> {
        Self::with(interval, FakeSource::new())
    }

    fn with(interval: Duration, source: FakeSource) -> Option<Self> {
        let Ok(cgroup) = CgroupFs::default_root() else {
            crate::testing::skipped("no cgroup v2 here");
            return None;
        };
        let kernel = source.handle();
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"shop");
        let owner = Owner {
            cgroup_id: 0,
            netns_cookie: 1,
            start_ns: 1 << 60,
            tgid: std::process::id(),
            reserved: 0,
            comm,
        };
        kernel.kernel().owners.insert(OWNER, owner);
        let (events, heard) = mpsc::channel(16);
        let (runtimes, news) = mpsc::channel(16);
        let (stop, over) = watch::channel(false);
        let metrics = Metrics::new().unwrap();
        let parts = Parts {
            source,
            owners: Owners::new("n1", cgroup, ProcFs::new("/proc")),
            addresses: Addresses::new(ProcFs::new("/proc")),
            events: heard,
            runtimes: news,
            unnamed: None,
            pods: None,
            metrics: metrics.clone(),
            interval,
            max_halves: 65_536,
            queue: Queue::new(1 << 20, None),
        };
        let collector = tokio::spawn(async move { Collector::new(parts).run(over).await });
        let receiver = Receiver::default();
        Some(Self {
            kernel,
            events,
            runtimes,
            stop,
            collector,
            metrics,
            receiver,
            batches: None,
            hung_up: None,
        })
    }

    async fn connect(&mut self) {
        let (batches, arriving) = mpsc::channel(4);
        let (hang_up, hung_up) = oneshot::channel();
        let acked = self.receiver.restart();
        let stream = Stream { acked, batches, certificate_expires_unix_s: 99, hang_up };
        self.events.send(Event::Up(stream)).await.unwrap();
        self.batches = Some(arriving);
        self.hung_up = Some(hung_up);
    }

    /// Applies what arrives until something holds, and acknowledges it.
    async fn until(&mut self, what: &str, holds: impl Fn(&Receiver) -> bool) {
        while !holds(&self.receiver) {
            let next = self.batches.as_mut().unwrap().recv();
            let message = timeout(Duration::from_secs(20), next).await;
            let message = message.unwrap_or_else(|_| panic!("never: {what}"));
            let Some(Body::Batch(batch)) = message.expect("a stream").body else {
                panic!("not a batch");
            };
            self.receiver.apply(&batch);
            self.events.send(Event::Acked(batch.seq)).await.unwrap();
        }
    }

    async fn stop(self) -> Metrics {
        self.stop.send(true).unwrap();
        timeout(Duration::from_secs(10), self.collector).await.unwrap().unwrap();
        self.metrics
    }
}

fn sum(receiver: &Receiver, value: Value) -> u64 {
    receiver.counted.values().filter_map(|values| values.get(&value)).sum()
}

const BYTES: Value = Value::Counter(Counter::BytesSent);
const NEVER: Duration = Duration::from_secs(3_600);
const OFTEN: Duration = Duration::from_millis(20);

#[tokio::test]
async fn what_the_kernel_counts_arrives_named() {
    let Some(mut setup) = Setup::new(OFTEN) else { return };
    let key = client_key(OWNER, "10.0.0.2", 80);
    setup.kernel.count(3, key, Counter::BytesSent, 100);
    setup.kernel.sample(3, key, HistogramKind::Rtt, 50);
    setup.kernel.kernel().runqueue = vec![(5, 6)];
    setup.kernel.kernel().losses = vec![("hints_full", 2)];
    setup.connect().await;
    setup.until("the first bytes", |receiver| sum(receiver, BYTES) == 100).await;
    setup.kernel.count(3, key, Counter::BytesSent, 11);
    setup.until("more bytes", |receiver| sum(receiver, BYTES) == 111).await;
    setup.until("a loss", |receiver| receiver.status.losses.get("hints_full") == Some(&2)).await;
    let receiver = &setup.receiver;
    assert_eq!(sum(receiver, Value::Bucket(HistogramKind::Rtt, 50)), 1);
    let half = receiver.counted.keys().next().unwrap();
    assert_eq!((half.workload.kind, half.workload.name.as_str()), (WorkloadKind::Process, "shop"));
    assert_eq!(receiver.signals.signals[0].counts, [6]);
    assert_eq!(receiver.status.certificate_expires_unix_s, 99);
    assert_eq!(receiver.status.programs[0].name, "sock_ops");
    let metrics = setup.stop().await;
    assert_eq!(metrics.batches_sent.get(), metrics.batches_acked.get());
}

#[tokio::test]
async fn a_hint_is_followed_long_before_the_interval_is_over() {
    let Some(mut setup) = Setup::new(NEVER) else { return };
    setup.connect().await;
    setup.until("the status", |receiver| !receiver.status.programs.is_empty()).await;
    let key = client_key(OWNER, "10.0.0.2", 80);
    setup.kernel.count(0, key, Counter::Connections, 1);
    setup.kernel.count(1, client_key(OWNER, "10.0.0.3", 80), Counter::Connections, 5);
    setup.kernel.hint(HintKind::Owner, OWNER);
    setup.kernel.hint(HintKind::Slot, 0);
    let connections = Value::Counter(Counter::Connections);
    setup.until("the connection", |receiver| sum(receiver, connections) > 0).await;
    assert_eq!(sum(&setup.receiver, connections), 1, "only the slot that was named");
    let listener = ListenerKey {
        netns_cookie: 1,
        owner: OWNER,
        address: raw("::"),
        port: 80,
        reserved: [0; 6],
    };
    // A second owner of the same name: to the aggregator they are one, and to the kernel as well.
    let second = setup.kernel.kernel().owners[&OWNER];
    setup.kernel.kernel().owners.insert(OWNER + 1, second);
    let other = ListenerKey { owner: OWNER + 1, ..listener };
    setup.kernel.kernel().listeners = vec![listener, other];
    setup.kernel.hint(HintKind::Listener, 0);
    setup.until("the listener", |receiver| receiver.listeners.len() == 1).await;
    assert_eq!(setup.kernel.kernel().sharing.last(), Some(&(1, 80, PortSharing::OneWorkload)));
    setup.stop().await;
}

#[tokio::test]
async fn who_comes_and_goes_during_a_long_look_is_named() {
    let Some(mut setup) = Setup::new(NEVER) else { return };
    let mut brief = setup.kernel.kernel().owners[&OWNER];
    brief.comm[..4].copy_from_slice(b"once");
    setup.kernel.kernel().passing = Some((OWNER + 1, brief));
    setup.connect().await;
    setup.until("the status", |receiver| !receiver.status.programs.is_empty()).await;
    assert!(!setup.kernel.kernel().owners.contains_key(&(OWNER + 1)));
    setup.kernel.count(0, client_key(OWNER + 1, "10.0.0.2", 80), Counter::BytesSent, 1);
    setup.kernel.hint(HintKind::Slot, 0);
    setup.until("what it counted", |receiver| sum(receiver, BYTES) == 1).await;
    let half = setup.receiver.counted.keys().next().unwrap();
    assert_eq!((half.workload.kind, half.workload.name.as_str()), (WorkloadKind::Process, "once"));
    setup.stop().await;
}

#[tokio::test]
async fn a_port_is_shared_with_who_has_just_left_it() {
    let Some(mut setup) = Setup::new(NEVER) else { return };
    let mut past = setup.kernel.kernel().owners[&OWNER];
    past.comm[..4].copy_from_slice(b"past");
    setup.kernel.kernel().owners.insert(OWNER + 1, past);
    let listener = |port| ListenerKey {
        netns_cookie: 1,
        owner: OWNER,
        address: raw("::"),
        port,
        reserved: [0; 6],
    };
    setup.kernel.kernel().listeners = vec![listener(80), listener(81)];
    for (slot, port) in [(0, 80), (1, 82)] {
        let key = HalfKey { role: role::SERVER, ..client_key(OWNER + 1, "10.0.0.2", port) };
        setup.kernel.count(slot, key, Counter::Closed, 1);
    }
    let client = client_key(OWNER + 1, "10.0.0.2", 81);
    setup.kernel.count(2, client, Counter::Closed, 1);
    setup.kernel.hint(HintKind::Listener, 0);
    setup.connect().await;
    setup.until("the listeners", |receiver| receiver.listeners.len() == 2).await;
    let mut sharing = setup.kernel.kernel().sharing.clone();
    sharing.sort_by_key(|(_, port, _)| *port);
    sharing.dedup();
    assert_eq!(sharing, [(1, 80, PortSharing::Several), (1, 81, PortSharing::One(OWNER))]);
    setup.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_while_the_aggregator_is_away() {
    let Some(mut setup) = Setup::new(OFTEN) else { return };
    let key = client_key(OWNER, "10.0.0.2", 80);
    let mut truth = 0;
    for round in 0..5 {
        setup.kernel.count(0, key, Counter::BytesSent, 10);
        truth += 10;
        if round > 0 {
            setup.events.send(Event::Down).await.unwrap();
        }
        let refreshes = || setup.kernel.kernel().refreshes;
        let before = refreshes();
        eventually("intervals without a stream", || refreshes() > before + 2).await;
        setup.connect().await;
        setup.until("all bytes", |receiver| sum(receiver, BYTES) == truth).await;
    }
    // Each interval came by itself, and said how long it had waited.
    let waited = setup.receiver.ages_ns.iter().filter(|age| **age >= OFTEN.as_nanos() as u64);
    assert!(waited.count() >= 5, "{:?}", setup.receiver.ages_ns);
    setup.stop().await;
}

#[tokio::test]
async fn an_aggregator_that_acknowledges_late_holds_back_nothing() {
    let Some(mut setup) = Setup::new(OFTEN) else { return };
    setup.connect().await;
    let key = client_key(OWNER, "10.0.0.2", 80);
    for number in 1..=50 {
        setup.kernel.count(0, key, Counter::BytesSent, 1);
        while sum(&setup.receiver, BYTES) < number {
            let next = setup.batches.as_mut().unwrap().recv();
            let message = timeout(Duration::from_secs(20), next).await.unwrap();
            let Some(Body::Batch(batch)) = message.unwrap().body else { panic!("not a batch") };
            setup.receiver.apply(&batch);
        }
    }
    assert_eq!(setup.metrics.batches_acked.get(), 0);
    setup.events.send(Event::Acked(setup.receiver.seq)).await.unwrap();
    let metrics = setup.metrics.clone();
    eventually("all acknowledged", || metrics.batches_acked.get() >= 50).await;
    setup.stop().await;
}

#[tokio::test]
async fn an_aggregator_that_stalls_holds_back_batches_and_loses_none() {
    let Some(mut setup) = Setup::new(OFTEN) else { return };
    setup.connect().await;
    let key = client_key(OWNER, "10.0.0.2", 80);
    let mut truth = 0;
    // Nobody reads: the stream fills up, and the queue takes the rest.
    while setup.metrics.queue_batches.get() < 20 {
        setup.kernel.count(0, key, Counter::BytesSent, 1);
        truth += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(truth < 4_000, "it never fills up");
    }
    setup.until("all bytes", |receiver| sum(receiver, BYTES) == truth).await;
    setup.stop().await;
}

/// Of a ledger without room for all halves some are counted together, and the slots of all are given back.
#[tokio::test]
async fn what_the_ledger_has_no_room_for_is_folded() {
    let (shared, begun) = ledger::begun(2 * (3 * LEAST + 1_000));
    let Some(mut setup) = Setup::with(OFTEN, FakeSource::with_ledger(begun)) else { return };
    let key = |port| client_key(OWNER, "10.0.0.2", port);
    setup.kernel.kernel().capacity = Some(10);
    for slot in 0..4_000 {
        setup.kernel.count(slot, key(slot as u16 + 1), Counter::BytesSent, 10);
    }
    setup.connect().await;
    setup.until("all bytes", |receiver| sum(receiver, BYTES) == 40_000).await;
    let apart = setup.receiver.counted.keys().filter(|key| !key.is_folded()).count();
    assert!((10..3_000).contains(&apart), "{apart} are apart");
    let kernel = &setup.kernel;
    eventually("all slots to be given back", || kernel.kernel().retired.len() == 4_000).await;
    setup.kernel.count(5_000, key(5_000), Counter::BytesSent, 1);
    setup.until("another byte", |receiver| sum(receiver, BYTES) == 40_001).await;
    let losses = &setup.receiver.status.losses;
    assert!(losses["report_folded"] > 0 && losses["report_full"] == 0, "{losses:?}");
    setup.stop().await;
    let past = shared.open().past().unwrap();
    assert!(past.links.len() <= 1 && past.live.len() <= apart + 1, "{}", past.live.len());
}

/// A slot that an agent has not told of comes before one that it has, of the same half.
#[tokio::test]
async fn a_slot_more_is_part_of_the_half_that_an_agent_before_told() {
    let (shared, begun) = ledger::begun(1 << 20);
    let Some(mut setup) = Setup::with(OFTEN, FakeSource::with_ledger(begun)) else { return };
    let key = client_key(OWNER, "10.0.0.2", 80);
    setup.kernel.count(7, key, Counter::BytesSent, 100);
    setup.connect().await;
    setup.until("the first bytes", |receiver| sum(receiver, BYTES) == 100).await;
    let receiver = setup.receiver.clone();
    setup.stop().await;
    let link = |slot: u32| shared.open().past().unwrap().links.remove(&slot).unwrap();
    let told = link(7);

    let Some(mut setup) = Setup::with(OFTEN, FakeSource::with_ledger(shared.open())) else {
        return;
    };
    setup.receiver = receiver;
    // Another process of the same workload, in a slot with a lower number.
    let same = setup.kernel.kernel().owners[&OWNER];
    setup.kernel.kernel().owners.insert(OWNER + 1, same);
    setup.kernel.count(3, HalfKey { owner: OWNER + 1, ..key }, Counter::BytesSent, 5);
    setup.kernel.count(7, key, Counter::BytesSent, 100);
    setup.connect().await;
    setup.until("the other bytes", |receiver| sum(receiver, BYTES) >= 105).await;
    setup.stop().await;
    let one_more = Link { owner: OWNER + 1, ..told.clone() };
    assert_eq!((link(3), link(7)), (one_more, told), "they are not the half that was told");
}

#[tokio::test]
async fn the_last_numbers_go_out_before_the_end() {
    let Some(mut setup) = Setup::new(NEVER) else { return };
    setup.connect().await;
    setup.until("the status", |receiver| !receiver.status.programs.is_empty()).await;
    setup.kernel.count(0, client_key(OWNER, "10.0.0.2", 80), Counter::BytesSent, 5);
    setup.stop.send(true).unwrap();
    setup.until("the last bytes", |receiver| sum(receiver, BYTES) == 5).await;
    timeout(Duration::from_secs(10), setup.collector).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_end_without_an_aggregator_comes_in_time() {
    let Some(setup) = Setup::new(NEVER) else { return };
    setup.kernel.count(0, client_key(OWNER, "10.0.0.2", 80), Counter::BytesSent, 5);
    let began = Instant::now();
    setup.stop().await;
    assert!(began.elapsed() < DRAIN_TIME + Duration::from_secs(2));
}

#[tokio::test]
async fn questions_are_answered() {
    let Some(mut setup) = Setup::new(NEVER) else { return };
    let address = |ip: &str| Address { ip: ip.parse().unwrap(), scope: Scope::Global };
    let tuple = |client_port| Tuple {
        client: address("10.0.0.1"),
        client_port,
        server: address("10.0.0.2"),
        server_port: 80,
    };
    setup.kernel.kernel().tuples = HashMap::from([(tuple(1), OWNER)]);
    setup.connect().await;
    setup.events.send(Event::Asked(vec![tuple(1), tuple(2)])).await.unwrap();
    setup.until("the answers", |receiver| receiver.answers.len() == 2).await;
    let names: Vec<_> = setup
        .receiver
        .answers
        .iter()
        .map(|(answer, workload)| {
            (answer.tuple.client_port, workload.as_ref().map(|workload| workload.name.clone()))
        })
        .collect();
    assert_eq!(names, [(1, Some("shop".to_owned())), (2, None)]);
    setup.stop().await;
}

#[tokio::test]
async fn connections_are_told_apart_when_that_is_asked_for() {
    let Some(mut setup) = Setup::new(NEVER) else { return };
    let listener = |port| ListenerKey {
        netns_cookie: 1,
        owner: OWNER,
        address: raw("::"),
        port,
        reserved: [0; 6],
    };
    setup.kernel.kernel().listeners = vec![listener(80), listener(81)];
    for (slot, port) in [(0, 80), (1, 81)] {
        let key = HalfKey { role: role::SERVER, ..client_key(OWNER, "10.0.0.2", port) };
        setup.kernel.count(slot, key, Counter::Connections, 1);
        setup.kernel.hint(HintKind::Slot, u64::from(slot));
    }
    setup.connect().await;
    let connections = Value::Counter(Counter::Connections);
    setup.until("both", |receiver| sum(receiver, connections) == 2).await;
    let address = |ip: &str| Address { ip: ip.parse().unwrap(), scope: Scope::Global };
    let endpoint = |ip, port| Endpoint { address: address(ip), port };
    let sharing = |port| {
        let sharing = setup.kernel.kernel().sharing.clone();
        sharing.into_iter().rfind(|known| known.1 == port).map(|known| known.2)
    };
    let split = vec![endpoint("10.0.0.1", 80), endpoint("10.0.0.9", 81)];
    setup.events.send(Event::Split(split)).await.unwrap();
    eventually("a port", || sharing(80) == Some(PortSharing::Several)).await;
    assert_eq!(sharing(81), Some(PortSharing::One(OWNER)), "that is somewhere else");
    // More than half of the slots are taken: there is no room for it.
    setup.kernel.kernel().capacity = Some(3);
    setup.kernel.hint(HintKind::Listener, 0);
    eventually("none", || sharing(80) == Some(PortSharing::One(OWNER))).await;
    // Nor soon after, when there would be.
    setup.kernel.kernel().capacity = None;
    let set = setup.kernel.kernel().sharing.len();
    for _ in 0..2 {
        setup.events.send(Event::Split(vec![endpoint("10.0.0.1", 80)])).await.unwrap();
    }
    eventually("two looks", || setup.kernel.kernel().sharing.len() >= set + 4).await;
    assert_eq!(sharing(80), Some(PortSharing::One(OWNER)));
    setup.stop().await;
}

fn named(container: &str, name: &str) -> ContainerName {
    let called = Workload {
        kind: WorkloadKind::Container,
        name: name.to_owned(),
        namespace: String::new(),
        labels: BTreeMap::new(),
    };
    ContainerName { container: container.to_owned(), called }
}

#[tokio::test]
async fn what_containers_are_called_is_told_at_once_and_to_whoever_comes_next() {
    let Some(mut setup) = Setup::new(NEVER) else { return };
    setup.connect().await;
    setup.until("the status", |receiver| !receiver.status.programs.is_empty()).await;
    let tell = |news| Told { source: Source::Engine(0), news };
    setup.runtimes.send(tell(News::Called(named("a1", "db")))).await.unwrap();
    setup.until("a name", |receiver| receiver.names.contains_key("a1")).await;
    setup.runtimes.send(tell(News::Ended(named("b2", "short")))).await.unwrap();
    setup.until("another", |receiver| receiver.names.contains_key("b2")).await;
    // In no batch that comes again: they are acknowledged.
    setup.events.send(Event::Down).await.unwrap();
    setup.connect().await;
    setup.until("both, in the preface", |receiver| receiver.names.len() == 2).await;
    // Whoever names containers goes; all else goes on.
    let Setup { runtimes, .. } = &mut setup;
    *runtimes = mpsc::channel(1).0;
    setup.kernel.count(0, client_key(OWNER, "10.0.0.2", 80), Counter::BytesSent, 5);
    setup.kernel.hint(HintKind::Slot, 0);
    setup.until("bytes", |receiver| sum(receiver, BYTES) == 5).await;
    setup.stop().await;
}
