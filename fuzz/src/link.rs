//! Two hosts and what they have to say of one link, as agents say it.

use common::{COUNTERS, Counter, HistogramKind};
use prost::Message;
use proto::{columns::Encoder, v1};

/// Columns of one half.
pub(crate) fn columns(half: u32, numbers: &[(Counter, u64)]) -> Vec<u8> {
    let mut counters = [0; COUNTERS];
    for (counter, value) in numbers {
        counters[counter.index()] = *value;
    }
    let mut encoder = Encoder::new();
    let buckets = [
        (HistogramKind::Rtt, 40, 2),
        (HistogramKind::Rtt, 44, 1),
        (HistogramKind::Lifetime, 90, 1),
    ];
    // Ids and buckets are in order.
    let _ = encoder.push(half, &counters, &buckets);
    let mut bytes = Vec::new();
    encoder.finish(&mut bytes);
    bytes
}

pub(crate) fn section(kind: v1::SectionKind, payload: Vec<u8>) -> v1::Section {
    v1::Section { kind: kind as u32, payload: payload.into() }
}

fn address(last: u8) -> v1::Address {
    v1::Address { ip: vec![10, 0, 0, last], scope: None }
}

fn tuple() -> v1::Tuple {
    v1::Tuple {
        client: Some(address(1)),
        client_port: 40_000,
        server: Some(address(2)),
        server_port: 80,
    }
}

/// What a half is, and who has it. Node 0 has the client.
fn definitions(node: u8) -> v1::Definitions {
    let (name, role) = if node == 0 { ("web", v1::Role::Client) } else { ("db", v1::Role::Server) };
    let labels = [("tier".to_owned(), "1".to_owned())].into();
    v1::Definitions {
        workloads: vec![v1::WorkloadDefinition {
            id: 1,
            kind: v1::WorkloadKind::Systemd as i32,
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            labels,
        }],
        addresses: (1..=2)
            .map(|id| v1::AddressDefinition { id, address: Some(address(id as u8)) })
            .collect(),
        halves: vec![v1::HalfDefinition {
            id: 1,
            workload: 1,
            local: 1 + u32::from(node),
            peer: 2 - u32::from(node),
            server_port: 80,
            client_port: 0,
            birth: 0,
            role: role as i32,
        }],
        retired_halves: Vec::new(),
    }
}

/// Everything a node can say, in four batches.
pub(crate) fn batches(node: u8) -> Vec<v1::Batch> {
    use v1::SectionKind as Kind;
    let status = v1::NodeStatus {
        programs: vec![v1::Program {
            name: "weft_sock_ops".to_owned(),
            state: v1::ProgramState::Failed as i32,
            reason: "no".to_owned(),
        }],
        losses: [("halves_full".to_owned(), 3)].into(),
        addresses: vec![v1::NodeAddress { address: Some(address(1 + node)), network_namespace: 5 }],
        certificate_expires_unix_s: 2_000_000_000,
        host_network_namespace: 5,
    };
    let listeners = v1::Listeners {
        complete: true,
        listeners: vec![v1::ListenerState {
            workload: 1,
            address: Some(address(1 + node)),
            network_namespace: 5,
            port: 80,
            closed: false,
        }],
    };
    let signals = v1::HostSignals {
        signals: vec![v1::HostSignal {
            kind: v1::HostSignalKind::RunqueueLatency as i32,
            buckets: vec![3, 90],
            counts: vec![7, 1],
        }],
    };
    let owners =
        v1::TupleOwners { owners: vec![v1::TupleOwner { tuple: Some(tuple()), workload: 1 }] };
    let gain = [(Counter::Connections, 2), (Counter::BytesSent, 512), (Counter::BytesReceived, 90)];
    let first = vec![
        section(Kind::Definitions, definitions(node).encode_to_vec()),
        section(Kind::Totals, columns(1, &gain)),
        section(Kind::Listeners, listeners.encode_to_vec()),
        section(Kind::NodeStatus, status.encode_to_vec()),
    ];
    let retired = v1::Definitions { retired_halves: vec![1], ..v1::Definitions::default() };
    let batch =
        |seq, preface, sections| v1::Batch { seq, preface, sections, ..v1::Batch::default() };
    vec![
        batch(1, true, first),
        batch(2, false, vec![section(Kind::Increments, columns(1, &gain))]),
        batch(
            3,
            false,
            vec![
                section(Kind::HostSignals, signals.encode_to_vec()),
                section(Kind::TupleOwners, owners.encode_to_vec()),
            ],
        ),
        batch(
            4,
            false,
            vec![
                section(Kind::Increments, columns(1, &[(Counter::Closed, 4)])),
                section(Kind::Definitions, retired.encode_to_vec()),
            ],
        ),
    ]
}

/// The first `count` batches of each node, as the target `batches` takes them.
pub(crate) fn stream(count: usize) -> Vec<u8> {
    let mut parts = Vec::new();
    for at in 0..count {
        for node in [0, 1] {
            let mut part = vec![node];
            part.extend(batches(node).swap_remove(at).encode_to_vec());
            parts.push(part);
        }
    }
    crate::join(parts)
}
