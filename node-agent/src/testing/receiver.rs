//! The aggregator's side of a stream, as the protocol has it: what it counts must be what
//! happened.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use common::{Counter, HistogramKind};
use prost::Message as _;
use proto::{
    columns::{Visitor, decode},
    convert::{
        ContainerName, HalfDefinition, ListenerChange, Translation, TupleAnswer, WorkloadDefinition,
    },
    v1::{self, SectionKind},
};
use topology::model::{Address, Ends, HalfKey, Listener, Workload};

use super::folding::Folding;

/// A value of a half: a counter, or a bucket of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Value {
    Counter(Counter),
    Bucket(HistogramKind, u16),
}

pub(crate) type Key = HalfKey<Workload>;

pub(crate) type Values = BTreeMap<Value, u64>;

/// What a receiver knows beyond a stream. A clone is what was stored of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receiver {
    /// Last batch applied.
    pub(crate) seq: u64,
    /// Totals applied per half of the generation, since it was last retired.
    applied: HashMap<Key, Values>,
    /// What was counted, ended halves included.
    pub(crate) counted: HashMap<Key, Values>,
    pub(crate) listeners: HashSet<Listener<Workload>>,
    /// What the other ends of halves see.
    pub(crate) ends: HashMap<Key, BTreeSet<Ends>>,
    pub(crate) status: v1::NodeStatus,
    pub(crate) signals: v1::HostSignals,
    /// What containers are called, as far as the stream has said.
    pub(crate) names: BTreeMap<String, Workload>,
    pub(crate) answers: Vec<(TupleAnswer, Option<Workload>)>,
    pub(crate) retired: usize,
    /// Batches of prefaces.
    pub(crate) prefaces: usize,
    /// Ages of the batches that were counted.
    pub(crate) ages_ns: Vec<u64>,
    /// What one has counted that keeps no halves apart.
    pub(crate) folding: Folding,
    /// Last batch of the stream.
    seen: u64,
    workloads: HashMap<u32, Workload>,
    addresses: HashMap<u32, Address>,
    halves: HashMap<u32, Key>,
}

impl Receiver {
    /// One that has applied batches up to this one.
    pub(crate) fn at(seq: u64) -> Self {
        Self { seq, ..Self::default() }
    }

    /// A stream begins; returns what a `Welcome` would acknowledge.
    pub(crate) fn restart(&mut self) -> u64 {
        self.workloads.clear();
        self.addresses.clear();
        self.halves.clear();
        self.names.clear();
        self.seen = 0;
        self.folding.restart();
        self.seq
    }

    /// Applies a batch as it came over the wire. One whose number has been applied defines ids
    /// only. Returns what is acknowledged.
    pub(crate) fn apply(&mut self, batch: &v1::Batch) -> u64 {
        assert!(batch.encoded_len() < proto::MAX_MESSAGE_BYTES);
        assert!(batch.seq > 0, "batches are numbered from 1");
        self.prefaces += usize::from(batch.preface);
        if !batch.preface {
            let before = if self.seen == 0 { batch.seq - 1 } else { self.seen };
            assert_eq!(batch.seq, before + 1, "batches come one after the other");
        }
        let replayed = batch.seq <= self.seq;
        if !replayed && !batch.preface {
            self.ages_ns.push(batch.age_ns);
        }
        if !replayed {
            self.folding.apply(batch);
        }
        let mut retired = Vec::new();
        for section in &batch.sections {
            let payload = &section.payload[..];
            match SectionKind::try_from(section.kind as i32).unwrap() {
                SectionKind::Definitions => {
                    let definitions = v1::Definitions::decode(payload).unwrap();
                    retired.clone_from(&definitions.retired_halves);
                    self.define(definitions);
                }
                SectionKind::Totals | SectionKind::Increments if replayed => {
                    decode(payload, &mut Known(self)).unwrap();
                }
                SectionKind::Totals => {
                    decode(payload, &mut Totals(self)).unwrap();
                }
                SectionKind::Increments => {
                    decode(payload, &mut Increments(self)).unwrap();
                }
                SectionKind::Listeners => self.listen(v1::Listeners::decode(payload).unwrap()),
                SectionKind::NodeStatus => self.status = v1::NodeStatus::decode(payload).unwrap(),
                SectionKind::HostSignals => {
                    self.signals = v1::HostSignals::decode(payload).unwrap()
                }
                SectionKind::TupleOwners => {
                    for owner in v1::TupleOwners::decode(payload).unwrap().owners {
                        let answer = TupleAnswer::try_from(owner).unwrap();
                        let workload = answer.workload.map(|id| self.workloads[&id].clone());
                        self.answers.push((answer, workload));
                    }
                }
                SectionKind::EndedTotals if replayed => {}
                SectionKind::EndedTotals => {
                    decode(payload, &mut Ended(self)).unwrap();
                }
                SectionKind::ContainerNames => {
                    for name in v1::ContainerNames::decode(payload).unwrap().names {
                        let name = ContainerName::try_from(name).unwrap();
                        self.names.insert(name.container, name.called);
                    }
                }
                SectionKind::Translations => {
                    self.translate(v1::Translations::decode(payload).unwrap())
                }
                SectionKind::Unspecified => panic!("a section of no kind"),
            }
        }
        for id in retired {
            let key = self.halves.remove(&id).expect("a half that was defined");
            if !replayed {
                self.applied.remove(&key);
                self.retired += 1;
            }
        }
        if !batch.more {
            self.seen = self.seen.max(batch.seq);
            self.seq = self.seq.max(batch.seq);
        }
        self.seq
    }

