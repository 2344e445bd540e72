//! What bytes from elsewhere come to, for the fuzz targets of `fuzz/`: each function takes any bytes and holds what
//! becomes of them against what must be true. They panic when it is not; nothing else here calls them.

use std::path::Path;

use proto::{convert::WorkloadDefinition, v1};

use crate::{
    addresses, cgroup_fs,
    config::{Config, Layers},
    kernel::{self, btf::KernelTypes},
    ledger::fuzzing as left,
    nat::conntrack,
    netlink::{Message, messages},
    owners,
    queue::fuzzing as spooled,
    runtimes::fuzzing as runtimes,
};

/// A record of the ring buffer: it is a hint, or none.
pub fn hints(data: &[u8]) {
    let Some(hint) = kernel::parse_hint(data) else {
        return assert!(data.len() < 16, "a whole hint is none");
    };
    let mut bytes = hint.kind.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&hint.tgid.to_ne_bytes());
    bytes.extend_from_slice(&hint.subject.to_ne_bytes());
    assert_eq!(data.get(..16), Some(bytes.as_slice()), "another hint");
}

/// Types of a kernel. What is asked of them is answered, in bounded time.
pub fn types(data: &[u8]) {
    let Ok(types) = KernelTypes::parse(data) else { return };
    for name in ["sock", "tcp_sock", "a", ""] {
        for member in ["sk_err", "y", "z", ""] {
            let _ = types.offset(name, member);
        }
        let _ = (types.has_function(name), types.has_structure(name), types.has_enumerator(name));
    }
}

/// What the kernel answers when it is asked for connections and interfaces.
pub fn connections(data: &[u8]) {
    for message in messages(data) {
        if let Message::Of(contents) = message {
            let entry = conntrack::parse(contents);
            assert!(entry.is_none_or(|entry| entry.before != entry.after), "not translated");
            addresses::fuzzing(contents);
        }
    }
}

/// An answer as a kernel gave it.
#[must_use]
pub fn answer() -> Vec<u8> {
    conntrack::answer()
}

/// Files of `/proc` and a cgroup's path. What a workload is called is to the aggregator's liking.
pub fn processes(dir: &Path, data: &[u8]) {
    let mut files = data.splitn(4, |byte| *byte == 0xff);
    let mut next = || files.next().unwrap_or_default();
    let (path, stat, command, mounts) = (next(), next(), next(), next());
    let path = String::from_utf8_lossy(path);
    for workload in owners::fuzzing::workloads(dir, &path, stat, command) {
        let wire = v1::WorkloadDefinition::from(WorkloadDefinition { id: 1, workload });
        let read = WorkloadDefinition::try_from(wire.clone());
        assert!(read.is_ok(), "{wire:?}: {:?}", read.err());
    }
    cgroup_fs::fuzzing(&String::from_utf8_lossy(mounts), &path);
}

/// What a container engine answers: a stream of events that is cut somewhere, and a list; and what runtimes leave in files.
pub fn engine(data: &[u8]) {
    runtimes::engine(data);
    runtimes::files(data.get(1..).unwrap_or_default());
}

/// What an API server answers of pods: a page of a list, and a watch that is cut somewhere.
pub fn kubernetes(data: &[u8]) {
    runtimes::kubernetes(data);
}

/// A file of settings. It is understood, or there is a line that says what is wrong.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let resolved = Layers::of_text(text)
        .and_then(|layers| Config::resolve(&layers).map_err(|error| error.to_string()));
    match resolved {
        Ok(config) => assert!(!config.aggregators.is_empty(), "an agent without an aggregator"),
        Err(error) => assert!(!error.is_empty(), "an error without a word"),
    }
}

/// What an agent has left beside its pinned programs: whoever understands it can write it anew, and go on from it.
pub fn ledger(data: &[u8]) {
    left::any(data);
}

/// What [`ledger`] takes, of an agent that ended.
#[must_use]
pub fn ledgers() -> Vec<Vec<u8>> {
    left::seeds()
}

/// A file of the spool: as it is, and one of these batches that is then cut off and changed in places. What is read of
/// it is how it began.
pub fn spool(dir: &Path, data: &[u8]) {
    spooled::file(dir, data);
    spooled::damaged(data);
}

/// What [`spool`] takes, made of batches.
pub fn spool_files(dir: &Path, batches: &[v1::Batch]) -> Vec<Vec<u8>> {
    spooled::files(dir, batches)
}
