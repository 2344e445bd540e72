//! What changes the state.

use std::{collections::BTreeMap, path::Path, time::Duration};

use common::HistogramKind;
use prost::Message;
use proto::v1;
use topology::{AgentFacts, Measure};

use super::{BEGIN, INCARNATION, INTERVAL, connect, core, parts};
use crate::{
    core::{Core, Entry, Prepared},
    store::fuzzing as stored,
};

/// Two hosts: what they have to say to each other is one link.
const NODES: [&str; 2] = ["a", "b"];

/// How long everything takes to settle and to be agreed on: a host that is gone is waited for, for a minute.
const SETTLED_S: u64 = 75;

/// What the series count, by their labels.
type Counted = BTreeMap<(String, String, u16), Vec<u64>>;

/// Batches of two agents: a byte says whose. Delivered a second time, on streams of their own, they change no number.
pub fn batches(dir: &Path, data: &[u8]) {
    let messages = messages(data);
    if messages.is_empty() {
        return;
    }
    let once = counted(&mut played(dir, &messages, false));
    let twice = counted(&mut played(dir, &messages, true));
    assert_eq!(once, twice, "what came a second time has changed a number");
}

fn messages(data: &[u8]) -> Vec<(usize, v1::Batch)> {
    let mut messages = Vec::new();
    for part in parts(data) {
        let Some((node, bytes)) = part.split_first() else { continue };
        let Ok(mut batch) = v1::Batch::decode(bytes) else { continue };
        // As agents do: only a preface is told in several messages, and to its end.
        batch.more &= batch.preface;
        messages.push((usize::from(node % 2), batch));
    }
    for node in 0..NODES.len() {
        let last = messages.iter().rev().find(|(of, _)| *of == node);
        if let Some((_, last)) = last.filter(|(_, last)| last.more) {
            let end = v1::Batch { seq: last.seq, preface: true, ..v1::Batch::default() };
            messages.push((node, end));
        }
    }
    messages
}

/// The state after streams that brought all of it, and others that brought it again or nothing.
fn played(dir: &Path, messages: &[(usize, v1::Batch)], again: bool) -> Core {
    let mut core = core(dir);
    for time in 0..2 {
        let mut streams = NODES.map(|node| connect(&mut core, node, BEGIN));
        let brought = if time == 0 || again { messages } else { &[] };
        for (node, batch) in brought {
            let Some(connection) = streams[*node] else { continue };
            let bytes = batch.encode_to_vec();
            let applied = Prepared::read(batch.clone()).ok().and_then(|prepared| {
                core.batch(connection, prepared, &bytes, i64::MAX, BEGIN).ok()
            });
            if applied.is_none() {
                streams[*node] = None;
                core.disconnect(connection, BEGIN);
            }
        }
        if time == 0 {
            streams.into_iter().flatten().for_each(|stream| core.disconnect(stream, BEGIN));
        }
    }
    core
}

fn counted(core: &mut Core) -> Counted {
    for second in 1..=SETTLED_S {
        core.tick(BEGIN.plus(Duration::from_secs(second)));
    }
    let mut counted = Counted::new();
    for series in core.graph().published() {
        let end = |namespace: &str, name: &str| format!("{namespace}/{name}");
        let client = end(series.client_namespace(), series.client());
        let server = end(series.server_namespace(), series.server());
        let totals = series.totals();
        let mut numbers: Vec<_> = Measure::ALL.iter().map(|one| totals.get(*one)).collect();
        for kind in HistogramKind::ALL {
            numbers.push(totals.histogram(kind).count());
        }
        if numbers.iter().any(|number| *number > 0) {
            counted.insert((client, server, series.server_port()), numbers);
        }
    }
    counted
}

/// A file of a journal: as it is, and one of these entries that is then cut off and changed in places. What is read
/// of it is how it began, and a state that does it again is still there.
pub fn journal(dir: &Path, data: &[u8]) {
    stored::journal_file(data);
    let Some((damage, data)) = data.split_first_chunk::<4>() else { return };
    let entries = parts(data);
    stored::journal_damaged(&entries, *damage);
    let mut core = core(dir);
    for entry in entries {
        // What makes no sense ends a file, and everything before it counts.
        if core.replay(entry).is_err() {
            break;
        }
    }
    core.tick(BEGIN);
}

/// A snapshot: as it is, and with a header and a checksum that fit. What is read of it is written as it was read.
pub fn snapshot(_: &Path, data: &[u8]) {
    stored::snapshot(data);
}

/// What [`journal`] takes, made of what [`batches`] takes: entries to be damaged, and a file.
pub fn journal_files(dir: &Path, data: &[u8]) -> Vec<Vec<u8>> {
    let mut core = core(dir);
    let mut entries = vec![Entry::Started.write(BEGIN, Vec::new())];
    let mut streams = Vec::new();
    for node in NODES {
        let (node, facts) = (node.to_owned(), AgentFacts::default());
        streams.push(connect(&mut core, &node, BEGIN));
        let entry = Entry::Connected { node, incarnation: INCARNATION, facts, interval: INTERVAL };
        entries.push(entry.write(BEGIN, Vec::new()));
    }
    for (node, batch) in messages(data) {
        let Some(connection) = streams[node] else { continue };
        let entry = Entry::Batch { connection, certificate_expires_unix_s: 7 };
        let mut bytes = entry.write(BEGIN, Vec::new());
        bytes.extend(batch.encode_to_vec());
        entries.push(bytes);
        entries.push(Entry::Tick.write(BEGIN, Vec::new()));
        entries.push(Entry::Asked { node: connection.node }.write(BEGIN, Vec::new()));
    }
    if let Some(Some(connection)) = streams.first().copied() {
        entries.push(Entry::Disconnected { connection }.write(BEGIN, Vec::new()));
    }
    let mut damaged = vec![40, 0, 1, 0];
    for entry in &entries {
        damaged.extend_from_slice(&(entry.len() as u16).to_le_bytes());
        damaged.extend_from_slice(entry);
    }
    vec![damaged, stored::journal_of(&entries)]
}

/// Contents of snapshots: of nothing, and of what [`batches`] takes.
pub fn snapshots(dir: &Path, data: &[u8]) -> Vec<Vec<u8>> {
    let mut full = played(dir, &messages(data), false);
    full.tick(BEGIN.plus(Duration::from_secs(SETTLED_S)));
    [core(dir), full].iter().map(|core| stored::snapshot_of(core.freeze())).collect()
}