    fn define(&mut self, definitions: v1::Definitions) {
        for workload in definitions.workloads {
            let definition = WorkloadDefinition::try_from(workload).unwrap();
            self.workloads.insert(definition.id, definition.workload);
        }
        for address in definitions.addresses {
            let value = address.address.unwrap().try_into().unwrap();
            self.addresses.insert(address.id, value);
        }
        for half in definitions.halves {
            let half = HalfDefinition::try_from(half).unwrap();
            let key = HalfKey {
                workload: self.workloads[&half.workload].clone(),
                local: self.addresses[&half.local],
                peer: self.addresses[&half.peer],
                server_port: half.server_port,
                client_port: half.client_port,
                role: half.role,
            };
            self.halves.insert(half.id, key);
        }
    }

    fn translate(&mut self, translations: v1::Translations) {
        for translation in translations.translations {
            let Translation { half, ends } = translation.try_into().unwrap();
            let known = self.ends.entry(self.halves[&half].clone()).or_default();
            known.extend(ends);
        }
    }

    fn listen(&mut self, listeners: v1::Listeners) {
        if listeners.complete {
            self.listeners.clear();
        }
        for state in listeners.listeners {
            let ListenerChange { listener, closed } = state.try_into().unwrap();
            let listener = Listener {
                workload: self.workloads[&listener.workload].clone(),
                address: listener.address,
                network_namespace: listener.network_namespace,
                port: listener.port,
            };
            if closed {
                self.listeners.remove(&listener);
            } else {
                self.listeners.insert(listener);
            }
        }
    }

    fn total(&mut self, half: u32, value: Value, total: u64) {
        let key = self.halves[&half].clone();
        let applied = self.applied.entry(key.clone()).or_default().entry(value).or_default();
        // Totals only raise what they are of, as increments do.
        let gain = total.saturating_sub(*applied);
        *applied = total.max(*applied);
        *self.counted.entry(key).or_default().entry(value).or_default() += gain;
    }

    fn increment(&mut self, half: u32, value: Value, gain: u64) {
        let applied = self.applied.get(&self.halves[&half]).and_then(|values| values.get(&value));
        let total = applied.copied().unwrap_or_default() + gain;
        self.total(half, value, total);
    }
}

/// What halves had counted that end: as much as was told of them.
struct Ended<'a>(&'a mut Receiver);

impl Ended<'_> {
    fn compare(&self, half: u32, value: Value, total: u64) {
        let applied = self.0.applied.get(&self.0.halves[&half]);
        let applied = applied.and_then(|values| values.get(&value)).copied();
        assert_eq!(applied.unwrap_or_default(), total);
    }
}

impl Visitor for Ended<'_> {
    fn half(&mut self, half: u32) {
        assert!(self.0.halves.contains_key(&half));
    }
    fn counter(&mut self, half: u32, counter: Counter, value: u64) {
        self.compare(half, Value::Counter(counter), value);
    }
    fn bucket(&mut self, half: u32, kind: HistogramKind, bucket: u16, count: u64) {
        self.compare(half, Value::Bucket(kind, bucket), count);
    }
}

/// Numbers that count no more, of halves that have to be known all the same.
struct Known<'a>(&'a mut Receiver);

impl Visitor for Known<'_> {
    fn half(&mut self, half: u32) {
        assert!(self.0.halves.contains_key(&half));
    }
    fn counter(&mut self, _: u32, _: Counter, _: u64) {}
    fn bucket(&mut self, _: u32, _: HistogramKind, _: u16, _: u64) {}
}

struct Totals<'a>(&'a mut Receiver);

impl Visitor for Totals<'_> {
    fn half(&mut self, half: u32) {
        assert!(self.0.halves.contains_key(&half));
    }
    fn counter(&mut self, half: u32, counter: Counter, value: u64) {
        self.0.total(half, Value::Counter(counter), value);
    }
    fn bucket(&mut self, half: u32, kind: HistogramKind, bucket: u16, count: u64) {
        self.0.total(half, Value::Bucket(kind, bucket), count);
    }
}

struct Increments<'a>(&'a mut Receiver);

impl Visitor for Increments<'_> {
    fn half(&mut self, half: u32) {
        assert!(self.0.halves.contains_key(&half));
    }
    fn counter(&mut self, half: u32, counter: Counter, value: u64) {
        self.0.increment(half, Value::Counter(counter), value);
    }
    fn bucket(&mut self, half: u32, kind: HistogramKind, bucket: u16, count: u64) {
        self.0.increment(half, Value::Bucket(kind, bucket), count);
    }
}
