//! The hosts that have an agent, and what they say of themselves.

pub(crate) mod told;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    base::time::Timestamp,
    count::half::HalfIx,
    error::{Claim, ConnectError},
    model::{Listener, NodeAddress, Program},
    who::services::{ServiceIx, WorkloadIx},
};
use told::Told;

/// How many lives of a node are told apart. An agent that comes back in an older one counts
/// as new.
const LIVES: usize = 64;

/// How many programs of a node are known.
const PROGRAMS: usize = 256;

/// How many addresses of a node are known.
pub(crate) const ADDRESSES: usize = 16_384;

/// How many causes of loss are kept apart for a node.
const CAUSES: usize = 64;

/// A node, for as long as the graph lives.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct NodeIx(pub(crate) u32);

impl NodeIx {
    /// A number from 0 on, without gaps.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One stream of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamId(pub(crate) u64);

/// What [`crate::Graph::node_connected`] gives: whose records these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// The node.
    pub node: NodeIx,
    /// The stream. A later stream of the node ends it.
    pub stream: StreamId,
}

/// Which life of a node's counters this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// The kernel's boot id.
    pub boot_id: [u8; 16],
    /// The generation of the kernel maps, within the boot.
    pub generation: u64,
    /// The agent's process.
    pub session: u64,
}

/// What is known of an agent, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFacts {
    /// Version of the agent.
    pub version: String,
    /// Kernel release of the host.
    pub kernel: String,
    /// Where it connects from, as the aggregator sees it.
    pub from: String,
}

/// A host with an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    pub(crate) name: Arc<str>,
    /// The service that stands for the host itself.
    pub(crate) host: ServiceIx,
    pub(crate) incarnation: Incarnation,
    pub(crate) stream: Option<StreamId>,
    /// The last stream there was, ended or not.
    pub(crate) last_stream: StreamId,
    pub(crate) connected_at: Timestamp,
    /// When its last stream ended, if none is open.
    pub(crate) left_at: Timestamp,
    /// The aggregator has started, and the node has not caught up since.
    awaited: bool,
    /// Cookie of the host's own network namespace, where it is known.
    pub(crate) host_namespace: Option<u64>,
    pub(crate) life: Life,
    lives: VecDeque<Life>,
    facts: AgentFacts,
    last_seen: Timestamp,
    skew_seconds: f64,
    certificate_expires_unix_s: Option<i64>,
    programs: Vec<Program>,
    losses: BTreeMap<String, Loss>,
    pub(crate) addresses: Vec<NodeAddress>,
    pub(crate) listeners: HashSet<Listener<WorkloadIx>>,
    /// Every half it opened, some of them gone.
    pub(crate) halves: Vec<HalfIx>,
    /// How many halves there may be before those that are gone are looked for.
    pub(crate) halves_before_pruning: usize,
    /// Halves that the current stream has not opened again are looked for once.
    pub(crate) swept: bool,
    pub(crate) folded: Folded,
    pub(crate) told: Told,
}

/// What of a node was counted together with others because it took more room than there is for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// Halves, each time one was opened.
    pub halves: u64,
    /// Links whose edges were.
    pub edges: u64,
    /// Workloads, each time one was named.
    pub workloads: u64,
}

/// One generation of one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    /// Number of the generation, unique in the node.
    pub(crate) epoch: u32,
    /// Number of the boot, unique in the node.
    pub(crate) boot: u32,
    boot_id: [u8; 16],
    generation: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Loss {
    /// All there was.
    total: u64,
    /// What there was before this generation.
    before: u64,
}

impl Node {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is known of its agent.
    #[must_use]
    pub const fn facts(&self) -> &AgentFacts {
        &self.facts
    }

    /// Whether its agent is connected.
    #[must_use]
    pub const fn connected(&self) -> bool {
        self.stream.is_some()
    }

    /// When it was last heard.
    #[must_use]
    pub const fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    /// The kernel programs, as the agent reported them last.
    #[must_use]
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// What was not counted, by cause, since the node was first seen.
    pub fn losses(&self) -> impl Iterator<Item = (&str, u64)> {
        self.losses.iter().map(|(cause, loss)| (cause.as_str(), loss.total))
    }

    /// What of it was counted together with others.
    #[must_use]
    pub const fn folded(&self) -> Folded {
        self.folded
    }

    /// The node's clock less the aggregator's.
    #[must_use]
    pub const fn clock_skew_seconds(&self) -> f64 {
        self.skew_seconds
    }

