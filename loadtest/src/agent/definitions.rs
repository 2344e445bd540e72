//! Definitions as messages.

use std::collections::BTreeSet;

use prost::Message;
use proto::v1::{
    Address, AddressDefinition, Definitions, Ends, HalfDefinition, ListenerState, Listeners,
    NodeAddress, NodeStatus, Program, ProgramState, Role, Section, SectionKind, Translation,
    Translations, WorkloadDefinition, WorkloadKind,
};

use super::{book::Half, ids::Interned};
use crate::world::{Side, World, address_of};

/// Cookie of each host's own network namespace.
const HOST_NAMESPACE: u64 = 1;

/// The ids that a half refers to, and the instances they stand for.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    workload: u32,
    local: u32,
    peer: u32,
    local_instance: u32,
    /// Numbers of addresses: an instance's own has the instance's.
    peer_address: u32,
}

impl Names {
    /// Finds ids; what is new is defined in `wire`.
    pub fn refer(
        world: &World,
        link: u32,
        side: Side,
        workloads: &mut Interned,
        addresses: &mut Interned,
        wire: &mut Definitions,
    ) -> Self {
        let (mine, theirs) = (world.instance_at(link, side), world.peer_address(link, side));
        let (workload, is_new) = workloads.refer(mine);
        if is_new {
            wire.workloads.push(workload_definition(world, workload, mine));
        }
        let [local, peer] = [mine, theirs].map(|number| {
            let (id, is_new) = addresses.refer(number);
            if is_new {
                wire.addresses.push(address_definition(id, number));
            }
            id
        });
        Self { workload, local, peer, local_instance: mine, peer_address: theirs }
    }

    pub fn release(&self, workloads: &mut Interned, addresses: &mut Interned) {
        workloads.release(self.local_instance);
        addresses.release(self.local_instance);
        addresses.release(self.peer_address);
    }
}

/// Everything that these halves refer to, and the halves.
pub fn all<'a>(world: &World, halves: impl IntoIterator<Item = &'a Half>) -> Definitions {
    let mut wire = Definitions::default();
    for half in halves {
        let names = &half.names;
        wire.workloads.push(workload_definition(world, names.workload, names.local_instance));
        wire.addresses.push(address_definition(names.local, names.local_instance));
        wire.addresses.push(address_definition(names.peer, names.peer_address));
        wire.halves.push(self::half(world, half));
    }
    wire.workloads.sort_by_key(|one| one.id);
    wire.workloads.dedup_by_key(|one| one.id);
    wire.addresses.sort_by_key(|one| one.id);
    wire.addresses.dedup_by_key(|one| one.id);
    wire
}

pub fn half(world: &World, half: &Half) -> HalfDefinition {
    let role = match half.side {
        Side::Client => Role::Client,
        Side::Server => Role::Server,
    };
    HalfDefinition {
        id: half.id,
        workload: half.names.workload,
        local: half.names.local,
        peer: half.names.peer,
        server_port: world.port_of(half.link).into(),
        client_port: 0,
        role: role.into(),
        birth: 0,
    }
}

/// What the servers see of these halves' clients where these know them by other addresses, if there are any.
pub fn translations<'a>(
    world: &World,
    halves: impl IntoIterator<Item = &'a Half>,
) -> Option<Section> {
    let is_translated = |half: &&Half| half.side == Side::Client && world.is_translated(half.link);
    let translation = |half: &Half| Translation {
        half: half.id,
        ends: vec![Ends {
            client: Some(address(half.names.local_instance)),
            server: Some(address(world.instance_at(half.link, Side::Server))),
            server_port: world.port_of(half.link).into(),
        }],
    };
    let translations: Vec<_> = halves.into_iter().filter(is_translated).map(translation).collect();
    (!translations.is_empty())
        .then(|| section(SectionKind::Translations, &Translations { translations }))
}

/// All listeners of these halves' node.
pub fn listeners<'a>(world: &World, halves: impl IntoIterator<Item = &'a Half>) -> Section {
    let servers = halves.into_iter().filter(|half| half.side == Side::Server);
    let mut listeners: Vec<_> = servers
        .map(|half| ListenerState {
            workload: half.names.workload,
            address: Some(address(half.names.local_instance)),
            network_namespace: namespace_of(half.names.local_instance),
            port: world.port_of(half.link).into(),
            closed: false,
        })
        .collect();
    listeners.sort_by_key(|one| one.workload);
    listeners.dedup_by_key(|one| one.workload);
    section(SectionKind::Listeners, &Listeners { complete: true, listeners })
}

/// The status of these halves' node: its addresses are its own loopback and, each in a network namespace of its own,
/// those of its instances.
pub fn status<'a>(halves: impl IntoIterator<Item = &'a Half>) -> Section {
    let program = |name: &str| Program {
        name: name.to_owned(),
        state: ProgramState::Attached.into(),
        reason: String::new(),
    };
    let loopback = Address { ip: vec![127, 0, 0, 1], scope: None };
    let instances: BTreeSet<u32> =
        halves.into_iter().map(|half| half.names.local_instance).collect();
    let instances = instances.into_iter().map(|one| (address(one), namespace_of(one)));
    let addresses = std::iter::once((loopback, HOST_NAMESPACE)).chain(instances);
    let status = NodeStatus {
        programs: ["weft_sock_ops", "weft_sock_create", "weft_walk"].map(program).into(),
        losses: Default::default(),
        addresses: addresses
            .map(|(address, network_namespace)| NodeAddress {
                address: Some(address),
                network_namespace,
            })
            .collect(),
        certificate_expires_unix_s: 0,
        host_network_namespace: HOST_NAMESPACE,
    };
    section(SectionKind::NodeStatus, &status)
}

pub fn section(kind: SectionKind, payload: &impl Message) -> Section {
    Section { kind: kind as u32, payload: payload.encode_to_vec().into() }
}

fn workload_definition(world: &World, id: u32, instance: u32) -> WorkloadDefinition {
    let service = &world.services[world.instances[instance as usize].service as usize];
    WorkloadDefinition {
        id,
        kind: WorkloadKind::Pod.into(),
        name: service.name.clone(),
        namespace: service.namespace.clone(),
        labels: [("app".to_owned(), service.name.clone())].into(),
    }
}

fn address_definition(id: u32, number: u32) -> AddressDefinition {
    AddressDefinition { id, address: Some(address(number)) }
}

/// Cookie of an instance's network namespace.
fn namespace_of(instance: u32) -> u64 {
    HOST_NAMESPACE + 1 + u64::from(instance)
}

fn address(number: u32) -> Address {
    Address { ip: address_of(number).octets().to_vec(), scope: None }
}
