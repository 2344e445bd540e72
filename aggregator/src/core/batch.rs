//! Reading a batch, before the state is held.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::{
    ConvertError,
    columns::{DecodeError, Records},
    convert::{
        ContainerName, HalfDefinition, HostHistogram, ListenerChange, Translation, TupleAnswer,
        WorkloadDefinition, losses,
    },
    v1,
};
use thiserror::Error;
use topology::model::{Address, NodeAddress, Program};

/// Bytes that are not what their section's kind says. The stream ends.
#[derive(Debug, Error)]
pub(crate) enum BatchError {
    #[error("section of kind {kind}: {source}")]
    Section { kind: u32, source: prost::DecodeError },
    #[error("{0}")]
    Columns(#[from] DecodeError),
}

/// A section, checked.
pub(super) enum Part {
    Definitions(Definitions),
    /// Totals since the map generation began.
    Totals(Records),
    /// Increments since the batch before.
    Increments(Records),
    /// Totals of halves that end in this batch.
    Ended(Records),
    Listeners {
        complete: bool,
        changes: Vec<ListenerChange>,
    },
    Status(Status),
    Signals(Vec<HostHistogram>),
    Owners(Vec<TupleAnswer>),
    Names(Vec<ContainerName>),
    Translations(Vec<Translation>),
}

pub(super) struct Definitions {
    pub(super) workloads: Vec<WorkloadDefinition>,
    pub(super) addresses: Vec<(u32, Address)>,
    pub(super) halves: Vec<HalfDefinition>,
    pub(super) retired: Vec<u32>,
}

pub(super) struct Status {
    pub(super) programs: Vec<Program>,
    pub(super) losses: Vec<(String, u64)>,
    pub(super) addresses: Vec<NodeAddress>,
    /// Cookie of the host's own network namespace.
    pub(super) host_namespace: Option<u64>,
}

/// A batch, ready to be added to the graph.
pub(crate) struct Prepared {
    /// Its number.
    pub(super) seq: u64,
    /// It stands for batches that the agent no longer holds.
    pub(super) preface: bool,
    /// Another batch of this number follows.
    pub(super) more: bool,
    /// When it was sent, by the agent's clock, in nanoseconds since the epoch; 0 when that was not said.
    pub(super) sent_unix_ns: u64,
    /// How long before it was sent its interval had ended.
    pub(super) age: Duration,
    pub(super) parts: Vec<Part>,
    /// Things the domain has no place for. They are left out and counted.
    pub(super) refused: u64,
    /// Sections of an unknown kind, and parts of others that only a later version knows of.
    pub(crate) unknown: u64,
}

impl Prepared {
    pub(crate) fn read(batch: v1::Batch) -> Result<Self, BatchError> {
        let mut prepared = Self {
            seq: batch.seq,
            preface: batch.preface,
            more: batch.more,
            sent_unix_ns: batch.sent_unix_ns,
            age: Duration::from_nanos(batch.age_ns),
            parts: Vec::new(),
            refused: 0,
            unknown: 0,
        };
        for section in batch.sections {
            match prepared.section(section.kind, section.payload)? {
                Some(part) => prepared.parts.push(part),
                None => prepared.unknown += 1,
            }
        }
        Ok(prepared)
    }

    fn section(&mut self, kind: u32, payload: Bytes) -> Result<Option<Part>, BatchError> {
        use v1::SectionKind as Kind;
        let known = i32::try_from(kind).ok().and_then(|kind| Kind::try_from(kind).ok());
        Ok(Some(match known {
            None | Some(Kind::Unspecified) => return Ok(None),
            // All of it, before anything of it counts.
            Some(Kind::Totals) => Part::Totals(Records::read(&payload)?),
            Some(Kind::Increments) => Part::Increments(Records::read(&payload)?),
            Some(Kind::EndedTotals) => Part::Ended(Records::read(&payload)?),
            Some(Kind::Definitions) => self.definitions(parse(kind, payload)?),
            Some(Kind::Listeners) => {
                let wire: v1::Listeners = parse(kind, payload)?;
                let changes = self.keep(wire.listeners, ListenerChange::try_from);
                Part::Listeners { complete: wire.complete, changes }
            }
            Some(Kind::NodeStatus) => self.status(parse(kind, payload)?),
            Some(Kind::HostSignals) => {
                let mut wire: v1::HostSignals = parse(kind, payload)?;
                self.skip(&mut wire.signals, |one| v1::HostSignalKind::try_from(one.kind).is_ok());
                Part::Signals(self.keep(wire.signals, HostHistogram::try_from))
            }
            Some(Kind::ContainerNames) => {
                let wire: v1::ContainerNames = parse(kind, payload)?;
                Part::Names(self.keep(wire.names, ContainerName::try_from))
            }
            Some(Kind::Translations) => {
                let wire: v1::Translations = parse(kind, payload)?;
                Part::Translations(self.keep(wire.translations, Translation::try_from))
            }
            Some(Kind::TupleOwners) => {
                let wire: v1::TupleOwners = parse(kind, payload)?;
                Part::Owners(self.keep(wire.owners, TupleAnswer::try_from))
            }
        }))
    }

    fn definitions(&mut self, wire: v1::Definitions) -> Part {
        let address = |wire: v1::AddressDefinition| {
            if wire.id >= proto::MAX_ID {
                let (field, value) = ("address id", u64::from(wire.id));
                let max = u64::from(proto::MAX_ID) - 1;
                return Err(ConvertError::Range { field, value, max });
            }
            let address = wire.address.ok_or(ConvertError::Missing("address"))?;
            Ok((wire.id, address.try_into()?))
        };
        Part::Definitions(Definitions {
            workloads: self.keep(wire.workloads, WorkloadDefinition::try_from),
            addresses: self.keep(wire.addresses, address),
            halves: self.keep(wire.halves, HalfDefinition::try_from),
            retired: wire.retired_halves,
        })
    }

    fn status(&mut self, mut wire: v1::NodeStatus) -> Part {
        self.skip(&mut wire.programs, |one| v1::ProgramState::try_from(one.state).is_ok());
        Part::Status(Status {
            programs: self.keep(wire.programs, Program::try_from),
            losses: self.keep([wire.losses], losses).pop().unwrap_or_default(),
            addresses: self.keep(wire.addresses, NodeAddress::try_from),
            host_namespace: Some(wire.host_network_namespace).filter(|cookie| *cookie != 0),
        })
    }

    /// Leaves out what only a later version knows of: nothing that this one could have counted is lost.
    fn skip<W>(&mut self, wire: &mut Vec<W>, is_known: impl Fn(&W) -> bool) {
        let before = wire.len();
        wire.retain(is_known);
        self.unknown += (before - wire.len()) as u64;
    }

    /// Converts what can be converted and counts the rest.
    fn keep<W, T>(
        &mut self,
        wire: impl IntoIterator<Item = W>,
        convert: impl Fn(W) -> Result<T, ConvertError>,
    ) -> Vec<T> {
        let mut kept = Vec::new();
        for one in wire {
            match convert(one) {
                Ok(one) => kept.push(one),
                Err(error) => {
                    self.refused += 1;
                    tracing::debug!(%error, "left out a part of a batch");
                }
            }
        }
        kept
    }
}

fn parse<M: Message + Default>(kind: u32, payload: Bytes) -> Result<M, BatchError> {
    M::decode(payload).map_err(|source| BatchError::Section { kind, source })
}