    /// End of the agent's certificate in seconds since the epoch, if it said so.
    #[must_use]
    pub const fn certificate_expires_unix_s(&self) -> Option<i64> {
        self.certificate_expires_unix_s
    }

    /// Whether the node may be about to tell what happened some time ago: it has not caught up, or is gone; and has been
    /// silent for less than `patience`.
    pub(crate) fn lags(&self, now: Timestamp, patience: Duration) -> bool {
        let heard = self.last_seen.max(self.connected_at);
        let (lags, since) =
            if self.connected() { (self.told.lags(), heard) } else { (true, self.left_at) };
        lags && now.since(since) < patience
    }

    pub(crate) fn heard(&mut self, now: Timestamp, skew_seconds: Option<f64>) {
        self.last_seen = self.last_seen.max(now);
        self.skew_seconds = skew_seconds.unwrap_or(self.skew_seconds);
    }

    pub(crate) fn set_status(&mut self, mut programs: Vec<Program>, certificate: Option<i64>) {
        programs.truncate(PROGRAMS);
        self.programs = programs;
        self.certificate_expires_unix_s = certificate;
    }

    /// Sets what this generation has lost for a cause; returns what that adds.
    pub(crate) fn set_loss(&mut self, cause: &str, in_generation: u64) -> u64 {
        let Some(loss) = self.loss(cause) else { return 0 };
        let total = loss.before.saturating_add(in_generation).max(loss.total);
        total - std::mem::replace(&mut loss.total, total)
    }

    /// Adds a loss that the aggregator itself saw.
    pub(crate) fn add_loss(&mut self, cause: &str, count: u64) {
        if let Some(loss) = self.loss(cause) {
            loss.total = loss.total.saturating_add(count);
            loss.before = loss.before.saturating_add(count);
        }
    }

    fn loss(&mut self, cause: &str) -> Option<&mut Loss> {
        if !self.losses.contains_key(cause) && self.losses.len() >= CAUSES {
            return None;
        }
        Some(self.losses.entry(cause.to_owned()).or_default())
    }

    /// Enters the life of an incarnation: one it had before, or a new one.
    fn enter(&mut self, incarnation: Incarnation) {
        let Incarnation { boot_id, generation, .. } = incarnation;
        self.incarnation = incarnation;
        let same = |life: &&Life| life.boot_id == boot_id && life.generation == generation;
        if let Some(life) = self.lives.iter().find(same) {
            self.life = *life;
            return;
        }
        let newest = self.lives.back().map_or(0, |life| life.epoch);
        let boot = self.lives.iter().find(|life| life.boot_id == boot_id);
        let life = Life {
            epoch: newest + 1,
            boot: boot.map_or(newest + 1, |life| life.boot),
            boot_id,
            generation,
        };
        if self.lives.len() == LIVES {
            self.lives.pop_front();
        }
        self.lives.push_back(life);
        self.life = life;
        for loss in self.losses.values_mut() {
            loss.before = loss.total;
        }
    }
}

/// Every node there was.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Nodes {
    /// Each shared with a stored copy until it is written to.
    nodes: Vec<Arc<Node>>,
    #[serde(skip)]
    by_name: HashMap<Arc<str>, NodeIx>,
    streams: u64,
    /// When the aggregator started, while somebody may still be about to tell what happened before.
    coming_back: Option<Timestamp>,
}

impl Nodes {
    /// What has to be stored; the rest follows from it.
    pub(crate) fn stored(&self) -> Self {
        Nodes {
            nodes: self.nodes.clone(),
            by_name: HashMap::new(),
            streams: self.streams,
            coming_back: self.coming_back,
        }
    }

    /// Finishes what was read back.
    pub(crate) fn resume(&mut self) {
        self.by_name = self.iter().map(|(ix, node)| (node.name.clone(), ix)).collect();
    }

    /// Nobody is connected any more. Nobody could be while there was no aggregator: all are expected as if they
    /// had just left.
    pub(crate) fn end_streams(&mut self, now: Timestamp) {
        for node in &mut self.nodes {
            let node = Arc::make_mut(node);
            if node.stream.take().is_some() {
                node.told.ends(node.last_seen);
            }
            (node.left_at, node.awaited) = (now, true);
        }
        self.coming_back = Some(now);
    }

