//! Halves, as nodes report them.

use std::{collections::BTreeMap, hint::black_box};

use common::{COUNTERS, Counter, HISTOGRAMS, HistogramKind};
use serde::{Deserialize, Serialize};

use super::{
    former::{self, Formers},
    link::LinkIx,
};
use crate::{
    base::{
        arena::{Arena, Key},
        histogram::Histogram,
        index::Index,
        shares::Shares,
        time::Timestamp,
    },
    model::{HalfKey, Role, Tuple},
    nodes::{NodeIx, StreamId},
    who::{
        place::Place,
        services::{ServiceIx, WorkloadIx},
    },
};

/// A half. It goes stale when the half is forgotten; what is then added is counted in
/// [`crate::Stats::stale_records`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HalfIx(pub(crate) Key<Half>);

/// Which half, in which life of its node: totals of one never count for another.
pub(crate) type HalfId = (NodeIx, u32, HalfKey<WorkloadIx>);

/// Values of all counters and histograms.
pub(crate) type Counts = ([u64; COUNTERS], [Histogram; HISTOGRAMS]);

/// What is being told again of a folded half. It counts with the last batch of a preface's number: until then, all of it
/// may come once more.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Again {
    /// By those that are live, and by those that have ended.
    pub(crate) all: Counts,
    /// By those that have ended.
    pub(crate) ended: Counts,
}

/// One side's view of an edge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Half {
    /// All it has counted; never falls.
    pub(crate) counters: [u64; COUNTERS],
    pub(crate) histograms: [Histogram; HISTOGRAMS],
    /// What it had counted when it was last ended by its agent: the agent's totals begin
    /// there again. Most halves end only once.
    /// Of a folded half, what those had counted that ended.
    pub(crate) before: Option<Box<Counts>>,
    pub(crate) changed: bool,
    /// It is a server's, and its key has a client's port. Once more beside what each record reads of it anyhow: a key is two
    /// lines of memory away.
    pub(super) is_single: bool,
    pub(crate) id: HalfId,
    pub(crate) service: ServiceIx,
    pub(crate) place: Place,
    pub(crate) link: LinkIx,
    pub(crate) opened: Timestamp,
    /// When it last counted something, as of the tick that saw it.
    pub(crate) changed_at: Timestamp,
    pub(crate) by: Definition,
    pub(crate) ended: Option<End>,
    pub(crate) whose: Whose,
}

/// Who defined a half last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub(crate) stream: StreamId,
    /// Of the agent.
    pub(crate) session: u64,
    /// Which half of its ends it was there; 0 when the agent does not say.
    pub(crate) birth: u64,
}

/// How a half ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// It is forgotten then.
    pub(crate) forget_at: Timestamp,
    /// Its agent said so: should it come again, its totals begin at 0.
    pub(crate) by_agent: bool,
}

/// Whose connection a server half with a client's port is, where that is in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Whose {
    /// Nobody was asked, or that many times without an answer.
    Unknown { asked: u8, again_at: Timestamp },
    /// The client's host said.
    Of(ServiceIx),
    /// The client's host does not know.
    Nobody,
}

impl Half {
    /// Connections open now.
    pub(crate) fn open(&self) -> u64 {
        let get = |counter: Counter| self.counters[counter.index()];
        match self.ended {
            Some(_) => 0,
            None => get(Counter::Connections)
                .saturating_add(get(Counter::Adopted))
                .saturating_sub(get(Counter::Closed)),
        }
    }

    pub(crate) const fn total(&self, counter: Counter) -> u64 {
        self.counters[counter.index()]
    }

    pub(crate) const fn role(&self) -> Role {
        self.id.2.role
    }

    pub(crate) const fn node(&self) -> NodeIx {
        self.id.0
    }

    /// The question whose connection a client's port was, as this client's node knows it.
    pub(crate) const fn question(&self, client_port: u16) -> Tuple {
        let key = &self.id.2;
        Tuple { client: key.local, client_port, server: key.peer, server_port: key.server_port }
    }

    /// What it had counted when it was last ended by its agent.
    pub(crate) fn counted_before(&self, counter: Counter) -> u64 {
        self.before.as_ref().map_or(0, |before| before.0[counter.index()])
    }

    /// Adds what a record has.
    #[inline]
    fn gain(&mut self, record: &Gained<'_>) {
        let mut which = record.which;
        for value in record.values {
            // A value without a bit would be another record's.
            let index = which.trailing_zeros() as usize;
            which &= which.wrapping_sub(1);
            let Some(mine) = self.counters.get_mut(index) else { break };
            *mine = mine.saturating_add(*value);
        }
        for (kind, bucket, count) in record.samples {
            self.histograms[kind.index()].add(*bucket, *count);
        }
    }

