//! An aggregator that things happen to.

use super::*;

/// An aggregator without a network, and two agents at the ends of one link.
pub(super) struct Run {
    pub(super) folder: tempfile::TempDir,
    /// The history of no state.
    pub(super) nowhere: Arc<Keeper>,
    pub(super) _elsewhere: tempfile::TempDir,
    pub(super) core: Held<Core>,
    pub(super) store: Option<Store>,
    pub(super) hands: Hands,
    pub(super) clock: Clock,
    pub(super) now: Timestamp,
    pub(super) streams: [Option<Connection>; 2],
    pub(super) session: [u64; 2],
    pub(super) next: [u64; 2],
    pub(super) totals: [u64; 2],
    /// How far the agents' clocks are ahead.
    pub(super) skew_s: i64,
}

pub(super) fn open(dir: &Path, hands: &Hands) -> (Core, Store, Clock) {
    let metrics = Metrics::new().unwrap();
    // A restart may find a clock that was set by an hour: nothing is to be idle for that.
    let edge_idle_expiry = Duration::from_secs(86_400);
    let graph =
        Config { steps_kept: 3, hand_over_steps: true, edge_idle_expiry, ..Config::default() };
    let zones = topology::Zones::new(vec![("a".to_owned(), "east".to_owned())]);
    let settings = Settings { dir, graph, zones, history_max_bytes: 1 << 30 };
    Store::open(&settings, hands.clone(), metrics.store, metrics.history).unwrap()
}

impl Run {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hands = Hands::new();
        let (core, store, clock) = open(folder.path(), &hands);
        let now = clock.now();
        let (core, store) = (Held::new(core), Some(store));
        let elsewhere = tempfile::tempdir().unwrap();
        let metrics = Metrics::new().unwrap().history;
        let nowhere = Keeper::start(elsewhere.path(), 0, 1 << 20, metrics).unwrap().into();
        let _elsewhere = elsewhere;
        Self {
            folder,
            nowhere,
            _elsewhere,
            core,
            store,
            hands,
            clock,
            now,
            streams: [None; 2],
            session: [0; 2],
            next: [1; 2],
            totals: [0; 2],
            skew_s: 0,
        }
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Report(node, more) => self.report(node, more, 0),
            Event::Late(node, more, age) => self.report(node, more, age),
            Event::Reconnect(node) => self.connect(node),
            Event::Cluster(number) => {
                let ports = vec![ServicePort { port: 80, ..ServicePort::default() }];
                let addresses = vec![[10, 0, 0, 2].into()];
                let service = ClusterService { addresses, fronts: Vec::new(), ports };
                let name = ObjectName::new("shop", &format!("cart-{number}"));
                let mut all = vec![ClusterChange::Service(name, Some(service))];
                all.truncate(number.into());
                let core = self.core.get_mut();
                core.cluster_listed(ClusterKind::Services, all, self.now);
                core.cluster_watched(ClusterKind::Services, self.now);
            }
            Event::Pass(seconds) => {
                for second in 0..seconds {
                    self.hands.pass(1);
                    self.now = self.clock.now();
                    let core = self.core.get_mut();
                    if second % 2 == 0 || core.graph().is_step_over(self.now) {
                        core.tick(self.now);
                    } else {
                        core.glance(self.now);
                    }
                    // Time flies here: no step shall be lost because it cannot be written so fast.
                    self.settle();
                }
            }
            Event::Set(seconds) => self.hands.step(seconds),
            Event::Snapshot => {
                self.store.as_ref().unwrap().checkpoint(&self.core).unwrap();
                let (from, to) = (self.folder.path().join(HISTORY), self.old_history());
                fs::copy(from, to).unwrap();
            }
            Event::Kill(history_too) => self.kill(history_too),
        }
    }

    /// The history as of the last snapshot.
    pub(super) fn old_history(&self) -> PathBuf {
        self._elsewhere.path().join(HISTORY).with_extension("old")
    }

    /// What was appended is written, as it is before anybody hears of it; then it starts again.
    pub(super) fn kill(&mut self, history_too: bool) {
        let (before, now) = (self.shown(), self.now);
        self.store = None;
        self.core = Held::new(Core::new(Config::default(), self.nowhere.clone()));
        if history_too {
            let (history, old) = (self.folder.path().join(HISTORY), self.old_history());
            match old.exists() {
                true => drop(fs::copy(old, history).unwrap()),
                false => fs::remove_file(history).unwrap(),
            }
        }
        let (core, store, clock) = open(self.folder.path(), &self.hands);
        (self.core, self.store, self.clock) = (Held::new(core), Some(store), clock);
        // A wall clock that was set goes on from there.
        self.now = self.clock.now();
        self.streams = [None; 2];
        if self.now == now {
            assert_eq!(self.shown(), before);
        }
    }

    /// The published series, and as readers see them all there ever was, and each of the last steps.
    pub(super) fn shown(&self) -> (Vec<String>, Vec<Vec<topology::ViewEdge>>) {
        // The windows first: they begin with a tick.
        let begin = Timestamp::default();
        let mut asked = vec![(begin, self.now)];
        for step in 1..20 {
            let to = self.now.minus(Duration::from_secs(10 * step));
            asked.push((to.minus(Duration::from_secs(10)), to));
        }
        let mut windows = Vec::new();
        for (from, to) in asked {
            let services = self.edges(from, to);
            let workloads = self.told(Grouping::Workload, from, to);
            assert_eq!(sum(&services), sum(&workloads), "{from:?} to {to:?}");
            windows.extend([services, workloads]);
        }
        (series(&self.core.lock()), windows)
    }

    pub(super) fn edges(&self, from: Timestamp, to: Timestamp) -> Vec<topology::ViewEdge> {
        self.core.lock().tick(self.now);
        self.settle();
        self.told(Grouping::Service, from, to)
    }

    /// As it is now.
    pub(super) fn told(
        &self,
        by: Grouping,
        from: Timestamp,
        to: Timestamp,
    ) -> Vec<topology::ViewEdge> {
        let window = topology::Window { from, to };
        let store = self.store.as_ref().unwrap();
        let mut edges =
            Core::view_all(&self.core, &Sums::default(), store.history(), (window, by), self.now)
                .edges;
        // Whose word counts for what is open depends on who is connected, and now nobody is.
        edges.iter_mut().for_each(|edge| edge.connections_open = 0);
        edges
    }

    /// Waits until the history has what it is to have.
    pub(super) fn settle(&self) {
        let store = self.store.as_ref().unwrap();
        store.journal().wait_until_durable(store.journal().position());
        self.core.lock().hand_over();
        store.history().flush(HISTORY_FLUSH);
    }

    /// Begins a stream of a session; returns the last batch of it that was taken over.
    pub(super) fn begin(&mut self, node: usize, session: u64) -> u64 {
        let incarnation = Incarnation { boot_id: [1; 16], generation: 2, session };
        let core = self.core.get_mut();
        if let Some(before) = self.streams[node].filter(|_| self.session[node] != session) {
            core.disconnect(before, self.now);
        }
        let name = ["a", "b"][node];
        let connected = core.connect(name, incarnation, AgentFacts::default(), INTERVAL, self.now);
        let (connection, acked) = connected.unwrap();
        (self.streams[node], self.session[node]) = (Some(connection), session);
        acked
    }

    pub(super) fn connect(&mut self, node: usize) {
        let acked = self.begin(node, 3);
        // Everything was taken over for good.
        assert_eq!(acked, self.next[node] - 1);
        if acked > 0 {
            let totals = section(v1::SectionKind::Totals, columns(self.totals[node]));
            self.send(node, true, vec![definitions(node), totals], 0);
        }
    }

    pub(super) fn report(&mut self, node: usize, more: u64, age_s: u64) {
        if self.streams[node].is_none() {
            self.connect(node);
        }
        let mut sections = vec![section(v1::SectionKind::Increments, columns(more))];
        if self.next[node] == 1 {
            sections.insert(0, definitions(node));
        }
        self.totals[node] += more;
        self.send(node, false, sections, age_s);
    }

    pub(super) fn send(
        &mut self,
        node: usize,
        preface: bool,
        sections: Vec<v1::Section>,
        age_s: u64,
    ) {
        let seq = if preface { self.next[node] - 1 } else { self.next[node] };
        self.next[node] = seq + 1;
        let applied = self.tell(node, seq, preface, sections, age_s);
        assert_eq!((applied.seq, applied.replayed), (seq, preface));
    }

    pub(super) fn tell(
        &mut self,
        node: usize,
        seq: u64,
        preface: bool,
        sections: Vec<v1::Section>,
        age_s: u64,
    ) -> Applied {
        let age_ns = age_s * 1_000_000_000;
        let sent_unix_ns = self.now.unix_ns().saturating_add_signed(self.skew_s * 1_000_000_000);
        let batch =
            v1::Batch { seq, preface, sections, age_ns, sent_unix_ns, ..v1::Batch::default() };
        let bytes = batch.encode_to_vec();
        let (core, connection) = (self.core.get_mut(), self.streams[node].unwrap());
        let prepared = Prepared::read(batch).unwrap();
        core.batch(connection, prepared, &bytes, 0, self.now).unwrap()
    }
}

