//! What the ids of a batch mean.

use std::sync::Arc;

use prost::Message as _;
use proto::{
    convert::{HalfDefinition, WorkloadDefinition},
    v1,
};
use topology::model::{Address, Workload};

use super::{half::Half, intern::Interner};

/// Bytes of workloads in one batch, exceeded by at most one of them: with all labels there may be, some 17 KB.
pub(super) const WORKLOAD_BYTES_PER_BATCH: usize = 512 << 10;

/// Those of one batch.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    pub(super) wire: v1::Definitions,
    workload_bytes: usize,
}

impl Definitions {
    /// Whether the batch has room for more workloads. What needs one that is not known waits for the next otherwise.
    pub(super) fn has_room(&self) -> bool {
        self.workload_bytes < WORKLOAD_BYTES_PER_BATCH
    }

    pub(super) fn half(
        &mut self,
        id: u32,
        half: &Half,
        workloads: &mut Interner<Arc<Workload>>,
        addresses: &mut Interner<Address>,
    ) {
        self.workload(half.key.workload, workloads);
        for address in [half.local, half.peer] {
            if let Some(value) = addresses.define(address) {
                let value = Some((*value).into());
                self.wire.addresses.push(v1::AddressDefinition { id: address, address: value });
            }
        }
        self.wire.halves.push(definition(id, half));
    }

    pub(super) fn workload(&mut self, id: u32, workloads: &mut Interner<Arc<Workload>>) {
        if let Some(workload) = workloads.define(id) {
            let workload = Workload::clone(workload);
            let wire = v1::WorkloadDefinition::from(WorkloadDefinition { id, workload });
            self.workload_bytes += wire.encoded_len();
            self.wire.workloads.push(wire);
        }
    }
}

pub(super) fn definition(id: u32, half: &Half) -> v1::HalfDefinition {
    let definition = HalfDefinition {
        id,
        workload: half.key.workload,
        local: half.local,
        peer: half.peer,
        server_port: half.key.server_port,
        client_port: half.key.client_port,
        role: half.key.role,
        birth: half.birth,
    };
    definition.into()
}
