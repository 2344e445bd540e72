//! Writing prefaces: everything that a stream has to know before it can read a batch.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use common::{Counter, HistogramKind};
use prost::Message as _;
use proto::{
    columns::{Visitor, decode},
    convert::WorkloadDefinition,
    v1::{self, SectionKind},
};
use topology::model::Workload;

use super::{
    Report,
    build::{
        HALVES_PER_BATCH, LISTENERS_PER_BATCH, NAMES_PER_BATCH, container_names, put, put_columns,
        section,
    },
    definitions::definition,
    half::Told,
    translations::ENDS_PER_BATCH,
};

/// Workloads in one batch: with all labels there may be, some 17 KB each.
const WORKLOADS_PER_BATCH: usize = 64;

/// Addresses in one batch.
const ADDRESSES_PER_BATCH: usize = 16_384;

/// Bytes of columns in one batch, exceeded by at most one record.
const COLUMN_BYTES_PER_BATCH: usize = 1 << 20;

impl Report {
    /// Defines every id that batches after number `seq` may use, with totals as of batch `seq`.
    /// `queued` are the batches after it, encoded. Nothing when there is no batch before them.
    ///
    /// Halves that ended in a batch that is not acknowledged come first, with the number of that
    /// batch: should they have come again since, under other ids, their totals began anew.
    pub fn preface<'a>(
        &mut self,
        seq: u64,
        queued: impl Iterator<Item = &'a Bytes> + Clone,
    ) -> Vec<v1::Batch> {
        if seq == 0 {
            return Vec::new();
        }
        let halves = self.halves.as_of(seq);
        let mut parts = Vec::new();
        // Needed by the first of what follows.
        let first = halves.first().map_or(seq, |(retired, _)| numbered(*retired, seq));
        parts.extend(self.name_sections().into_iter().map(|section| (first, vec![section])));
        let mut ended_last = None;
        for stage in halves.chunk_by(|a, b| a.0 == b.0) {
            let retired = stage.first().map_or(0, |(retired, _)| *retired);
            let number = numbered(retired, seq);
            let mut rest = stage;
            while !rest.is_empty() {
                let (sections, written) = self.halves_as_of(rest, queued.clone());
                parts.push((number, sections));
                rest = rest.get(written..).unwrap_or_default();
            }
            let mut ended: Vec<u32> = stage.iter().map(|(_, id)| *id).collect();
            while retired > 0 && !ended.is_empty() {
                let later = ended.split_off(self.halves.retirable(ended.iter().copied()));
                let mut sections = Vec::new();
                put(&mut sections, SectionKind::EndedTotals, self.ended_totals(&ended));
                parts.push((number, sections));
                ended = later;
            }
            // With the last batch of the number: until it is taken over, all may come again.
            let ended = (retired > 0).then(|| retire(stage));
            match ended {
                Some(ended) if number == seq => ended_last = Some(ended),
                ended => parts.extend(ended.map(|ended| (number, vec![ended]))),
            }
        }
        parts.extend(self.node().into_iter().map(|sections| (seq, sections)));
        if let (Some(ended), Some((_, last))) = (ended_last, parts.last_mut()) {
            last.push(ended);
        }
        let mut batches: Vec<v1::Batch> = parts
            .into_iter()
            .map(|(seq, sections)| v1::Batch {
                seq,
                sections,
                preface: true,
                ..v1::Batch::default()
            })
            .collect();
        let mut next = 0;
        for batch in batches.iter_mut().rev() {
            batch.more = batch.seq == next;
            next = batch.seq;
        }
        batches
    }

    /// Workloads, addresses, and what containers are called.
    fn name_sections(&self) -> Vec<v1::Section> {
        let define = |definitions: v1::Definitions| {
            section(SectionKind::Definitions, definitions.encode_to_vec())
        };
        let mut sections = Vec::new();
        let workloads = self.workloads.defined().map(|(id, workload): (u32, &Arc<Workload>)| {
            let workload = Workload::clone(workload);
            v1::WorkloadDefinition::from(WorkloadDefinition { id, workload })
        });
        for workloads in chunks(workloads, WORKLOADS_PER_BATCH) {
            sections.push(define(v1::Definitions { workloads, ..v1::Definitions::default() }));
        }
        let addresses = self.addresses.defined().map(|(id, address)| {
            let address = Some((*address).into());
            v1::AddressDefinition { id, address }
        });
        for addresses in chunks(addresses, ADDRESSES_PER_BATCH) {
            sections.push(define(v1::Definitions { addresses, ..v1::Definitions::default() }));
        }
        for names in chunks(self.names.all(), NAMES_PER_BATCH) {
            sections.push(section(SectionKind::ContainerNames, container_names(names)));
        }
        sections
    }

    /// As many of these halves as fit into one batch, all live or all retired by the same batch;
    /// and how many they are.
    fn halves_as_of<'a>(
        &mut self,
        halves: &[(u64, u32)],
        queued: impl Iterator<Item = &'a Bytes>,
    ) -> (Vec<v1::Section>, usize) {
        let halves = halves.get(..HALVES_PER_BATCH).unwrap_or(halves);
        let known = halves.iter().filter_map(|(_, id)| Some((*id, self.halves.get(*id)?.told())));
        let mut told = Rewind(known.collect());
        for batch in queued {
            told.before(batch);
        }
        let mut definitions = v1::Definitions::default();
        let mut translations = v1::Translations::default();
        let (mut written, mut ends) = (0, 0);
        for (_, id) in halves {
            if self.totals.estimated_bytes() > COLUMN_BYTES_PER_BATCH || ends >= ENDS_PER_BATCH {
                break;
            }
            written += 1;
            let (Some(half), Some(told)) = (self.halves.get(*id), told.0.get(id)) else { continue };
            definitions.halves.push(definition(*id, half));
            let translation = self.translation_of(*id);
            ends += translation.as_ref().map_or(0, |translation| translation.ends.len());
            translations.translations.extend(translation);
            told.buckets(&mut self.buckets);
            if let Err(error) = self.totals.push(*id, &told.counters, &self.buckets) {
                tracing::error!(%error, half = id, "cannot write the totals of a half");
            }
        }
        let mut sections = Vec::new();
        put(&mut sections, SectionKind::Definitions, definitions.encode_to_vec());
        put_columns(&mut sections, SectionKind::Totals, &mut self.totals);
        put(&mut sections, SectionKind::Translations, translations.encode_to_vec());
        (sections, written)
    }

    /// What is to be known of the node itself. Never nothing: it is the end of the preface.
    fn node(&self) -> Vec<Vec<v1::Section>> {
        let mut parts = Vec::new();
        // One whose workload no batch has defined yet comes with the batch that does.
        let all = self.listeners.current();
        let told = all.filter(|change| self.workloads.is_defined(change.listener.workload));
        let mut chunks = chunks(told.map(Into::into), LISTENERS_PER_BATCH);
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        for listeners in chunks {
            let listeners = v1::Listeners { complete: parts.is_empty(), listeners };
            parts.push(vec![section(SectionKind::Listeners, listeners.encode_to_vec())]);
        }
        if let Some(last) = parts.last_mut() {
            put(last, SectionKind::NodeStatus, self.status.value.encode_to_vec());
        }
        parts
    }
}

