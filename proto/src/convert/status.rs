//! What a node says of itself.

use std::collections::HashMap;

use common::BUCKETS;
use topology::model::{HostSignal, NodeAddress, Program, ProgramState};

use super::{beginning, name};
use crate::{ConvertError, v1};

impl TryFrom<v1::Program> for Program {
    type Error = ConvertError;

    fn try_from(wire: v1::Program) -> Result<Self, ConvertError> {
        let state = match v1::ProgramState::try_from(wire.state) {
            Ok(v1::ProgramState::Attached) => ProgramState::Attached,
            Ok(v1::ProgramState::Failed) => ProgramState::Failed,
            Ok(v1::ProgramState::Off) => ProgramState::Off,
            Ok(v1::ProgramState::Unspecified) | Err(_) => {
                return Err(ConvertError::Variant { field: "program state", value: wire.state });
            }
        };
        let name = name("program name", wire.name)?;
        Ok(Self { name, state, reason: beginning(wire.reason) })
    }
}

impl From<Program> for v1::Program {
    fn from(program: Program) -> Self {
        let state = match program.state {
            ProgramState::Attached => v1::ProgramState::Attached,
            ProgramState::Failed => v1::ProgramState::Failed,
            ProgramState::Off => v1::ProgramState::Off,
        };
        Self { name: program.name, state: state.into(), reason: program.reason }
    }
}

impl TryFrom<v1::NodeAddress> for NodeAddress {
    type Error = ConvertError;

    fn try_from(wire: v1::NodeAddress) -> Result<Self, ConvertError> {
        let address = wire.address.ok_or(ConvertError::Missing("node address"))?.try_into()?;
        Ok(Self { address, network_namespace: wire.network_namespace })
    }
}

impl From<NodeAddress> for v1::NodeAddress {
    fn from(node: NodeAddress) -> Self {
        Self { address: Some(node.address.into()), network_namespace: node.network_namespace }
    }
}

/// Losses by cause: names become label values and JSON keys, so they are lowercase words
/// joined by `_`, and there are at most 64 of them.
pub fn losses(wire: HashMap<String, u64>) -> Result<Vec<(String, u64)>, ConvertError> {
    const MAX: usize = 64;
    if wire.len() > MAX {
        return Err(ConvertError::Count { field: "losses", count: wire.len(), max: MAX });
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let mut losses: Vec<_> = wire.into_iter().collect();
    losses.sort();
    for (cause, _) in &losses {
        if cause.is_empty() || cause.len() > 64 || !cause.bytes().all(plain) {
            return Err(ConvertError::Text("cause of loss"));
        }
    }
    Ok(losses)
}

/// A histogram of the host itself: buckets below [`BUCKETS`], ascending, with their
/// cumulative counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostHistogram {
    /// What was measured.
    pub signal: HostSignal,
    /// Index and count of each bucket.
    pub buckets: Vec<(u16, u64)>,
}

impl TryFrom<v1::HostSignal> for HostHistogram {
    type Error = ConvertError;

    fn try_from(wire: v1::HostSignal) -> Result<Self, ConvertError> {
        if wire.buckets.len() != wire.counts.len() || !wire.buckets.is_sorted_by(|a, b| a < b) {
            return Err(ConvertError::Shape("buckets and counts of a host signal"));
        }
        let bucket = |bucket: u32| {
            let (field, value, max) = ("bucket", u64::from(bucket), BUCKETS as u64 - 1);
            let valid = u16::try_from(bucket).ok().filter(|bucket| usize::from(*bucket) < BUCKETS);
            valid.ok_or(ConvertError::Range { field, value, max })
        };
        let buckets = wire
            .buckets
            .into_iter()
            .zip(wire.counts)
            .map(|(index, count)| Ok((bucket(index)?, count)))
            .collect::<Result<_, ConvertError>>()?;
        let signal = match v1::HostSignalKind::try_from(wire.kind) {
            Ok(v1::HostSignalKind::RunqueueLatency) => HostSignal::RunqueueLatency,
            Ok(v1::HostSignalKind::Unspecified) | Err(_) => {
                return Err(ConvertError::Variant { field: "host signal", value: wire.kind });
            }
        };
        Ok(Self { signal, buckets })
    }
}

impl From<HostHistogram> for v1::HostSignal {
    fn from(histogram: HostHistogram) -> Self {
        let kind = match histogram.signal {
            HostSignal::RunqueueLatency => v1::HostSignalKind::RunqueueLatency,
        };
        let (buckets, counts) =
            histogram.buckets.into_iter().map(|(bucket, count)| (u32::from(bucket), count)).unzip();
        Self { kind: kind.into(), buckets, counts }
    }
}
