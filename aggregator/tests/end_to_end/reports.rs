//! What agents report: the two halves of `web -> db:5432`, mostly.

use std::net::IpAddr;

use common::{COUNTERS, Counter, HistogramKind};
use proto::{
    columns::Encoder,
    v1::{
        Address, AddressDefinition, Definitions, HalfDefinition, NodeStatus, Program, ProgramState,
        Role, Section, SectionKind, WorkloadDefinition, WorkloadKind,
    },
};

use crate::agent::section;

pub type Values<'a> = &'a [(Counter, u64)];
pub type Buckets<'a> = &'a [(HistogramKind, u16, u64)];

pub fn address(ip: &str) -> Address {
    let ip = match ip.parse::<IpAddr>().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    Address { ip, scope: None }
}

pub fn workload(id: u32, name: &str) -> WorkloadDefinition {
    WorkloadDefinition {
        id,
        kind: WorkloadKind::Process.into(),
        name: name.to_owned(),
        ..Default::default()
    }
}

pub fn half(id: u32, workload: u32, role: Role, server_port: u32) -> HalfDefinition {
    let (local, peer) = if role == Role::Client { (1, 2) } else { (2, 1) };
    let (client_port, role) = (0, role.into());
    HalfDefinition { id, workload, local, peer, server_port, client_port, role, birth: 0 }
}

/// Address 1 is the client's, address 2 the server's.
pub fn definitions(workloads: Vec<WorkloadDefinition>, halves: Vec<HalfDefinition>) -> Definitions {
    let addresses = [(1, "10.0.0.1"), (2, "10.0.0.2")];
    let address = |(id, ip)| AddressDefinition { id, address: Some(address(ip)) };
    Definitions {
        workloads,
        addresses: addresses.map(address).into(),
        halves,
        retired_halves: Vec::new(),
    }
}

/// Defines half 1 of `web` on the client's side.
pub fn client() -> Section {
    let definitions = definitions(vec![workload(1, "web")], vec![half(1, 1, Role::Client, 5432)]);
    section(SectionKind::Definitions, &definitions)
}

/// Defines half 1 of `db` on the server's side.
pub fn server() -> Section {
    let definitions = definitions(vec![workload(1, "db")], vec![half(1, 1, Role::Server, 5432)]);
    section(SectionKind::Definitions, &definitions)
}

pub fn columns(kind: SectionKind, records: &[(u32, Values<'_>, Buckets<'_>)]) -> Section {
    let mut encoder = Encoder::new();
    for (half, values, buckets) in records {
        let mut counters = [0; COUNTERS];
        for (counter, value) in *values {
            counters[counter.index()] = *value;
        }
        encoder.push(*half, &counters, buckets).unwrap();
    }
    let mut payload = Vec::new();
    encoder.finish(&mut payload);
    Section { kind: kind as u32, payload: payload.into() }
}

pub fn totals(values: Values<'_>) -> Section {
    columns(SectionKind::Totals, &[(1, values, &[])])
}

pub fn increments(values: Values<'_>) -> Section {
    columns(SectionKind::Increments, &[(1, values, &[])])
}

pub fn status() -> Section {
    let program = |name: &str, state: ProgramState, reason: &str| Program {
        name: name.to_owned(),
        state: state.into(),
        reason: reason.to_owned(),
    };
    let status = NodeStatus {
        programs: vec![
            program("sock_ops", ProgramState::Attached, ""),
            program("iter_tcp", ProgramState::Failed, "kernel too old"),
        ],
        losses: [("halves_full".to_owned(), 3)].into(),
        addresses: Vec::new(),
        certificate_expires_unix_s: 0,
        host_network_namespace: 0,
    };
    section(SectionKind::NodeStatus, &status)
}