fn retire(halves: &[(u64, u32)]) -> v1::Section {
    let retired_halves = halves.iter().map(|(_, id)| *id).collect();
    let definitions = v1::Definitions { retired_halves, ..v1::Definitions::default() };
    section(SectionKind::Definitions, definitions.encode_to_vec())
}

/// Number of what a batch retired; 0 stands for what is live.
fn numbered(retired: u64, seq: u64) -> u64 {
    if retired == 0 { seq } else { retired }
}

fn chunks<T>(all: impl Iterator<Item = T>, most: usize) -> Vec<Vec<T>> {
    let mut chunks: Vec<Vec<T>> = Vec::new();
    for one in all {
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < most => chunk.push(one),
            _ => chunks.push(vec![one]),
        }
    }
    chunks
}

/// What batches have told of some halves, going back batch by batch.
struct Rewind(HashMap<u32, Told>);

impl Rewind {
    fn before(&mut self, batch: &Bytes) {
        let batch = match v1::Batch::decode(batch.clone()) {
            Ok(batch) => batch,
            Err(error) => return tracing::error!(%error, "cannot read a batch that was written"),
        };
        let increments = |section: &&v1::Section| {
            i32::try_from(section.kind) == Ok(SectionKind::Increments.into())
        };
        for section in batch.sections.iter().filter(increments) {
            if let Err(error) = decode(&section.payload, self) {
                tracing::error!(%error, batch = batch.seq, "cannot read what was written");
            }
        }
    }
}

impl Visitor for Rewind {
    fn half(&mut self, _: u32) {}

    fn counter(&mut self, half: u32, counter: Counter, value: u64) {
        if let Some(told) = self.0.get_mut(&half) {
            told.take_counter(counter, value);
        }
    }

    fn bucket(&mut self, half: u32, kind: HistogramKind, bucket: u16, count: u64) {
        if let Some(told) = self.0.get_mut(&half) {
            told.take_bucket(kind, bucket, count);
        }
    }
}
