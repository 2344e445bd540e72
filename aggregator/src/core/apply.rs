//! Adding a batch to the graph. A record costs an array look-up and a few additions.

use proto::{
    columns::{Record, Records},
    convert::Translation,
};
use topology::{
    DefineError, Gained, Graph, HalfIx, LateBatch, NodeIx, Telling, Timestamp, WorkloadIx,
    model::{HalfKey, Listener},
};

use super::{
    batch::{Definitions, Part, Prepared, Status},
    tables::Tables,
};
use crate::metrics::Metrics;

/// Causes of loss that the aggregator itself counts for a node.
const UNDEFINED: &str = "aggregator_records_undefined";
const REFUSED: &str = "aggregator_definitions_refused";

/// What happened to the parts of a batch.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    records: u64,
    undefined: u64,
    refused: u64,
}

impl Tally {
    /// Tells the graph what the node has lost.
    pub(super) fn report(self, graph: &mut Graph, node: NodeIx) {
        for (cause, count) in [(UNDEFINED, self.undefined), (REFUSED, self.refused)] {
            if count > 0 {
                graph.add_loss(node, cause, count);
            }
        }
    }

    /// Counts for the aggregator's own metrics.
    pub(crate) fn count(self, metrics: &Metrics) {
        metrics.records.inc_by(self.records);
        metrics.records_undefined.inc_by(self.undefined);
        metrics.definitions_refused.inc_by(self.refused);
    }
}

/// Adds a batch of one stream to the graph.
pub(super) struct Applier<'a> {
    pub(super) graph: &'a mut Graph,
    pub(super) tables: &'a mut Tables,
    pub(super) node: NodeIx,
    pub(super) now: Timestamp,
    /// As the certificate of the connection says.
    pub(super) certificate_expires_unix_s: i64,
    pub(super) tally: Tally,
    /// The batch tells of a step that is over.
    pub(super) late: Option<LateBatch>,
}

