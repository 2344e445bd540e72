//! Ledgers that hold any bytes.

use std::{sync::Arc, time::Instant};

use common::{COUNTERS, HistogramKind};
use prost::Message as _;
use topology::model::{Address, HalfKey, Role, Scope, Workload, WorkloadKind};

use super::{
    HEAD_BYTES, Identity, Key, Ledger, Link, Memory, Store, Word,
    record::FRAME_BYTES,
    store::{self, area_start},
};
use crate::report::Report;

/// Bytes before the notes of an input: how they are meant, and three words of the head.
const BEFORE: usize = 1 + 3 * 8;

/// In the first byte: notes have no frames yet.
const BARE: u8 = 1;

/// They are in the second area.
const SECOND: u8 = 2;

/// The last slot was cleared.
const CLEARED: u8 = 4;

/// The first of the words is how long the area is.
const ANY_LENGTH: u8 = 8;

/// As an agent finds it that adopts. What it understands it writes anew, and the next one understands the same; and
/// the report that goes on from there fits into messages.
pub(crate) fn any(data: &[u8]) {
    let Some(([how, words @ ..], notes)) = data.split_first_chunk::<BEFORE>() else { return };
    let notes = if how & BARE == 0 { notes.to_vec() } else { framed(notes) };
    let Some(store) = held(*how, words, &notes) else { return };
    let Ok(mut ledger) = Ledger::open(Box::new(store)) else { return };
    let known = ledger.links.len() + ledger.live.len() + ledger.retired.len();
    assert!(known <= notes.len() / FRAME_BYTES, "{known} things in {} bytes", notes.len());
    let _ = (ledger.to_clear(), ledger.ends(), ledger.max_halves());
    assert!(ledger.rewrite(), "there is no room for what there was");
    let again = Ledger::open(ledger.store);
    assert!(again.is_ok(), "it cannot be read any more: {again:?}");
    let Ok(again) = again else { return };
    assert_eq!(ledger.links, again.links, "other links");
    assert_eq!(ledger.live, again.live, "other values");
    assert_eq!(ledger.retired, again.retired, "others have ended");
    assert_eq!(again.to_clear(), None, "whoever writes anew has cleared before");
    goes_on(&again);
}

/// The next agent's report, up to its first stream.
fn goes_on(ledger: &Ledger) {
    let Some(past) = ledger.past() else { return };
    let mut report = Report::resume(&past, 100, Instant::now());
    let seq = report.pass_over();
    for batch in report.preface(seq, std::iter::empty()) {
        let bytes = batch.encoded_len();
        assert!(bytes <= proto::MAX_MESSAGE_BYTES, "a batch of {bytes} bytes");
    }
}

/// Memory with these notes. What is written anew may take some times as much: what is the same as something else, or
/// zero, is written out.
fn held(how: u8, words: &[u8], notes: &[u8]) -> Option<Memory> {
    let area = usize::from(how & SECOND != 0);
    let mut store = Memory::new(HEAD_BYTES + 2 * (8 * notes.len() + (64 << 10)));
    // So that the head is an agent's.
    let mut ledger = Ledger::create(Box::new(store.clone()), &IDENTITY, 10);
    ledger.finish();
    let mut head = [0; HEAD_BYTES];
    ledger.store.read(0, &mut head);
    store.write(0, &head);
    let mut words = words.chunks_exact(8).map(|word| word.try_into().map(u64::from_le_bytes));
    let (mut last, acked, processes) =
        (words.next()?.ok()?, words.next()?.ok()?, words.next()?.ok()?);
    let mut active = store::join(area, notes.len());
    if how & ANY_LENGTH != 0 {
        (active, last) = (last, 0);
    }
    store.set(Word::LastSeq, last);
    store.set(Word::Acked, acked);
    store.set(Word::Processes, processes);
    store.set(Word::Active, active);
    store.set(Word::Cleared, if how & CLEARED == 0 { 0 } else { active });
    let start = area_start(&store, area);
    store.write(start, notes);
    Some(store)
}

const IDENTITY: Identity =
    Identity { schema: 1, generation: 2, session: 3, cgroup: 4, node: 5, object: 6, settings: 7 };

/// Notes, each behind its length in two bytes, as they are stored.
fn framed(mut rest: &[u8]) -> Vec<u8> {
    let mut notes = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length));
        let (body, after) = after.split_at(length.min(after.len()));
        notes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        notes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
        notes.extend_from_slice(body);
        rest = after;
    }
    notes
}

/// What [`any`] takes, of a ledger with every kind of note: as it is stored, and as notes without frames.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut ledger = Ledger::create(Box::new(Memory::new(1 << 20)), &IDENTITY, 10);
    ledger.finish();
    for (slot, name) in [(600, "web"), (601, "web"), (602, "db")] {
        ledger.link(slot, Link { owner: 7, half: half(name), birth: 1 });
    }
    let counters = std::array::from_fn::<u64, COUNTERS, _>(|index| index as u64 * 100);
    for slot in [601, 602] {
        if ledger.fold(slot, &counters, &[(HistogramKind::Rtt, 40, 2)]) {
            ledger.cleared();
        }
    }
    ledger.built(9, &[half("db")]);
    let (area, len) = store::split(ledger.active);
    let mut stored = vec![0; len];
    ledger.store.read(area_start(&*ledger.store, area), &mut stored);

    let mut before = vec![0];
    for word in [9_u64, 4, 1] {
        before.extend_from_slice(&word.to_le_bytes());
    }
    let as_stored = [before.as_slice(), &stored].concat();
    before[0] = BARE | CLEARED;
    let mut bare = before;
    let mut rest = stored.as_slice();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (_, after) = after.split_at(FRAME_BYTES - 4);
        let (body, after) = after.split_at(length);
        bare.extend_from_slice(&(length as u16).to_le_bytes());
        bare.extend_from_slice(body);
        rest = after;
    }
    vec![as_stored, bare]
}

fn half(name: &str) -> Key {
    let address = |last| Address { ip: [10, 0, 0, last].into(), scope: Scope::Global };
    HalfKey {
        workload: Arc::new(Workload {
            kind: WorkloadKind::Systemd,
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            labels: [("tier".to_owned(), "1".to_owned())].into(),
        }),
        local: address(1),
        peer: address(2),
        server_port: 80,
        client_port: 0,
        role: Role::Client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_ledgers() {
        for seed in seeds() {
            let ([how, words @ ..], notes) = seed.split_first_chunk::<BEFORE>().unwrap();
            let notes = if how & BARE == 0 { notes.to_vec() } else { framed(notes) };
            let ledger = Ledger::open(Box::new(held(*how, words, &notes).unwrap())).unwrap();
            let known = (ledger.links.len(), ledger.live.len(), ledger.retired.len());
            assert_eq!(known, (1, 1, 1));
            any(&seed);
        }
    }
}
