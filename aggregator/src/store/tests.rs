//! Whatever happens, a restart goes on where the last run was.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Mutex};

use common::{COUNTERS, Counter, HistogramKind};
use proptest::prelude::*;
use prost::Message;
use proto::{columns::Encoder, v1};
use topology::{
    AgentFacts, Config, Connection, Incarnation, Timestamp,
    model::{Address, Role, Scope, Workload, WorkloadKind},
};

use super::*;
use crate::{core::Prepared, metrics::Metrics};

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    Report(usize, u64),
    Reconnect(usize),
    Pass(u64),
    Snapshot,
    /// The process is gone from one moment to the next.
    Kill,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..2_usize, 1..9_u64).prop_map(|(node, more)| Event::Report(node, more)),
        1 => (0..2_usize).prop_map(Event::Reconnect),
        6 => (0..12_u64).prop_map(Event::Pass),
        1 => Just(Event::Snapshot),
        1 => Just(Event::Kill),
    ]
}

/// An aggregator without a network, and two agents at the ends of one link.
struct Run {
    folder: tempfile::TempDir,
    /// The history of no state.
    nowhere: Arc<Keeper>,
    _elsewhere: tempfile::TempDir,
    core: Mutex<Core>,
    store: Option<Store>,
    now: Timestamp,
    streams: [Option<Connection>; 2],
    next: [u64; 2],
    totals: [u64; 2],
}

fn open(dir: &Path, now: Timestamp) -> (Core, Store) {
    let metrics = Metrics::new().unwrap();
    let graph = Config { steps_kept: 3, hand_over_steps: true, ..Config::default() };
    let settings = Settings { dir, graph, history_max_bytes: 1 << 30, now };
    Store::open(&settings, metrics.store, metrics.history).unwrap()
}

impl Run {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_unix_ns(1_800_000_003_000_000_000);
        let (core, store) = open(folder.path(), now);
        let (core, store) = (Mutex::new(core), Some(store));
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
            now,
            streams: [None; 2],
            next: [1; 2],
            totals: [0; 2],
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Report(node, more) => self.report(node, more),
            Event::Reconnect(node) => self.connect(node),
            Event::Pass(seconds) => {
                for _ in 0..seconds {
                    self.now = self.now.plus(std::time::Duration::from_secs(1));
                    self.core.get_mut().unwrap().tick(self.now);
                    // Time flies here: no step shall be lost because it cannot be written so fast.
                    self.store.as_ref().unwrap().history().flush(HISTORY_FLUSH);
                }
            }
            Event::Snapshot => self.store.as_ref().unwrap().checkpoint(&self.core).unwrap(),
            Event::Kill => self.kill(),
        }
    }

    /// What was appended is written, as it is before anybody hears of it; then it starts again.
    fn kill(&mut self) {
        let before = self.shown();
        self.store = None;
        self.core = Mutex::new(Core::new(Config::default(), self.nowhere.clone()));
        let (core, store) = open(self.folder.path(), self.now);
        (self.core, self.store) = (Mutex::new(core), Some(store));
        assert_eq!(self.shown(), before);
        self.streams = [None; 2];
    }

    /// The published series, and everything there ever was as readers see it.
    fn shown(&self) -> (Vec<String>, Vec<topology::ViewEdge>) {
        // The window first: it begins with a tick.
        let edges = self.edges();
        (series(&self.core.lock().unwrap()), edges)
    }

    fn edges(&self) -> Vec<topology::ViewEdge> {
        let store = self.store.as_ref().unwrap();
        store.history().flush(HISTORY_FLUSH);
        let all = topology::Window { from: Timestamp::default(), to: self.now };
        let mut edges = Core::view_all(&self.core, store.history(), all, self.now).edges;
        // Whose word counts for what is open depends on who is connected, and now nobody is.
        edges.iter_mut().for_each(|edge| edge.connections_open = 0);
        edges
    }

    fn connect(&mut self, node: usize) {
        let incarnation = Incarnation { boot_id: [1; 16], generation: 2, session: 3 };
        let core = self.core.get_mut().unwrap();
        let name = ["a", "b"][node];
        let connected = core.connect(name, incarnation, AgentFacts::default(), self.now);
        let (connection, acked) = connected.unwrap();
        // Everything was taken over for good.
        assert_eq!(acked, self.next[node] - 1);
        self.streams[node] = Some(connection);
        if acked > 0 {
            let totals = section(v1::SectionKind::Totals, columns(self.totals[node]));
            self.send(node, true, vec![definitions(node), totals]);
        }
    }

    fn report(&mut self, node: usize, more: u64) {
        if self.streams[node].is_none() {
            self.connect(node);
        }
        let mut sections = vec![section(v1::SectionKind::Increments, columns(more))];
        if self.next[node] == 1 {
            sections.insert(0, definitions(node));
        }
        self.totals[node] += more;
        self.send(node, false, sections);
    }

    fn send(&mut self, node: usize, preface: bool, sections: Vec<v1::Section>) {
        let seq = if preface { self.next[node] - 1 } else { self.next[node] };
        self.next[node] = seq + 1;
        let batch = v1::Batch { seq, preface, sections, ..v1::Batch::default() };
        let bytes = batch.encode_to_vec();
        let (core, connection) = (self.core.get_mut().unwrap(), self.streams[node].unwrap());
        let prepared = Prepared::read(batch).unwrap();
        let applied = core.batch(connection, prepared, &bytes, 0, self.now).unwrap();
        assert_eq!((applied.seq, applied.replayed), (seq, preface));
    }
}

fn section(kind: v1::SectionKind, payload: Vec<u8>) -> v1::Section {
    v1::Section { kind: kind as u32, payload: payload.into() }
}

fn columns(value: u64) -> Vec<u8> {
    let mut counters = [0; COUNTERS];
    counters[Counter::Connections.index()] = value;
    counters[Counter::BytesSent.index()] = 10 * value;
    counters[Counter::BytesReceived.index()] = 10 * value;
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    encoder.push(1, &counters, &[(HistogramKind::Rtt, 9, value)]).unwrap();
    encoder.finish(&mut out);
    out
}

fn definitions(node: usize) -> v1::Section {
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

/// Everything that was published.
fn series(core: &Core) -> Vec<String> {
    let mut shown: Vec<_> = core
        .graph()
        .published()
        .map(|series| format!("{} {} {:?}", series.client(), series.server(), series.totals()))
        .collect();
    shown.sort();
    shown
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_restart_at_any_moment_goes_on_where_it_was(
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let mut run = Run::new();
        events.into_iter().for_each(|event| run.happen(event));
        // Both sides agree in the end, and so does the graph.
        let most = run.totals[0].max(run.totals[1]);
        for node in 0..2 {
            let missing = most - run.totals[node];
            run.happen(Event::Report(node, missing));
        }
        run.happen(Event::Pass(15));
        run.happen(Event::Kill);
        let core = run.core.lock().unwrap();
        let connections: u64 = core
            .graph()
            .published()
            .map(|series| series.totals().get(topology::Measure::Connections))
            .sum();
        prop_assert_eq!(connections, most);
    }
}
