//! What an agent has counted and told: the halves of one session, and the batches of each tick.

use std::{collections::BTreeMap, sync::Arc};

use common::Counter;
use proto::columns::{EncodeError, Encoder};

use super::{
    definitions::{self, Names},
    ids::{Interned, Numbers},
};
use crate::{
    totals::{EdgeTotals, HalfTotals},
    world::{Increment, Side, Tick, World},
};
use proto::v1::{Definitions, Section, SectionKind};

/// Halves that one batch defines at most: some 100 bytes each, with their totals.
const DEFINED_AT_ONCE: usize = 4_000;

/// A half, as this session has named it.
#[derive(Debug)]
pub struct Half {
    pub id: u32,
    pub link: u32,
    pub side: Side,
    pub names: Names,
    /// The batches that defined and that retired it; 0 for not yet.
    pub defined_in: u64,
    pub retired_in: u64,
    pub totals: HalfTotals,
}

/// What is to be sent: a numbered batch.
#[derive(Debug)]
pub struct Draft {
    pub seq: u64,
    pub sections: Vec<Section>,
    pub records: u64,
}

/// What edges have counted, by their numbers.
pub type Ledger = BTreeMap<u32, EdgeTotals>;

pub struct Book {
    world: Arc<World>,
    /// Ends of links by the tick at which they begin, and how many have begun.
    plan: Vec<(u32, Side)>,
    begun: usize,
    /// The last batch of this session.
    pub seq: u64,
    /// By id.
    live: Vec<Option<Half>>,
    /// Halves that were retired by a batch that is not acknowledged yet.
    retired: Vec<Half>,
    /// Halves that an earlier session left, with the connections that were open.
    inherited: Vec<(u32, Side, u64)>,
    halves: Numbers,
    workloads: Interned,
    addresses: Interned,
    /// Halves that are no more.
    ledger: Ledger,
    encoder: Encoder,
    increment: Increment,
    state_changed: bool,
}