    /// Whether, after a start, somebody may still be about to tell what happened before: a node that [lags](Node::lags) and
    /// has not caught up since. An address that nobody is known to have may be one that such a node has got meanwhile.
    pub(crate) const fn coming_back(&self) -> bool {
        self.coming_back.is_some()
    }

    /// Finds out whether that has come to an end, which it has after `most` in any case.
    pub(crate) fn look_who_is_back(&mut self, now: Timestamp, patience: Duration, most: Duration) {
        let Some(since) = self.coming_back else { return };
        let mut any = false;
        for node in self.nodes.iter_mut().filter(|node| node.awaited) {
            if node.lags(now, patience) {
                any = true;
            } else {
                Arc::make_mut(node).awaited = false;
            }
        }
        if !any || now.since(since) >= most {
            self.coming_back = None;
        }
    }

    /// The clock was ahead and has been set back: nobody was heard later than now.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        for node in &mut self.nodes {
            let node = Arc::make_mut(node);
            node.connected_at = node.connected_at.min(now);
            node.last_seen = node.last_seen.min(now);
            node.told.set_back(now);
        }
    }

    pub(crate) fn get(&self, ix: NodeIx) -> Option<&Node> {
        self.nodes.get(ix.0 as usize).map(AsRef::as_ref)
    }

    pub(crate) fn get_mut(&mut self, ix: NodeIx) -> Option<&mut Node> {
        self.nodes.get_mut(ix.0 as usize).map(Arc::make_mut)
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeIx, &Node)> {
        self.nodes.iter().enumerate().map(|(at, node)| (NodeIx(at as u32), node.as_ref()))
    }

    pub(crate) fn find(&self, name: &str) -> Option<NodeIx> {
        self.by_name.get(name).copied()
    }

    /// Whether somebody else has a name.
    pub(crate) fn taken(
        &self,
        name: &str,
        incarnation: &Incarnation,
        facts: &AgentFacts,
    ) -> Result<(), ConnectError> {
        let holder = self.find(name).and_then(|ix| self.get(ix)).filter(|node| {
            node.stream.is_some() && node.incarnation.session != incarnation.session
        });
        match holder {
            None => Ok(()),
            Some(node) => Err(ConnectError::NameTaken {
                name: name.to_owned(),
                holder: Box::new(Claim::new(&node.incarnation, &node.facts)),
                refused: Box::new(Claim::new(incarnation, facts)),
            }),
        }
    }

    /// Lets an agent in whose name nobody else has. `host` makes the service that stands for a new node.
    pub(crate) fn connect(
        &mut self,
        name: &str,
        incarnation: Incarnation,
        facts: AgentFacts,
        now: Timestamp,
        host: impl FnOnce(NodeIx) -> ServiceIx,
    ) -> Connection {
        let ix = match self.by_name.get(name) {
            Some(ix) => *ix,
            None => self.create(name, incarnation, now, host),
        };
        self.streams += 1;
        let stream = StreamId(self.streams);
        if let Some(node) = self.get_mut(ix) {
            node.stream = Some(stream);
            node.last_stream = stream;
            node.connected_at = now;
            node.swept = false;
            node.facts = facts;
            node.enter(incarnation);
            node.told.begins();
            node.heard(now, None);
        }
        Connection { node: ix, stream }
    }

    fn create(
        &mut self,
        name: &str,
        incarnation: Incarnation,
        now: Timestamp,
        host: impl FnOnce(NodeIx) -> ServiceIx,
    ) -> NodeIx {
        let ix = NodeIx(self.nodes.len() as u32);
        let name: Arc<str> = name.into();
        let life = Life {
            epoch: 0,
            boot: 0,
            boot_id: incarnation.boot_id,
            generation: incarnation.generation,
        };
        self.nodes.push(Arc::new(Node {
            name: name.clone(),
            host: host(ix),
            incarnation,
            stream: None,
            last_stream: StreamId(0),
            connected_at: now,
            left_at: now,
            awaited: false,
            host_namespace: None,
            life,
            lives: VecDeque::from([life]),
            facts: AgentFacts::default(),
            last_seen: now,
            skew_seconds: 0.0,
            certificate_expires_unix_s: None,
            programs: Vec::new(),
            losses: BTreeMap::new(),
            addresses: Vec::new(),
            listeners: HashSet::new(),
            halves: Vec::new(),
            halves_before_pruning: 0,
            swept: false,
            folded: Folded::default(),
            told: Told::default(),
        }));
        self.by_name.insert(name, ix);
        ix
    }
}