    /// Is defined again. When it was ended by its agent, or is a later half of its ends than the one before, whose
    /// end was told to somebody else, its totals begin at 0.
    pub(crate) fn defined(&mut self, by: Definition) {
        let known = std::mem::replace(&mut self.by, by);
        let later = known.session == by.session && known.birth > 0 && by.birth > known.birth;
        if self.ended.take().is_some_and(|end| end.by_agent) || later {
            self.before = Some(Box::new((self.counters, self.histograms.clone())));
        }
    }
}

/// The bit of the counter that rises when a connection begins.
const CONNECTIONS: u16 = 1 << Counter::Connections.index();

/// How much room a half takes. Folded ones there is always room for: there are few for each workload.
fn room(id: &HalfId) -> usize {
    usize::from(!id.2.is_folded())
}

/// What a record adds to a half.
#[derive(Clone, Copy, Debug)]
pub struct Gained<'a> {
    /// Whose it is.
    pub half: HalfIx,
    /// Which counters rise: a bit for each, by its index.
    pub which: u16,
    /// By how much, in the order of these bits.
    pub values: &'a [u64],
    /// Samples by kind and bucket.
    pub samples: &'a [(HistogramKind, u16, u64)],
}

/// Records that are read ahead of writing: a processor has some ten reads of memory under way at a time.
const AHEAD: usize = 16;

/// Every half, and which of them have changed.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Halves {
    halves: Arena<Half>,
    #[serde(skip)]
    by_id: Index<Half>,
    pub(crate) changed: Vec<HalfIx>,
    pub(crate) stale_records: u64,
    /// What is being told again of folded halves.
    pub(crate) told: BTreeMap<HalfIx, Box<Again>>,
    /// What those had counted before whose client's port was used again.
    pub(super) formers: Formers,
    /// Whose they are.
    #[serde(skip)]
    pub(crate) shares: Shares,
    /// Whose the translations are that are known of halves.
    #[serde(skip)]
    pub(crate) translations: Shares,
}

/// So many halves have room for one translation among them.
const HALVES_PER_TRANSLATION: usize = 2;

impl Halves {
    pub(crate) fn new(most: usize) -> Self {
        let translations = Shares::new(most / HALVES_PER_TRANSLATION);
        Halves { shares: Shares::new(most), translations, ..Halves::default() }
    }

    /// What has to be stored; the rest follows from it.
    pub(crate) fn stored(&self) -> Self {
        Halves {
            halves: self.halves.clone(),
            by_id: Index::default(),
            changed: self.changed.clone(),
            stale_records: self.stale_records,
            told: self.told.clone(),
            formers: self.formers.clone(),
            shares: Shares::default(),
            translations: Shares::default(),
        }
    }

    /// Finishes what was read back.
    pub(crate) fn resume(&mut self, most: usize) {
        self.shares = Shares::new(most);
        self.translations = Shares::new(most / HALVES_PER_TRANSLATION);
        for (_, half) in self.halves.iter() {
            self.shares.take(half.id.0, room(&half.id));
        }
        self.by_id = Index::default();
        for (ix, half) in self.halves.iter() {
            self.by_id.insert(&half.id, ix);
        }
    }