pub(super) fn section(kind: v1::SectionKind, payload: Vec<u8>) -> v1::Section {
    v1::Section { kind: kind as u32, payload: payload.into() }
}

pub(super) fn columns(value: u64) -> Vec<u8> {
    let mut counters = [0; COUNTERS];
    counters[Counter::Connections.index()] = value;
    counters[Counter::BytesSent.index()] = 10 * value;
    counters[Counter::BytesReceived.index()] = 10 * value;
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    encoder.push(1, &counters, &[(HistogramKind::Rtt, 9, value)]).unwrap();
    encoder.finish(&mut out);
    out
}

pub(super) fn definitions(node: usize) -> v1::Section {
    let address = |last| Address { ip: [10, 0, 0, last].into(), scope: Scope::Global };
    let (role, local, peer) =
        [(Role::Client, address(1), address(2)), (Role::Server, address(2), address(1))][node];
    let workload = Workload {
        kind: WorkloadKind::Process,
        name: ["web", "db"][node].to_owned(),
        namespace: String::new(),
        labels: BTreeMap::new(),
    };
    let half = proto::convert::HalfDefinition {
        id: 1,
        workload: 1,
        local: 1,
        peer: 2,
        server_port: 80,
        client_port: 0,
        role,
        birth: 1,
    };
    let named =
        |(id, address): (u32, Address)| v1::AddressDefinition { id, address: Some(address.into()) };
    let definitions = v1::Definitions {
        workloads: vec![proto::convert::WorkloadDefinition { id: 1, workload }.into()],
        addresses: [(1, local), (2, peer)].map(named).into(),
        halves: vec![half.into()],
        retired_halves: Vec::new(),
    };
    section(v1::SectionKind::Definitions, definitions.encode_to_vec())
}