impl Applier<'_> {
    /// Adds a batch. One that an earlier stream has brought already (`replayed`) defines the ids of
    /// this stream all the same, but its numbers have been counted: increments for good, and totals,
    /// because those of a half that has been retired since would begin anew. Nor does it open or
    /// end a half: that happened when its numbers were counted, and more may have happened since.
    pub(super) fn batch(&mut self, prepared: Prepared, replayed: bool) {
        self.tally.refused += prepared.refused;
        let (mut retired, preface) = (Vec::new(), prepared.preface);
        if !replayed {
            self.open_replayed();
        }
        for part in prepared.parts {
            match part {
                Part::Definitions(mut definitions) => {
                    retired.append(&mut definitions.retired);
                    self.define(definitions, replayed, preface);
                }
                Part::Totals(_) | Part::Increments(_) | Part::Ended(_) if replayed => {}
                Part::Totals(records) => {
                    let folded = if preface { Telling::Again } else { Telling::First };
                    self.totals(&records, folded);
                }
                Part::Ended(records) => self.ended(&records),
                Part::Increments(records) => self.increments(&records),
                Part::Listeners { complete, changes } => self.listeners(complete, changes),
                Part::Status(status) => self.status(status),
                Part::Signals(signals) => {
                    for histogram in signals {
                        self.graph.set_signal(self.node, histogram.signal, histogram.buckets);
                    }
                }
                Part::Names(names) => {
                    let names = names.into_iter().map(|named| (named.container, named.called));
                    self.graph.name_containers(self.node, names);
                }
                // What replayed batches have told of halves is known.
                Part::Translations(_) if replayed => {}
                Part::Translations(translations) => {
                    for Translation { half, ends } in translations {
                        match self.tables.halves.get(half) {
                            Some(half) => self.graph.add_translations(half, ends, self.now),
                            None => self.tally.undefined += 1,
                        }
                    }
                }
                Part::Owners(answers) => {
                    for answer in answers {
                        let workload = answer.workload.and_then(|id| self.tables.workloads.get(id));
                        self.graph.tuple_owner(self.node, answer.tuple, workload);
                    }
                }
            }
        }
        // Their last records may stand anywhere in the batch.
        for id in retired {
            self.tables.replayed.remove(&id);
            let half = self.tables.halves.remove(id);
            if let (Some(half), false) = (half, replayed) {
                self.graph.retire_half(half, self.now);
            }
        }
    }

    /// Opens the halves that replayed batches have defined and none of them has retired.
    pub(super) fn open_replayed(&mut self) {
        for (id, (key, birth)) in std::mem::take(&mut self.tables.replayed) {
            self.open(id, key, birth, true);
        }
    }

    fn increments(&mut self, records: &Records) {
        let mut gained = Vec::with_capacity(records.len());
        for Record { half, which, values, samples } in records.iter() {
            if let Some(half) = self.half(half) {
                gained.push(Gained { half, which, values, samples });
            }
        }
        self.tally.records += records.len() as u64;
        self.graph.add_gained(&gained);
    }

    fn totals(&mut self, records: &Records, folded: Telling) {
        for record in records.iter() {
            self.tally.records += 1;
            let Some(half) = self.half(record.half) else { continue };
            if self.graph.is_folded(half) {
                self.tell_folded(half, folded, record);
                continue;
            }
            for (counter, total) in record.counters() {
                self.graph.set_total(half, counter, total);
            }
            for (kind, bucket, total) in record.samples {
                self.graph.set_bucket_total(half, *kind, *bucket, *total);
            }
        }
    }

    /// What halves had counted that end: of interest where they are folded.
    fn ended(&mut self, records: &Records) {
        for record in records.iter() {
            let half = self.tables.halves.get(record.half);
            if let Some(half) = half.filter(|half| self.graph.is_folded(*half)) {
                self.tell_folded(half, Telling::Last, record);
            }
        }
    }

    fn tell_folded(&mut self, half: HalfIx, telling: Telling, record: Record<'_>) {
        for (counter, total) in record.counters() {
            self.graph.tell_folded(half, telling, counter, total);
        }
        for (kind, bucket, total) in record.samples {
            self.graph.tell_folded_bucket(half, telling, *kind, *bucket, *total);
        }
    }

    /// The half of a record that is about to be added.
    #[inline]
    fn half(&mut self, id: u32) -> Option<HalfIx> {
        let half = self.tables.halves.get(id);
        self.tally.undefined += u64::from(half.is_none());
        if let (Some(late), Some(half)) = (&mut self.late, half) {
            late.note(self.graph, half);
        }
        half
    }

    fn define(&mut self, definitions: Definitions, replayed: bool, preface: bool) {
        for definition in definitions.workloads {
            match self.graph.intern_workload(self.node, definition.workload) {
                Ok(workload) if self.tables.set_workload(definition.id, workload) => {}
                _ => self.tally.refused += 1,
            }
        }
        for (id, address) in definitions.addresses {
            self.tables.set_address(id, address);
        }
        for half in definitions.halves {
            let Some(workload) = self.tables.workloads.get(half.workload) else {
                self.tally.refused += 1;
                continue;
            };
            if Tables::is_beyond(half.local.max(half.peer)) || (replayed && !self.tables.has_room())
            {
                let folded = self.graph.fold_half(self.node, workload, half.role, self.now);
                self.set(half.id, folded);
                continue;
            }
            let key = (|| {
                Some(HalfKey {
                    workload,
                    local: self.tables.addresses.get(half.local)?,
                    peer: self.tables.addresses.get(half.peer)?,
                    server_port: half.server_port,
                    client_port: half.client_port,
                    role: half.role,
                })
            })();
            let Some(key) = key else {
                self.tally.refused += 1;
                continue;
            };
            if replayed {
                self.tables.replayed.insert(half.id, (key, half.birth));
            } else {
                self.open(half.id, key, half.birth, preface);
            }
        }
    }

    fn open(&mut self, id: u32, key: HalfKey<WorkloadIx>, birth: u64, again: bool) {
        let half = if again {
            self.graph.open_half_again(self.node, key, birth, self.now)
        } else {
            self.graph.open_half(self.node, key, birth, self.now)
        };
        self.set(id, half);
    }

    fn set(&mut self, id: u32, half: Result<HalfIx, DefineError>) {
        match half {
            Ok(ix) => self.tables.halves.set(id, ix),
            // Its id must not go on naming an older half.
            Err(_) => {
                self.tally.refused += 1;
                self.tables.halves.remove(id);
            }
        }
    }

    fn listeners(&mut self, complete: bool, changes: Vec<proto::convert::ListenerChange>) {
        let mut known: Vec<(Listener<WorkloadIx>, bool)> = Vec::with_capacity(changes.len());
        for change in changes {
            let Listener { workload, address, network_namespace, port } = change.listener;
            match self.tables.workloads.get(workload) {
                Some(workload) => known
                    .push((Listener { workload, address, network_namespace, port }, change.closed)),
                None => self.tally.refused += 1,
            }
        }
        if complete {
            let open = known.into_iter().filter(|(_, closed)| !closed);
            self.graph.set_listeners(self.node, open.map(|(listener, _)| listener));
            return;
        }
        for (listener, closed) in known {
            if closed {
                self.graph.listener_closed(self.node, listener);
            } else {
                self.graph.listener_opened(self.node, listener);
            }
        }
    }

    fn status(&mut self, status: Status) {
        let expires = Some(self.certificate_expires_unix_s);
        self.graph.set_status(self.node, status.programs, expires);
        self.graph.set_addresses(self.node, status.addresses);
        self.graph.set_host_namespace(self.node, status.host_namespace);
        for (cause, count) in status.losses {
            self.graph.set_loss(self.node, &cause, count);
        }
    }
}
