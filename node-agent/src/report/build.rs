//! Writing batches.

use prost::Message as _;
use proto::{
    columns::Encoder,
    convert::{ContainerName, TupleAnswer},
    v1::{self, SectionKind},
};

use super::{Report, definitions::Definitions};

/// Halves in one batch.
pub(super) const HALVES_PER_BATCH: usize = 2_048;

/// Bytes of columns in one batch, exceeded by at most one record.
const COLUMN_BYTES_PER_BATCH: usize = 1 << 20;

/// Names of containers in one batch: with all labels there may be, some 3 KB each.
pub(super) const NAMES_PER_BATCH: usize = 256;

/// Listener changes in one batch.
pub(super) const LISTENERS_PER_BATCH: usize = 4_096;

/// Names and translations, which come to 1.8 MB at most, are left for the next batch when what else there is takes more
/// than so many bytes: a message has 4 MiB.
const CROWDED_BYTES: usize = 1 << 20;

impl Report {
    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.halves.is_clean()
            && self.listeners.is_clean()
            && !self.status.due
            && !self.signals.due
            && self.names.is_clean()
            && self.answers.is_empty()
            && self.translations.untold.is_empty()
    }

    /// Writes the next batch of the session; what does not fit is left for the one after. `None`
    /// when there is nothing to send. The times in the batch are the sender's to fill in.
    pub fn build(&mut self) -> Option<v1::Batch> {
        if self.is_clean() {
            return None;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        let mut definitions = Definitions::default();
        self.put_halves(seq, &mut definitions);
        definitions.wire.retired_halves = self.halves.retire(seq);
        let ended = self.ended_totals(&definitions.wire.retired_halves);
        let mut borrowed = Vec::new();
        let listeners = self.put_listeners(&mut definitions, &mut borrowed);
        let answers = self.put_answers(&mut definitions, &mut borrowed);
        for workload in borrowed {
            self.workloads.release(workload, seq);
        }

        let columns = self.totals.estimated_bytes() + self.increments.estimated_bytes();
        let definitions = definitions.wire.encode_to_vec();
        let crowded = columns + definitions.len() + ended.len() > CROWDED_BYTES;

        let mut sections = Vec::new();
        if std::mem::take(&mut self.status.due) {
            put(&mut sections, SectionKind::NodeStatus, self.status.value.encode_to_vec());
        }
        put(&mut sections, SectionKind::Definitions, definitions);
        let names = self.names.take_untold(if crowded { 0 } else { NAMES_PER_BATCH });
        put(&mut sections, SectionKind::ContainerNames, container_names(names));
        for (kind, encoder) in [
            (SectionKind::Totals, &mut self.totals),
            (SectionKind::Increments, &mut self.increments),
        ] {
            put_columns(&mut sections, kind, encoder);
        }
        put(&mut sections, SectionKind::EndedTotals, ended);
        if !crowded {
            let translations = self.put_translations();
            put(&mut sections, SectionKind::Translations, translations.encode_to_vec());
        }
        if let Some(listeners) = listeners {
            // "None at all" is an empty message, and has to be said.
            sections.push(section(SectionKind::Listeners, listeners.encode_to_vec()));
        }
        if std::mem::take(&mut self.signals.due) {
            put(&mut sections, SectionKind::HostSignals, self.signals.value.encode_to_vec());
        }
        put(&mut sections, SectionKind::TupleOwners, answers.encode_to_vec());
        Some(v1::Batch { seq, sections, ..v1::Batch::default() })
    }

    fn put_halves(&mut self, seq: u64, definitions: &mut Definitions) {
        let dirty = self.halves.take_dirty();
        let mut written = 0;
        for id in &dirty {
            let bytes = self.totals.estimated_bytes() + self.increments.estimated_bytes();
            let full = written == HALVES_PER_BATCH || bytes > COLUMN_BYTES_PER_BATCH;
            if full || !definitions.has_room() {
                break;
            }
            written += 1;
            let Some(half) = self.halves.get_mut(*id) else { continue };
            let new = half.defined == 0;
            let encoder = if new { &mut self.totals } else { &mut self.increments };
            if let Err(error) = encoder.push(*id, half.record(&mut self.buckets), &self.buckets) {
                tracing::error!(%error, half = id, "cannot write the values of a half");
            }
            if new {
                definitions.half(*id, half, &mut self.workloads, &mut self.addresses);
            }
            half.sent(seq);
        }
        self.halves.put_back(dirty.get(written..).unwrap_or_default());
    }

    /// All that halves have counted which end.
    pub(super) fn ended_totals(&mut self, ended: &[u32]) -> Vec<u8> {
        let mut ended = ended.to_vec();
        ended.sort_unstable();
        let mut encoder = Encoder::new();
        for id in &ended {
            let Some(half) = self.halves.get(*id) else { continue };
            let told = half.told();
            told.buckets(&mut self.buckets);
            if let Err(error) = encoder.push(*id, &told.counters, &self.buckets) {
                tracing::error!(%error, half = id, "cannot write the totals of a half");
            }
        }
        let mut payload = Vec::new();
        if !encoder.is_empty() {
            encoder.finish(&mut payload);
        }
        payload
    }

    fn put_listeners(
        &mut self,
        definitions: &mut Definitions,
        borrowed: &mut Vec<u32>,
    ) -> Option<v1::Listeners> {
        let complete = self.listeners.take_complete();
        let mut listeners = Vec::new();
        while listeners.len() < LISTENERS_PER_BATCH
            && definitions.has_room()
            && let Some(change) = self.listeners.take_untold()
        {
            definitions.workload(change.listener.workload, &mut self.workloads);
            if change.closed {
                borrowed.push(change.listener.workload);
            }
            listeners.push(change.into());
        }
        (complete || !listeners.is_empty()).then_some(v1::Listeners { complete, listeners })
    }

    fn put_answers(
        &mut self,
        definitions: &mut Definitions,
        borrowed: &mut Vec<u32>,
    ) -> v1::TupleOwners {
        let mut owners = Vec::new();
        while definitions.has_room()
            && let Some((tuple, workload)) = self.answers.pop_front()
        {
            let workload = workload.map(|workload| {
                let id = self.workloads.acquire(&workload);
                borrowed.push(id);
                definitions.workload(id, &mut self.workloads);
                id
            });
            owners.push(TupleAnswer { tuple, workload }.into());
        }
        v1::TupleOwners { owners }
    }
}

/// What containers are called, as it is told.
pub(super) fn container_names(names: Vec<ContainerName>) -> Vec<u8> {
    let names = names.into_iter().map(Into::into).collect();
    v1::ContainerNames { names }.encode_to_vec()
}

pub(super) fn put_columns(
    sections: &mut Vec<v1::Section>,
    kind: SectionKind,
    encoder: &mut Encoder,
) {
    if !encoder.is_empty() {
        let mut payload = Vec::new();
        encoder.finish(&mut payload);
        put(sections, kind, payload);
    }
}

pub(super) fn put(sections: &mut Vec<v1::Section>, kind: SectionKind, payload: Vec<u8>) {
    if !payload.is_empty() {
        sections.push(section(kind, payload));
    }
}

pub(super) fn section(kind: SectionKind, payload: Vec<u8>) -> v1::Section {
    v1::Section { kind: i32::from(kind) as u32, payload: payload.into() }
}
