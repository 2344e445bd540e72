//! The graph: everything tied together.

pub(crate) mod apart;
mod behind;
mod cluster;
mod define;
pub(crate) mod ends;
mod evaluate;
mod expire;
pub mod late;
mod pair;
mod questions;
mod regroup;
pub mod room;
mod sides;
mod signals;
pub mod snapshot;
mod target;
mod translate;

use common::{Counter, HistogramKind};

use crate::{
    base::{histogram::Histogram, time::Timestamp, totals::EdgeTotals},
    config::Config,
    count::{
        edges::Edges,
        half::{Gained, HalfIx, Halves},
        history::{History, Lost},
        link::Links,
        series::Series,
    },
    error::ConnectError,
    model::{HostSignal, NodeAddress, Program},
    nodes::{ADDRESSES, AgentFacts, Connection, Incarnation, Node, NodeIx, Nodes, told::Stretch},
    show::step::Given,
    who::{cluster::Cluster, evidence::Evidence, services::Services, zones::Zones},
};

/// The topology of a fleet.
///
/// Every method that takes `now` takes the aggregator's time; a `now` before an
/// earlier one counts as that one.
pub struct Graph {
    pub(crate) config: Config,
    pub(crate) clock: Timestamp,
    pub(crate) nodes: Nodes,
    pub(crate) services: Services,
    pub(crate) evidence: Evidence,
    /// What Kubernetes says of addresses.
    pub(crate) cluster: Cluster,
    /// Who is behind ports of Services, while links are looked at.
    pub(crate) behind: behind::Behind,
    /// The step that a late batch tells of, while it is evaluated.
    pub(crate) telling_of: Option<Timestamp>,
    pub(crate) halves: Halves,
    pub(crate) links: Links,
    pub(crate) edges: Edges,
    pub(crate) history: History,
    pub(crate) halves_folded: u64,
    /// Which hosts are in which zones, as the user says.
    zones: Zones,
    /// Steps that are over, or more of them, that were not taken yet.
    ended: Vec<Given>,
    signals: signals::Signals,
    questions: questions::Questions,
    forgetting: expire::Forgetting,
    /// What a link gains, while it is evaluated: it keeps its memory.
    gain: EdgeTotals,
    /// When all links that had changed were looked at the last time.
    ticked_at: Timestamp,
    /// When any was: what it had counted shows from then on.
    looked_at: Timestamp,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Graph {
            history: History::new(config.step, config.steps_kept),
            services: Services::new(config.max_series),
            halves: Halves::new(config.max_halves),
            edges: Edges::new(config.max_series),
            config,
            clock: Timestamp::default(),
            nodes: Nodes::default(),
            evidence: Evidence::default(),
            cluster: Cluster::default(),
            behind: behind::Behind::default(),
            telling_of: None,
            links: Links::default(),
            halves_folded: 0,
            zones: Zones::default(),
            ended: Vec::new(),
            signals: signals::Signals::default(),
            questions: questions::Questions::default(),
            forgetting: expire::Forgetting::default(),
            gain: EdgeTotals::default(),
            ticked_at: Timestamp::default(),
            looked_at: Timestamp::default(),
        }
    }

    /// Lets an agent in.
    ///
    /// A node has one stream at a time. While one is connected, only the same agent process (the
    /// same session) may open another, which then replaces it: a reconnect that was
    /// faster than the end of the old connection. Any other session is refused until the connected
    /// one ends, on the same host, too: two agents there would count everything twice.
    ///
    /// # Errors
    /// [`ConnectError::NameTaken`] names both agents.
    pub fn node_connected(
        &mut self,
        name: &str,
        incarnation: Incarnation,
        facts: AgentFacts,
        now: Timestamp,
    ) -> Result<Connection, ConnectError> {
        // Who is refused leaves no trace, not even in time.
        self.nodes.taken(name, &incarnation, &facts)?;
        let now = self.see(now);
        let rebooted = self.nodes.find(name).filter(|ix| {
            let node = self.nodes.get(*ix);
            node.is_some_and(|node| {
                !node.connected() && node.incarnation.boot_id != incarnation.boot_id
            })
        });
        if let Some(ix) = rebooted {
            // Cookies mean nothing across boots, and nothing of the old one still listens.
            self.set_listeners(ix, []);
            // What the fleet knows it by it most likely still has, and will say.
            let addresses = self.nodes.get(ix).map(|node| node.addresses.clone());
            let mut addresses = addresses.unwrap_or_default();
            addresses.retain(|own| own.address.is_global());
            self.set_addresses(ix, addresses);
            self.set_host_namespace(ix, None);
        }
        let services = &mut self.services;
        let host = |ix| services.host(ix, name);
        let connection = self.nodes.connect(name, incarnation, facts, now, host);
        self.end_telling(connection.node);
        self.share_out();
        self.leave_older_lives(connection.node, now);
        Ok(connection)
    }

    /// Whether records of this stream may still be added: no later one has replaced it. To be
    /// asked once per batch.
    #[must_use]
    pub fn is_current(&self, connection: Connection) -> bool {
        self.nodes.get(connection.node).is_some_and(|node| node.stream == Some(connection.stream))
    }

    /// The stream has ended. Nothing happens when another one has replaced it.
    pub fn node_disconnected(&mut self, connection: Connection, now: Timestamp) {
        let now = self.see(now);
        if !self.is_current(connection) {
            return;
        }
        if let Some(node) = self.nodes.get_mut(connection.node) {
            node.told.ends(now);
            node.heard(now, None);
            node.stream = None;
            node.left_at = now;
        }
    }

    /// A batch came: the node lives, and its clock is that far ahead of the aggregator's.
    pub fn node_heard(&mut self, node: NodeIx, clock_skew_seconds: Option<f64>, now: Timestamp) {
        let now = self.see(now);
        if let Some(node) = self.nodes.get_mut(node) {
            node.heard(now, clock_skew_seconds.filter(|skew| skew.is_finite()));
        }
    }

    /// A batch told what happened on a node up to a [moment](Self::moment).
    pub fn node_told(&mut self, node: NodeIx, moment: Timestamp, stretch: Stretch, now: Timestamp) {
        let now = self.see(now);
        if let Some(node) = self.nodes.get_mut(node) {
            let epoch = node.life.epoch;
            node.told.tells(moment, stretch, epoch, now);
        }
    }

    /// What the node says of its programs and of its agent's certificate (end of validity in
    /// seconds since the epoch).
    pub fn set_status(
        &mut self,
        node: NodeIx,
        programs: Vec<Program>,
        certificate_expires_unix_s: Option<i64>,
    ) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.set_status(programs, certificate_expires_unix_s);
        }
    }

    /// What the node did not count for one cause since its map generation began.
    pub fn set_loss(&mut self, node: NodeIx, cause: &str, in_generation: u64) {
        if let Some(node) = self.nodes.get_mut(node) {
            let more = node.set_loss(cause, in_generation);
            self.history.lose(lost(cause, more));
        }
    }

    /// What the aggregator could not count for a node; adds to the cause.
    pub fn add_loss(&mut self, node: NodeIx, cause: &str, count: u64) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.add_loss(cause, count);
            self.history.lose(lost(cause, count));
        }
    }

    /// All addresses of a node.
    pub fn set_addresses(&mut self, ix: NodeIx, mut addresses: Vec<NodeAddress>) {
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(ADDRESSES);
        if let Some(node) = self.nodes.get_mut(ix) {
            let boot = node.life.boot;
            for old in std::mem::take(&mut node.addresses) {
                self.evidence.announce(ix, boot, &old, false);
            }
            for new in &addresses {
                self.evidence.announce(ix, boot, new, true);
            }
            node.addresses = addresses;
        }
    }

    /// Which network namespace (by cookie) is the host's own, if the node knows. In the others, an
    /// address that only one workload uses is that workload's. As long as this is not set,
    /// every namespace with an announced address counts as the host's.
    pub fn set_host_namespace(&mut self, node: NodeIx, cookie: Option<u64>) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.host_namespace = cookie;
            self.evidence.set_host_namespace(node, cookie);
        }
    }

    /// Adds to a counter of a half.
    #[inline]
    pub fn add(&mut self, half: HalfIx, counter: Counter, value: u64) {
        self.halves.add(half, counter, value);
    }

    /// Adds samples to a bucket of a half.
    #[inline]
    pub fn add_bucket(&mut self, half: HalfIx, kind: HistogramKind, bucket: u16, count: u64) {
        self.halves.add_bucket(half, kind, bucket, count);
    }

    /// Adds what records have to their halves.
    pub fn add_gained(&mut self, records: &[Gained<'_>]) {
        self.halves.add_gained(records);
    }

    /// Raises a counter of a half to its total since the map generation began, or since the
    /// half was last retired. A total that is not higher changes nothing.
    pub fn set_total(&mut self, half: HalfIx, counter: Counter, total: u64) {
        self.halves.set_total(half, counter, total);
    }

    /// Raises a bucket of a half, in the same way.
    pub fn set_bucket_total(&mut self, half: HalfIx, kind: HistogramKind, bucket: u16, total: u64) {
        self.halves.set_bucket_total(half, kind, bucket, total);
    }

    /// Raises a histogram of the host itself to its totals since the map generation began.
    pub fn set_signal(
        &mut self,
        ix: NodeIx,
        signal: HostSignal,
        buckets: impl IntoIterator<Item = (u16, u64)>,
    ) {
        if let Some(node) = self.nodes.get(ix) {
            self.signals.set(ix, node.life.epoch, signal, buckets);
        }
    }

    /// A histogram of the hosts themselves, merged over all nodes there were; never falls.
    #[must_use]
    pub fn signal(&self, signal: HostSignal) -> &Histogram {
        self.signals.merged(signal)
    }

    /// The same for one node.
    #[must_use]
    pub fn signal_of(&self, node: NodeIx, signal: HostSignal) -> Option<&Histogram> {
        self.signals.of_node(node, signal)
    }

    /// A node.
    #[must_use]
    pub fn node(&self, ix: NodeIx) -> Option<&Node> {
        self.nodes.get(ix)
    }

    /// Every node that is connected or was within [`Config::node_memory`].
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes_by_ix().map(|(_, node)| node)
    }

    /// The same with what they are called by.
    pub fn nodes_by_ix(&self) -> impl Iterator<Item = (NodeIx, &Node)> {
        let oldest = self.clock.minus(self.config.node_memory);
        let known =
            move |(_, node): &(NodeIx, &Node)| node.connected() || node.last_seen() >= oldest;
        self.nodes.iter().filter(known)
    }

    /// How many halves a node has a place of its own for.
    #[must_use]
    pub fn halves_of(&self, node: NodeIx) -> usize {
        self.halves.shares.held(node)
    }

    /// The published series, no two with the same labels. Each only ever gains.
    pub fn published(&self) -> impl Iterator<Item = &Series> {
        self.edges.series.shown()
    }

    /// From now on hosts are in these zones, else where Kubernetes says. Nothing that is counted depends on it, and
    /// it is not stored with the graph.
    pub fn set_zones(&mut self, zones: Zones) {
        self.zones = zones;
    }

    /// Which hosts are in which zones.
    pub(crate) fn zones(&self) -> Zones {
        self.zones.clone().or(self.cluster_zones())
    }

    /// Whether a tick now would end a step, and with it forget what is over.
    #[must_use]
    pub fn is_step_over(&self, now: Timestamp) -> bool {
        self.history.is_step_over(self.clock.max(now))
    }

    /// The steps that have ended since they were last taken, and what came late of others, if
    /// [`Config::hand_over_steps`] says so.
    pub fn take_steps(&mut self) -> Vec<Given> {
        std::mem::take(&mut self.ended)
    }

    /// The last number under which steps were given out.
    #[must_use]
    pub const fn steps_given(&self) -> u64 {
        self.history.given()
    }

    /// The time, by the latest call that had one.
    #[must_use]
    pub const fn clock(&self) -> Timestamp {
        self.clock
    }

    /// From when on [`view`](Self::view) has every step, now and for some steps to come.
    #[must_use]
    pub fn remembered_from(&self) -> Timestamp {
        self.history.remembered_from().unwrap_or(self.clock)
    }

    /// When [`tick`](Self::tick) was called the last time. Not stored: it is a while ago after a restart.
    #[must_use]
    pub const fn ticked_at(&self) -> Timestamp {
        self.ticked_at
    }

    /// Up to when what is shown without another tick has anything, which may be later than the last one: something was told
    /// late, or could go to several places.
    #[must_use]
    pub fn looked_at(&self) -> Timestamp {
        self.ticked_at.max(self.looked_at)
    }

    /// Whether something that came late waits for a tick to be put where it belongs.
    #[must_use]
    pub fn has_late(&self) -> bool {
        self.history.has_late()
    }

    /// Shares what room there is out among the nodes.
    pub(crate) fn share_out(&mut self) {
        let nodes = self.nodes.len();
        let shares =
            [&mut self.halves.shares, &mut self.edges.series.shares, &mut self.services.shares];
        self.halves.translations.set_nodes(nodes);
        shares.into_iter().for_each(|shares| shares.set_nodes(nodes));
    }

    /// Takes note of the time.
    pub(crate) fn see(&mut self, now: Timestamp) -> Timestamp {
        self.clock = self.clock.max(now);
        self.history.begin(self.clock);
        self.clock
    }
}

/// What a loss does to the numbers, by its cause's name.
fn lost(cause: &str, count: u64) -> Lost {
    let mut lost = Lost::default();
    if cause.starts_with("batch") {
        lost.batches = count;
    } else if cause == "owner_unknown"
        || cause.starts_with("resolution_")
        || cause.contains("translations_")
    {
        // Counted all the same: for the host, at a later time, or under the address that was seen.
    } else if cause.ends_with("_folded") {
        lost.folded = count;
    } else if cause.starts_with("hints") {
        lost.events = count;
    } else if cause.ends_with("_full") || cause.ends_with("_refused") {
        lost.inserts = count;
    } else {
        lost.events = count;
    }
    lost
}