    /// The clock was ahead and has been set back: nothing waits for what it said.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        for half in self.halves.iter_mut() {
            half.opened = half.opened.min(now);
            half.changed_at = half.changed_at.min(now);
            if let Whose::Unknown { again_at, .. } = &mut half.whose {
                *again_at = (*again_at).min(now);
            }
        }
    }

    pub(crate) fn get(&self, ix: HalfIx) -> Option<&Half> {
        self.halves.get(ix.0)
    }

    pub(crate) fn get_mut(&mut self, ix: HalfIx) -> Option<&mut Half> {
        self.halves.get_mut(ix.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.halves.len()
    }

    /// Folded halves of a node of which something is being told again.
    pub(crate) fn told_of(&self, node: NodeIx) -> Vec<HalfIx> {
        let of_node = |ix: &&HalfIx| self.get(**ix).is_some_and(|half| half.node() == node);
        self.told.keys().filter(of_node).copied().collect()
    }

    pub(crate) fn find(&self, id: &HalfId) -> Option<HalfIx> {
        let is = |ix| self.halves.get(ix).is_some_and(|half| half.id == *id);
        self.by_id.find(id, is).map(HalfIx)
    }

    /// Every half with its place.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (HalfIx, &Half)> {
        self.halves.iter().map(|(ix, half)| (HalfIx(ix), half))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Half> {
        self.halves.iter().map(|(_, half)| half)
    }

    pub(crate) fn insert(
        &mut self,
        id: HalfId,
        service: ServiceIx,
        place: Place,
        link: LinkIx,
        by: Definition,
        opened: Timestamp,
    ) -> HalfIx {
        let half = Half {
            counters: [0; COUNTERS],
            histograms: Default::default(),
            before: None,
            changed: false,
            is_single: id.2.role == Role::Server && id.2.client_port != 0 && !id.2.is_folded(),
            id,
            service,
            place,
            link,
            opened,
            changed_at: opened,
            by,
            ended: None,
            whose: Whose::Unknown { asked: 0, again_at: opened },
        };
        self.shares.take(id.0, room(&id));
        let ix = self.halves.insert(half);
        self.by_id.insert(&id, ix);
        HalfIx(ix)
    }

    pub(crate) fn remove(&mut self, ix: HalfIx) -> Option<Half> {
        let half = self.halves.remove(ix.0)?;
        self.by_id.remove(&half.id, ix.0);
        self.told.remove(&ix);
        self.formers.remove(&ix);
        self.shares.give(half.id.0, room(&half.id));
        Some(half)
    }

    /// Has the half's link evaluated at the next tick.
    pub(crate) fn mark(&mut self, ix: HalfIx) {
        let _ = self.changing(ix);
    }

    #[inline]
    pub(crate) fn add(&mut self, ix: HalfIx, counter: Counter, value: u64) {
        self.begin(ix, counter);
        if let Some(half) = self.changing(ix) {
            let mine = &mut half.counters[counter.index()];
            *mine = mine.saturating_add(value);
        }
    }

    #[inline]
    pub(crate) fn add_bucket(&mut self, ix: HalfIx, kind: HistogramKind, bucket: u16, count: u64) {
        if let Some(half) = self.changing(ix) {
            half.histograms[kind.index()].add(bucket, count);
        }
    }

    /// Adds all that records have. What a few of them will write to is read before any of them does: these reads
    /// wait for memory together, which writes do one after the other.
    pub(crate) fn add_gained(&mut self, records: &[Gained<'_>]) {
        for some in records.chunks(AHEAD) {
            self.see(some);
            let (changed, stale_records) = (&mut self.changed, &mut self.stale_records);
            let formers = &mut self.formers;
            self.halves.change_all(
                some,
                |record| record.half.0,
                |record, half| {
                    let Some(half) = half else {
                        *stale_records += 1;
                        return;
                    };
                    if !std::mem::replace(&mut half.changed, true) {
                        changed.push(record.half);
                    }
                    if record.which & CONNECTIONS != 0 {
                        former::begin(formers, record.half, half);
                    }
                    half.gain(record);
                },
            );
        }
    }

    /// What a half had counted before its totals began again or, of a folded one, what those had that ended.
    pub(crate) fn before_mut(&mut self, ix: HalfIx) -> Option<&mut Counts> {
        Some(self.get_mut(ix)?.before.get_or_insert_default())
    }

    /// Reads a word of most of what records change: first of their halves, then of the buckets that these lead to.
    #[inline]
    fn see(&self, records: &[Gained<'_>]) {
        let mut halves = [None; AHEAD];
        let mut seen = 0;
        for (half, record) in halves.iter_mut().zip(records) {
            *half = self.halves.get(record.half.0);
            if let Some(half) = half {
                seen ^= half.counters.iter().step_by(8).fold(0, |seen, value| seen ^ value);
                seen ^= u64::from(half.changed);
                seen ^= half.histograms.iter().filter(|one| one.is_empty()).count() as u64;
            }
        }
        for (half, record) in halves.iter().zip(records) {
            let Some(half) = half else { continue };
            for (kind, bucket, _) in record.samples {
                seen ^= u64::from(half.histograms[kind.index()].see(*bucket));
            }
        }
        black_box(seen);
    }

    pub(crate) fn set_total(&mut self, ix: HalfIx, counter: Counter, total: u64) {
        let is_more =
            |half: &Half| half.counted_before(counter).saturating_add(total) > half.total(counter);
        if self.get(ix).is_some_and(is_more) {
            self.begin(ix, counter);
        }
        if let Some(half) = self.changing(ix) {
            let before = half.counted_before(counter);
            let mine = &mut half.counters[counter.index()];
            *mine = before.saturating_add(total).max(*mine);
        }
    }

    pub(crate) fn set_bucket_total(
        &mut self,
        ix: HalfIx,
        kind: HistogramKind,
        bucket: u16,
        total: u64,
    ) {
        if let Some(half) = self.changing(ix) {
            let before = half.before.as_ref().map_or(0, |b| b.1[kind.index()].get(bucket));
            let mine = &mut half.histograms[kind.index()];
            let more = before.saturating_add(total).saturating_sub(mine.get(bucket));
            mine.add(bucket, more);
        }
    }

    /// A half begins to count a further connection, if that is what rises.
    #[inline]
    fn begin(&mut self, ix: HalfIx, counter: Counter) {
        if counter == Counter::Connections
            && let Some(half) = self.halves.get_mut(ix.0)
        {
            former::begin(&mut self.formers, ix, half);
        }
    }

    #[inline]
    fn changing(&mut self, ix: HalfIx) -> Option<&mut Half> {
        let Some(half) = self.halves.get_mut(ix.0) else {
            self.stale_records += 1;
            return None;
        };
        if !half.changed {
            half.changed = true;
            self.changed.push(ix);
        }
        Some(half)
    }
}
