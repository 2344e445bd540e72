//! What bytes from elsewhere come to, for the fuzz targets of `fuzz/`: each function takes any bytes and holds what
//! becomes of them against what must be true. They panic when it is not; nothing else here calls them.
//!
//! - `state` takes batches, journals and snapshots, `files` the history and settings,
//! - `kubernetes` takes what an API server says, `readers` asks over HTTP, `exposition` writes names into `/metrics`, `text` reads that.

mod exposition;
mod files;
mod kubernetes;
mod readers;
mod state;
mod text;

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use topology::{AgentFacts, Connection, Incarnation, Timestamp};

pub use exposition::names;
pub use files::{history, history_rows, settings};
pub use kubernetes::objects;
pub use readers::query;
pub use state::{batches, journal, journal_files, snapshot, snapshots};

use crate::{core::Core, history::Keeper, metrics::Metrics};

/// The moment at which everything begins.
const BEGIN: Timestamp = Timestamp::from_unix_ns(1_800_000_000_000_000_000);

/// How often agents report.
const INTERVAL: Duration = Duration::from_secs(1);

/// The same life of the same agent, each time.
const INCARNATION: Incarnation = Incarnation { boot_id: [7; 16], generation: 1, session: 1 };

/// The parts of an input: each is its length in two bytes, and that many bytes; the last one may be shorter.
fn parts(mut data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (part, rest) = rest.split_at(length);
        parts.push(part);
        data = rest;
    }
    parts
}

/// A state without a journal, whose history nobody writes.
fn core(dir: &Path) -> Core {
    static NOWHERE: OnceLock<Arc<Keeper>> = OnceLock::new();
    let keeper = NOWHERE.get_or_init(|| {
        let dir = dir.join("nowhere");
        let made = std::fs::create_dir_all(&dir).map_err(|error| error.to_string());
        let metrics = made.and_then(|()| Metrics::new().map_err(|error| error.to_string()));
        let keeper = metrics.and_then(|metrics| {
            Keeper::start(&dir, 0, 1 << 24, metrics.history).map_err(|error| error.to_string())
        });
        assert!(keeper.is_ok(), "no room for a history in {}: {:?}", dir.display(), keeper.err());
        Arc::new(keeper.unwrap_or_else(|_| unreachable!()))
    });
    let config = topology::Config { steps_kept: 3, max_halves: 10_000, ..Default::default() };
    Core::new(config, Arc::clone(keeper))
}

/// Lets an agent in; the same session each time.
fn connect(core: &mut Core, node: &str, at: Timestamp) -> Option<Connection> {
    let connected = core.connect(node, INCARNATION, AgentFacts::default(), INTERVAL, at);
    connected.ok().map(|(connection, _)| connection)
}