impl Book {
    pub fn new(world: Arc<World>, plan: Vec<(u32, Side)>) -> Self {
        Self {
            world,
            plan,
            begun: 0,
            seq: 0,
            live: Vec::new(),
            retired: Vec::new(),
            inherited: Vec::new(),
            halves: Numbers::default(),
            workloads: Interned::default(),
            addresses: Interned::default(),
            ledger: Ledger::new(),
            encoder: Encoder::new(),
            increment: Increment::default(),
            state_changed: true,
        }
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    /// Begins a new session and a new generation: all is counted from zero again, and
    /// connections that are open are taken up. Everything must have been acknowledged.
    pub fn renew(&mut self) {
        let old = std::mem::replace(self, Self::new(Arc::clone(&self.world), Vec::new()));
        (self.plan, self.begun, self.ledger) = (old.plan, old.begun, old.ledger);
        self.inherited = old.inherited;
        for half in old.live.into_iter().flatten() {
            enter(&mut self.ledger, &self.world, &half);
            self.inherited.push((half.link, half.side, half.totals.open()));
        }
    }

    /// Counts a tick; returns its batches, at least one.
    pub fn tick(&mut self, tick: Tick) -> Result<Vec<Draft>, EncodeError> {
        let records = self.count(tick)?;
        let mut sections = Vec::new();
        put(&mut self.encoder, SectionKind::Increments, &mut sections);
        self.seq += 1;
        let mut drafts = vec![Draft { seq: self.seq, sections, records }];
        self.define(tick, &mut drafts)?;
        self.retire(tick, &mut drafts)?;
        if std::mem::take(&mut self.state_changed) {
            let live = || self.live.iter().flatten();
            let state = [definitions::status(live()), definitions::listeners(&self.world, live())];
            if let Some(last) = drafts.last_mut() {
                last.sections.extend(state);
            }
        }
        Ok(drafts)
    }

    /// The increments of halves that are known.
    fn count(&mut self, tick: Tick) -> Result<u64, EncodeError> {
        for half in self.live.iter_mut().flatten() {
            let open = half.totals.open();
            if self.world.traffic(half.link, half.side, tick, open, &mut self.increment) {
                half.totals.add(&self.increment);
                self.encoder.push(half.id, &self.increment.counters, &self.increment.buckets)?;
            }
        }
        Ok(self.encoder.records())
    }

    /// Halves that begin, with their first totals.
    fn define(&mut self, tick: Tick, drafts: &mut Vec<Draft>) -> Result<(), EncodeError> {
        let mut new = std::mem::take(&mut self.inherited);
        while let Some((link, side)) = self.plan.get(self.begun).copied() {
            if self.world.links[link as usize].born > tick {
                break;
            }
            self.begun += 1;
            new.push((link, side, 0));
        }
        let mut chunks = new.chunks(DEFINED_AT_ONCE);
        let first = chunks.next();
        let rest = chunks.map(|chunk| (chunk, true));
        for (chunk, another) in first.map(|chunk| (chunk, false)).into_iter().chain(rest) {
            if another {
                self.seq += 1;
                drafts.push(Draft { seq: self.seq, sections: Vec::new(), records: 0 });
            }
            let mut wire = Definitions::default();
            let mut ids = Vec::with_capacity(chunk.len());
            for (link, side, adopted) in chunk.iter().copied() {
                ids.push(self.begin(link, side, adopted, tick, &mut wire));
            }
            ids.sort_unstable();
            for id in ids {
                if let Some(half) = self.live.get(id as usize).and_then(Option::as_ref) {
                    self.encoder.push(id, &half.totals.counters, &half.totals.buckets())?;
                }
            }
            let records = self.encoder.records();
            let new = wire.halves.iter().filter_map(|half| self.live[half.id as usize].as_ref());
            let translations = definitions::translations(&self.world, new);
            if let Some(draft) = drafts.last_mut() {
                // Definitions go first: the increments beside them are of other halves.
                draft.sections.insert(0, definitions::section(SectionKind::Definitions, &wire));
                draft.sections.extend(translations);
                put(&mut self.encoder, SectionKind::Totals, &mut draft.sections);
                draft.records += records;
            }
            self.state_changed = true;
        }
        Ok(())
    }

    fn begin(
        &mut self,
        link: u32,
        side: Side,
        adopted: u64,
        tick: Tick,
        wire: &mut Definitions,
    ) -> u32 {
        let names =
            Names::refer(&self.world, link, side, &mut self.workloads, &mut self.addresses, wire);
        let mut totals = HalfTotals::default();
        totals.counters[Counter::Adopted.index()] = adopted;
        if self.world.traffic(link, side, tick, adopted, &mut self.increment) {
            totals.add(&self.increment);
        }
        let id = self.halves.take();
        let half = Half { id, link, side, names, defined_in: self.seq, retired_in: 0, totals };
        wire.halves.push(definitions::half(&self.world, &half));
        if id as usize >= self.live.len() {
            self.live.resize_with(id as usize + 1, || None);
        }
        self.live[id as usize] = Some(half);
        id
    }

    /// Halves whose last tick this was, and all that they have counted.
    fn retire(&mut self, tick: Tick, drafts: &mut [Draft]) -> Result<(), EncodeError> {
        let links = &self.world.links;
        let over = |half: &&mut Option<Half>| {
            half.as_ref().is_some_and(|half| links[half.link as usize].died <= tick)
        };
        let mut over: Vec<Half> =
            self.live.iter_mut().filter(over).filter_map(Option::take).collect();
        let Some(last) = drafts.last_mut().filter(|_| !over.is_empty()) else { return Ok(()) };
        for half in &over {
            self.encoder.push(half.id, &half.totals.counters, &half.totals.buckets())?;
        }
        put(&mut self.encoder, SectionKind::EndedTotals, &mut last.sections);
        let retired_halves = over.iter().map(|half| half.id).collect();
        let wire = Definitions { retired_halves, ..Definitions::default() };
        last.sections.push(definitions::section(SectionKind::Definitions, &wire));
        for half in &mut over {
            half.retired_in = self.seq;
            enter(&mut self.ledger, &self.world, half);
            self.halves.give_back(half.id);
            half.names.release(&mut self.workloads, &mut self.addresses);
        }
        self.retired.append(&mut over);
        self.state_changed = true;
        Ok(())
    }

    /// Every half that lives as of a batch.
    pub fn as_of(&self, seq: u64) -> impl Iterator<Item = &Half> {
        let all = self.live.iter().flatten().chain(&self.retired);
        all.filter(move |half| {
            half.defined_in <= seq && (half.retired_in == 0 || half.retired_in > seq)
        })
    }

    /// Batches up to this one are acknowledged.
    pub fn acked(&mut self, seq: u64) {
        self.retired.retain(|half| half.retired_in > seq);
    }

    /// What this agent has counted for each edge, in all sessions.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = self.ledger.clone();
        for half in self.live.iter().flatten() {
            enter(&mut ledger, &self.world, half);
            let edge = self.world.links[half.link as usize].edge;
            ledger.entry(edge).or_default().add_open(half.side, &half.totals);
        }
        ledger
    }
}

fn enter(ledger: &mut Ledger, world: &World, half: &Half) {
    let edge = world.links[half.link as usize].edge;
    ledger.entry(edge).or_default().add(half.side, &half.totals);
}

/// Appends what the encoder has, if anything.
pub fn put(encoder: &mut Encoder, kind: SectionKind, sections: &mut Vec<Section>) {
    if !encoder.is_empty() {
        let mut payload = Vec::new();
        encoder.finish(&mut payload);
        sections.push(Section { kind: kind as u32, payload: payload.into() });
    }
}
