//! The state of the aggregator: the graph, and how far each agent has come.
//!
//! It changes by [`Entry`]s only, each of which is in the journal before its effect can be seen. The same
//! entries make the same state, whether they come from agents or, after a restart, from the journal.
//!
//! - `entry` is what the journal consists of,
//! - `batch` reads a batch, `apply` adds it to the graph, `tables` knows its ids,
//! - `cluster` takes in what Kubernetes says,
//! - `questions` is what comes back,
//! - `views` is what readers see of it,
//! - `held` lets everybody at it in turn.

mod apply;
mod batch;
mod cluster;
mod entry;
mod held;
mod questions;
mod tables;
mod views;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use prost::Message;
use proto::v1;
use serde::{Deserialize, Serialize};
use topology::{
    AgentFacts, Config, ConnectError, Connection, Explanation, Given, Graph, Id, Incarnation, Node,
    NodeIx, Rules, Snapshot, Stretch, Timestamp, Zones,
};

pub(crate) use apply::Tally;
pub(crate) use batch::{BatchError, Prepared};
pub(crate) use entry::{BadEntry, ENTRY_VERSION, Entry};
pub(crate) use held::Held;
pub(crate) use questions::Questions;

use crate::{history::Keeper, store::Journal};
use apply::Applier;
use tables::Tables;

/// The cause under which numbers are counted that an agent has left out.
const MISSING: &str = "batches_missing";

/// Steps that are kept for the history while the journal cannot be written.
const STEPS_HELD: usize = 60;

/// How old what is published may be when somebody reads it.
const FRESH: Duration = Duration::from_secs(1);

/// The state of the aggregator.
pub struct Core {
    graph: Graph,
    /// By [`NodeIx::index`]. Each shared with a stored copy until it is written to.
    agents: Vec<Arc<Agent>>,
    /// `None` while the state is made from the journal.
    journal: Option<Arc<Journal>>,
    /// Takes the steps that are over.
    history: Arc<Keeper>,
    /// Steps that are over, or more of them, and not with the history yet; with where the journal has all that they
    /// follow from.
    ended: VecDeque<(u64, Given)>,
    scratch: Vec<u8>,
}

/// How far an agent has come.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Agent {
    session: u64,
    /// Its last batch that was taken over.
    applied: u64,
    /// The last batch of the stream, 0 before the first.
    seen: u64,
    /// The stream has brought nothing yet but prefaces of numbers that were known.
    beginning: bool,
    /// How long it waits between batches.
    interval: Duration,
    tables: Tables,
    /// How far sessions before this one have come: what an agent left behind may be told in between, again and again.
    before: VecDeque<(u64, u64)>,
}

/// Sessions of a node that are remembered besides the last.
const SESSIONS: usize = 8;

impl Agent {
    /// Another session reports, or one of those before.
    fn switch(&mut self, session: u64) {
        if self.session == session {
            return;
        }
        let mut before = std::mem::take(&mut self.before);
        before.push_back((self.session, self.applied));
        let known = before.iter().position(|(known, _)| *known == session);
        let applied = known.and_then(|at| before.remove(at)).map_or(0, |(_, applied)| applied);
        while before.len() > SESSIONS {
            before.pop_front();
        }
        *self = Agent { session, applied, before, ..Agent::default() };
    }
}

/// The state as of one moment, to be stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Frozen {
    graph: Snapshot,
    agents: Vec<Arc<Agent>>,
}

/// What came of a batch.
pub(crate) struct Applied {
    /// What happened to its parts.
    pub(crate) tally: Tally,
    /// It had been taken over before.
    pub(crate) replayed: bool,
    /// The number up to which batches are taken over now.
    pub(crate) seq: u64,
    /// How much of it there was no room for.
    pub(crate) folded: u64,
    /// What the graph wants to know of this node.
    pub(crate) questions: Questions,
    /// Where the journal has it.
    pub(crate) position: u64,
}

