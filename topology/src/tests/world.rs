//! A small fleet to tell a graph about.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use crate::{
    model::{Address, HalfKey, Listener, NodeAddress, Role, Scope, Workload, WorkloadKind},
    *,
};

/// Halfway through a day, so that no step begins by chance.
const BEGIN: u64 = 43_203_000_000_000;

/// The network namespace that every node's own addresses are in.
pub(super) const ROOT: u64 = 1;

pub(super) struct World {
    pub(super) graph: Graph,
    pub(super) now: Timestamp,
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn global(text: &str) -> Address {
    Address { ip: ip(text), scope: Scope::Global }
}

pub(super) fn loopback(cookie: u64) -> Address {
    Address { ip: ip("127.0.0.1"), scope: Scope::Namespace(cookie) }
}

pub(super) fn incarnation(boot: u8, generation: u64, session: u64) -> Incarnation {
    Incarnation { boot_id: [boot; 16], generation, session }
}

pub(super) fn named(kind: WorkloadKind, name: &str) -> Workload {
    Workload { kind, name: name.to_owned(), namespace: String::new(), labels: BTreeMap::new() }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(super) fn with(config: Config) -> Self {
        World { graph: Graph::new(config), now: Timestamp::from_unix_ns(BEGIN) }
    }

    /// A connected node with this address.
    pub(super) fn node(&mut self, name: &str, address: &str) -> NodeIx {
        let node = self.connect(name, incarnation(1, 1, 1)).unwrap().node;
        let address = NodeAddress { address: global(address), network_namespace: ROOT };
        self.graph.set_addresses(node, vec![address]);
        node
    }

    pub(super) fn connect(
        &mut self,
        name: &str,
        incarnation: Incarnation,
    ) -> Result<Connection, ConnectError> {
        let facts =
            AgentFacts { from: format!("10.9.9.9:{}", incarnation.session), ..Default::default() };
        self.graph.node_connected(name, incarnation, facts, self.now)
    }

    pub(super) fn process(&mut self, node: NodeIx, name: &str) -> WorkloadIx {
        self.graph.intern_workload(node, named(WorkloadKind::Process, name)).unwrap()
    }

    pub(super) fn client(
        &mut self,
        node: NodeIx,
        name: &str,
        local: Address,
        peer: Address,
        server_port: u16,
    ) -> HalfIx {
        self.half(node, name, Role::Client, local, peer, server_port, 0)
    }

    pub(super) fn server(
        &mut self,
        node: NodeIx,
        name: &str,
        local: Address,
        peer: Address,
        server_port: u16,
    ) -> HalfIx {
        self.half(node, name, Role::Server, local, peer, server_port, 0)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn half(
        &mut self,
        node: NodeIx,
        name: &str,
        role: Role,
        local: Address,
        peer: Address,
        server_port: u16,
        client_port: u16,
    ) -> HalfIx {
        let workload = self.process(node, name);
        let key = HalfKey { workload, local, peer, server_port, client_port, role };
        self.graph.open_half(node, key, 0, self.now).unwrap()
    }

    pub(super) fn listen(&mut self, node: NodeIx, name: &str, address: &str, port: u16) {
        let listener = self.listener(node, name, address, port);
        self.graph.listener_opened(node, listener);
    }

    pub(super) fn listener(
        &mut self,
        node: NodeIx,
        name: &str,
        address: &str,
        port: u16,
    ) -> Listener<WorkloadIx> {
        let workload = self.process(node, name);
        Listener { workload, address: global(address), network_namespace: ROOT, port }
    }

    /// Adds to counters.
    pub(super) fn add(&mut self, half: HalfIx, values: &[(Counter, u64)]) {
        for (counter, value) in values {
            self.graph.add(half, *counter, *value);
        }
    }

    /// One connection with this many bytes sent and received, still open.
    pub(super) fn exchange(&mut self, half: HalfIx, sent: u64, received: u64) {
        self.add(
            half,
            &[
                (Counter::Connections, 1),
                (Counter::BytesSent, sent),
                (Counter::BytesReceived, received),
            ],
        );
    }

    /// Lets that many seconds pass, with a tick in each.
    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.plus(Duration::from_secs(1));
            self.graph.tick(self.now);
        }
    }

    /// Everything up to now.
    pub(super) fn view(&mut self) -> View {
        let window = Window { from: Timestamp::default(), to: self.now };
        self.graph.view(window, self.now)
    }

    /// What is in the view: client, server, port, connections, bytes to the server and to the
    /// client, in order.
    pub(super) fn edges(&mut self) -> Vec<(String, String, u16, u64, u64, u64)> {
        let view = self.view();
        let name = |id| {
            let node = view.nodes.iter().find(|node| node.id == id).unwrap();
            match node.kind {
                WorkloadKind::Process => node.name.clone(),
                kind => format!("{} {}", kind.name(), node.name),
            }
        };
        let mut edges: Vec<_> = view
            .edges
            .iter()
            .map(|edge| {
                let get = |measure| edge.totals.get(measure);
                (
                    name(edge.source),
                    name(edge.target),
                    edge.server_port,
                    get(Measure::Connections),
                    get(Measure::BytesToServer),
                    get(Measure::BytesToClient),
                )
            })
            .collect();
        edges.sort();
        edges
    }

    /// The only edge.
    pub(super) fn edge(&mut self) -> ViewEdge {
        let view = self.view();
        assert_eq!(view.edges.len(), 1, "{:?}", view.edges);
        view.edges[0].clone()
    }

    /// The published series by label.
    pub(super) fn series(&self) -> BTreeMap<(String, String, u16), EdgeTotals> {
        let mut all = BTreeMap::new();
        for series in self.graph.published() {
            let key =
                (series.client().to_owned(), series.server().to_owned(), series.server_port());
            assert!(
                all.insert(key, series.totals().clone()).is_none(),
                "two series of one label set"
            );
        }
        all
    }
}

/// What there was by client and server, of those that are called so: connections and bytes, in the order of
/// [`World::edges`].
pub(super) fn rows(
    truth: &BTreeMap<(usize, usize), [u64; 3]>,
    (clients, servers): (&[&str], &[&str]),
    port: u16,
) -> Vec<(String, String, u16, u64, u64, u64)> {
    let row = |(ends, numbers): (&(usize, usize), &[u64; 3])| {
        let [connections, to_server, to_client] = *numbers;
        row(clients[ends.0], servers[ends.1], port, connections, to_server, to_client)
    };
    let mut rows: Vec<_> = truth.iter().map(row).collect();
    rows.sort();
    rows
}

/// What [`World::edges`] tells, of what is published.
pub(super) fn published(world: &World) -> Vec<(String, String, u16, u64, u64, u64)> {
    let row = |((client, server, port), totals): ((String, String, u16), EdgeTotals)| {
        let get = |measure| totals.get(measure);
        let bytes = (get(Measure::BytesToServer), get(Measure::BytesToClient));
        (client, server, port, get(Measure::Connections), bytes.0, bytes.1)
    };
    world.series().into_iter().map(row).collect()
}

pub(super) fn row(
    client: &str,
    server: &str,
    port: u16,
    connections: u64,
    to_server: u64,
    to_client: u64,
) -> (String, String, u16, u64, u64, u64) {
    (client.to_owned(), server.to_owned(), port, connections, to_server, to_client)
}
