//! Names from agents in `/metrics`.

use std::path::Path;

use common::Counter;
use prost::Message;
use proto::{columns::Encoder, v1};

use super::{BEGIN, connect, core, text};
use crate::{
    core::Prepared,
    exposition::{Format, Scrape},
};

/// Most names of an input.
const NAMES: usize = 12;

/// Names, namespaces and causes of loss, parted by zeros. Whatever they are, `/metrics` can be read, and no series is
/// in it twice.
pub fn names(dir: &Path, data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let names: Vec<&str> = text.split('\0').take(NAMES).collect();
    let mut core = core(dir);
    let Some(stream) = connect(&mut core, "n", BEGIN) else { return };
    let batch = v1::Batch { seq: 1, sections: sections(&names), ..v1::Batch::default() };
    let bytes = batch.encode_to_vec();
    let Ok(prepared) = Prepared::read(batch) else { return };
    // What is not to the aggregator's liking is left out and counted.
    let _ = core.batch(stream, prepared, &bytes, i64::MAX, BEGIN);
    for second in [1, 12, 24] {
        core.tick(BEGIN.plus(std::time::Duration::from_secs(second)));
    }
    let expected: Vec<String> = names.iter().map(ToString::to_string).take(1).collect();
    let mut scrape = Scrape::of(core.graph(), &expected, Format::Text);
    scrape.add_service_graph();
    let written: Vec<u8> = scrape.flatten().collect();
    let written = String::from_utf8(written);
    assert!(written.is_ok(), "what is written is no text");
    text::check(&written.unwrap_or_default());
}

/// A workload for every two names, each of which talks to the next.
fn sections(names: &[&str]) -> Vec<v1::Section> {
    let section = |kind: v1::SectionKind, payload: Vec<u8>| v1::Section {
        kind: kind as u32,
        payload: payload.into(),
    };
    let mut definitions = v1::Definitions::default();
    let mut columns = Encoder::new();
    for (id, pair) in (1_u32..).zip(names.chunks(2)) {
        let namespace = pair.get(1).copied().unwrap_or_default();
        definitions.workloads.push(v1::WorkloadDefinition {
            id,
            kind: 1 + (namespace.len() as i32 % 5),
            name: pair[0].to_owned(),
            namespace: namespace.to_owned(),
            labels: [(namespace.to_owned(), pair[0].to_owned())].into(),
        });
        let ip = vec![10, 0, 0, id as u8];
        let address = v1::Address { ip, scope: None };
        definitions.addresses.push(v1::AddressDefinition { id, address: Some(address) });
    }
    let count = definitions.workloads.len() as u32;
    for id in 1..=count {
        let (client, server) = (id, id % count + 1);
        for (half, workload, local, peer, role) in [
            (2 * id, client, client, server, v1::Role::Client),
            (2 * id + 1, server, server, client, v1::Role::Server),
        ] {
            let (role, server_port) = (role as i32, 80);
            let half = v1::HalfDefinition {
                id: half,
                workload,
                local,
                peer,
                server_port,
                client_port: 0,
                role,
                birth: 0,
            };
            definitions.halves.push(half);
            let mut counters = [0; common::COUNTERS];
            counters[Counter::Connections.index()] = 1;
            let _ =
                columns.push(2 * id + u32::from(role == v1::Role::Server as i32), &counters, &[]);
        }
    }
    let mut payload = Vec::new();
    columns.finish(&mut payload);
    let losses = names.iter().zip(1..).map(|(name, count)| ((*name).to_owned(), count)).collect();
    let status = v1::NodeStatus { losses, ..v1::NodeStatus::default() };
    vec![
        section(v1::SectionKind::Definitions, definitions.encode_to_vec()),
        section(v1::SectionKind::Totals, payload),
        section(v1::SectionKind::NodeStatus, status.encode_to_vec()),
    ]
}