/// Why a batch was not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The stream is not the node's any more.
    #[error("a later stream of this agent took its place")]
    Replaced,
    /// It has no number.
    #[error("batches are numbered from 1")]
    Unnumbered,
    /// It makes no sense.
    #[error("batch {0} cannot be read: {1}")]
    Unreadable(u64, BatchError),
}

impl Core {
    /// A state with nothing in it.
    pub(crate) fn new(config: Config, history: Arc<Keeper>) -> Self {
        let graph = Graph::new(config);
        Self {
            graph,
            agents: Vec::new(),
            journal: None,
            history,
            ended: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    /// Goes on where a state was stored.
    pub(crate) fn resume(
        config: Config,
        Frozen { graph, agents }: Frozen,
        history: Arc<Keeper>,
    ) -> Self {
        let graph = Graph::resume(config, graph);
        Self { graph, agents, journal: None, history, ended: VecDeque::new(), scratch: Vec::new() }
    }

    /// The state as it is now; making it costs next to nothing.
    pub(crate) fn freeze(&self) -> Frozen {
        Frozen { graph: self.graph.snapshot(), agents: self.agents.clone() }
    }

    /// Writes whatever changes from now on to a journal.
    pub(crate) fn keep(&mut self, journal: Arc<Journal>) {
        self.journal = Some(journal);
    }

    /// The graph, to be read.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Where the journal has everything of this state.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.position())
    }

    /// Does again what the journal says.
    pub(crate) fn replay(&mut self, bytes: &[u8]) -> Result<(), BadEntry> {
        let (at, entry, rest) = Entry::read(bytes)?;
        match entry {
            Entry::Started => self.started(at),
            Entry::Connected { node, incarnation, facts, interval } => {
                // Who was refused is not in the journal.
                let _ = self.connect(&node, incarnation, facts, interval, at);
            }
            Entry::Disconnected { connection } => self.disconnect(connection, at),
            Entry::Batch { connection, certificate_expires_unix_s } => {
                let wire = v1::Batch::decode(rest)
                    .map_err(|_| BadEntry::from(postcard::Error::DeserializeBadEncoding))?;
                // What could not be read then cannot be read now, and changed as much of the state.
                if let Ok(prepared) = Prepared::read(wire) {
                    let _ = self.batch(connection, prepared, rest, certificate_expires_unix_s, at);
                }
            }
            Entry::Asked { node } => drop(self.take_questions(node, at)),
            Entry::Tick => self.tick(at),
            Entry::Rules(rules) => self.set_rules(rules, at),
            Entry::Cluster(news) => self.cluster_news(news, at),
            Entry::Glance => self.glance(at),
        }
        Ok(())
    }

    /// From now on services and addresses go by these rules.
    pub(crate) fn set_rules(&mut self, rules: Rules, at: Timestamp) {
        if *self.graph.rules() != rules {
            self.record(&Entry::Rules(rules.clone()), &[], at);
            self.graph.set_rules(rules);
        }
    }

    /// From now on hosts are in these zones; nothing that is counted depends on it.
    pub(crate) fn set_zones(&mut self, zones: Zones) {
        self.graph.set_zones(zones);
    }

    /// The aggregator starts: no stream is left.
    pub(crate) fn started(&mut self, at: Timestamp) {
        self.record(&Entry::Started, &[], at);
        self.graph.restarted(at);
    }

    /// Lets an agent in; also returns the last batch of its session that was taken over.
    pub(crate) fn connect(
        &mut self,
        node: &str,
        incarnation: Incarnation,
        facts: AgentFacts,
        interval: Duration,
        at: Timestamp,
    ) -> Result<(Connection, u64), ConnectError> {
        let connection = self.graph.node_connected(node, incarnation, facts.clone(), at)?;
        let entry = Entry::Connected { node: node.to_owned(), incarnation, facts, interval };
        self.record(&entry, &[], at);
        let index = connection.node.index();
        if index >= self.agents.len() {
            self.agents.resize_with(index + 1, Arc::default);
        }
        let agent = Arc::make_mut(&mut self.agents[index]);
        agent.switch(incarnation.session);
        (agent.seen, agent.interval, agent.tables) = (0, interval, Tables::default());
        agent.beginning = true;
        Ok((connection, agent.applied))
    }

    /// A stream has ended.
    pub(crate) fn disconnect(&mut self, connection: Connection, at: Timestamp) {
        if self.graph.is_current(connection) {
            self.record(&Entry::Disconnected { connection }, &[], at);
            self.graph.node_disconnected(connection, at);
            // No batch uses its ids any more: what only they refer to may be forgotten.
            if let Some(agent) = self.agents.get_mut(connection.node.index()) {
                Arc::make_mut(agent).tables = Tables::default();
            }
        }
    }

    /// Takes over a batch, which `bytes` are the encoding of.
    pub(crate) fn batch(
        &mut self,
        connection: Connection,
        batch: Prepared,
        bytes: &[u8],
        certificate_expires_unix_s: i64,
        at: Timestamp,
    ) -> Result<Applied, Refused> {
        if !self.graph.is_current(connection) {
            return Err(Refused::Replaced);
        }
        let entry = Entry::Batch { connection, certificate_expires_unix_s };
        let position = self.record(&entry, bytes, at);
        let node = connection.node;
        let Some(agent) = self.agents.get_mut(node.index()) else { return Err(Refused::Replaced) };
        let agent = Arc::make_mut(agent);
        let (seq, preface, more) = (batch.seq, batch.preface, batch.more);
        if seq == 0 {
            return Err(Refused::Unnumbered);
        }
        let skew = skew_seconds(batch.sent_unix_ns, at.unix_ns());
        self.graph.node_heard(node, skew, at);
        let mut applied = Applied {
            tally: Tally::default(),
            replayed: seq <= agent.applied,
            seq: agent.applied,
            folded: 0,
            questions: Questions::default(),
            position,
        };
        if !preface && seq <= agent.seen {
            return Ok(applied);
        }
        // What came on an earlier stream is not missing, and a stream may begin anywhere: it begins with totals, and
        // what a preface passes over is in its totals.
        let known = agent.seen.max(agent.applied);
        if agent.seen > 0 && !preface && seq - 1 > known {
            self.graph.add_loss(node, MISSING, seq - 1 - known);
        }
        if !preface {
            self.graph.end_telling(node);
        }
        let folded = self.graph.node(node).map(Node::folded).unwrap_or_default();
        // A preface of which nobody said how old it is counts as of now.
        let dated = batch.age > Duration::ZERO || !preface;
        let moment = self.graph.moment(node, batch.age, at);
        let late = if applied.replayed { None } else { self.graph.begin_late(moment, at) };
        agent.beginning &= preface && applied.replayed;
        let complete = agent.beginning && seq == agent.applied && agent.seen < seq && !more;
        let mut applier = Applier {
            graph: &mut self.graph,
            tables: &mut agent.tables,
            node,
            now: at,
            certificate_expires_unix_s,
            tally: Tally::default(),
            late,
        };
        applier.batch(batch, applied.replayed);
        if complete {
            // Nothing of what is known is still to come: what is open now stays so, though there may be nothing new to
            // tell for long.
            applier.open_replayed();
        }
        applied.tally = applier.tally;
        if let Some(late) = applier.late.take() {
            self.graph.end_late(late, at);
        }
        applied.tally.report(&mut self.graph, node);
        if !more && preface {
            self.graph.conclude_folded(node);
        }
        if !more {
            if dated && !applied.replayed {
                let stretch = match agent.applied {
                    0 if seq == 1 => Stretch::First { interval: agent.interval },
                    applied if preface && seq > applied + 1 => Stretch::Folded,
                    _ if preface => Stretch::Alone { interval: agent.interval },
                    _ => Stretch::Next,
                };
                self.graph.node_told(node, moment, stretch, at);
            }
            agent.seen = agent.seen.max(seq);
            agent.applied = agent.applied.max(seq);
        }
        applied.seq = agent.applied;
        let now_folded = self.graph.node(node).map(Node::folded).unwrap_or_default();
        applied.folded =
            now_folded.halves - folded.halves + now_folded.workloads - folded.workloads;
        applied.questions = Questions::take(&mut self.graph, node);
        Ok(applied)
    }

    /// What the graph wants to know of a node.
    pub(crate) fn take_questions(&mut self, node: NodeIx, at: Timestamp) -> Questions {
        if !self.graph.has_questions(node) {
            return Questions::default();
        }
        self.record(&Entry::Asked { node }, &[], at);
        Questions::take(&mut self.graph, node)
    }

    /// Lets time pass.
    pub fn tick(&mut self, at: Timestamp) {
        self.record(&Entry::Tick, &[], at);
        self.forget_workloads(at);
        self.graph.tick(at);
        self.hand_over();
    }

    /// Lets time pass where a tick is not worth it.
    pub(crate) fn glance(&mut self, at: Timestamp) {
        self.record(&Entry::Glance, &[], at);
        self.graph.glance(at);
        // The journal may have what a step that is over follows from.
        self.hand_over();
    }

    /// Lets time pass unless that was done just now: what is published is not older than a second then.
    pub(crate) fn refresh(&mut self, at: Timestamp) {
        if at.since(self.graph.ticked_at()) >= FRESH {
            self.tick(at);
        }
    }

    /// Before a step ends, and with it services go that nothing refers to: the same for workloads, which streams
    /// refer to by number.
    fn forget_workloads(&mut self, at: Timestamp) {
        if self.graph.is_step_over(at) {
            let numbered = self.agents.iter().flat_map(|agent| agent.tables.workloads());
            self.graph.forget_workloads(&numbered.collect());
        }
    }

    /// Why an edge is there, as far as that is in memory.
    pub fn explain(&mut self, edge: Id, now: Timestamp) -> Option<Explanation> {
        self.refresh(now);
        self.graph.explain(edge, now)
    }

    /// Has steps that are over kept, as far as the journal has what they follow from: after a crash they would be
    /// told twice otherwise.
    pub(crate) fn hand_over(&mut self) {
        let position = self.position();
        self.ended.extend(self.graph.take_steps().into_iter().map(|steps| (position, steps)));
        let Some(journal) = &self.journal else {
            // Nobody waits for the state yet, so it can wait.
            self.ended.drain(..).for_each(|(_, steps)| self.history.put_patiently(steps));
            return;
        };
        let durable = *journal.durable().borrow();
        while self.ended.front().is_some_and(|(position, _)| *position <= durable) {
            if let Some((_, steps)) = self.ended.pop_front() {
                self.history.put(steps);
            }
        }
        if journal.is_failing() {
            let lost = self.ended.len().saturating_sub(STEPS_HELD);
            self.ended.drain(..lost);
            self.history.lost(lost as u64);
        }
    }

    /// Notes a change; returns where the journal has it.
    fn record(&mut self, entry: &Entry, rest: &[u8], at: Timestamp) -> u64 {
        let Some(journal) = &self.journal else { return 0 };
        self.scratch.clear();
        self.scratch = entry.write(at, std::mem::take(&mut self.scratch));
        journal.append(&self.scratch, rest)
    }
}

/// How far the agent's clock is ahead, `None` when it did not say.
fn skew_seconds(sent_unix_ns: u64, now_unix_ns: u64) -> Option<f64> {
    let ahead = i128::from(sent_unix_ns) - i128::from(now_unix_ns);
    (sent_unix_ns != 0).then_some(ahead as f64 / 1e9)
}

#[cfg(test)]
mod tests;
