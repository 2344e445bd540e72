//! Who is behind a translated address: which halves the kernel translates addresses for, and into what.
//!
//! Connection tracking is asked for all translated connections of a network namespace at once, when halves are new or
//! have new connections, and never about a single one. What that took says how long the next time has to wait.

pub(crate) mod conntrack;
mod wanted;

use std::{
    collections::HashMap,
    io,
    time::{Duration, Instant},
};

use topology::model::Ends;

use crate::{
    addresses::Addresses,
    netlink::Read,
    report::Report,
    source::{Program, ProgramState},
};
use conntrack::Entry;
pub use wanted::SlotEnds;
use wanted::Wanted;

/// So many times as long as asking took is not asked again. The kernel goes through a table of a quarter of a million
/// places for it, which takes some 9 ms.
const REST: u32 = 30;

/// But at least this long.
const LEAST_REST: Duration = Duration::from_millis(200);

/// And at most this long.
const MOST_REST: Duration = Duration::from_secs(10);

/// Network namespaces that are asked in besides the host's.
const NAMESPACES: usize = 256;

/// Asks for translations and tells the report.
#[derive(Debug)]
pub struct Nat {
    not_before: Option<Instant>,
    state: State,
    misses: Misses,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Works,
    Fails(String),
}

/// What was not found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Misses {
    /// Lists that were not read to their end, or not at all.
    unread: u64,
    /// Translations of which it is not clear whose they are.
    unclear: u64,
    /// Translations that there was no room for.
    refused: u64,
}

impl Default for Nat {
    fn default() -> Self {
        Self { not_before: None, state: State::Unknown, misses: Misses::default() }
    }
}

impl Nat {
    /// Looks for translations of halves that are new or have new connections, when it is time.
    pub fn look(&mut self, report: &mut Report, addresses: &Addresses, now: Instant) {
        if self.not_before.is_some_and(|moment| now < moment) || !report.take_untranslated() {
            return;
        }
        let before = busy();
        let wanted = Wanted::of(report.ends_of_slots(now));
        let scopes = addresses.scopes();
        let mut found: HashMap<u32, Vec<Ends>> = HashMap::new();
        let host = addresses.host_namespace();
        let here = read(|entry| self.misses.unclear += wanted.in_host(entry, &scopes, &mut found));
        self.note(&here);
        if here.is_ok() {
            let others = wanted.namespaces(host);
            let entered = addresses.within(others.into_iter().take(NAMESPACES), |cookie| {
                let mut entries = Vec::new();
                if conntrack::tracked() == Some(0) {
                    return Ok((cookie, Read::All, entries));
                }
                read(|entry| entries.push(entry)).map(|read| (cookie, read, entries))
            });
            for outcome in entered {
                let Ok((cookie, read, entries)) = outcome else {
                    self.misses.unread += 1;
                    continue;
                };
                self.misses.unread += u64::from(read == Read::Part);
                for entry in entries {
                    wanted.in_namespace(cookie, entry, &scopes, &mut found);
                }
            }
        }
        for (half, ends) in found {
            self.misses.refused += report.translate(half, &ends);
        }
        // Of processor time: a busy host is not to make it wait for longer.
        let took = busy().saturating_sub(before);
        self.not_before = Some(now + (took * REST).clamp(LEAST_REST, MOST_REST));
    }

    fn note(&mut self, read: &io::Result<Read>) {
        let state = match read {
            Ok(_) => State::Works,
            Err(error) => State::Fails(error.to_string()),
        };
        if !matches!(read, Ok(Read::All)) {
            self.misses.unread += 1;
        }
        if self.state != state {
            if let State::Fails(error) = &state {
                tracing::warn!(
                    error,
                    "connection tracking cannot be asked: who is behind a translated address stays unknown"
                );
            }
            self.state = state;
        }
    }

    /// What was not found out, by cause.
    pub fn losses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Misses { unread, unclear, refused } = self.misses;
        let losses = [
            ("translations_unread", unread),
            ("translations_unclear", unclear),
            ("translations_refused", refused),
        ];
        losses.into_iter().filter(|(_, count)| *count > 0)
    }

    /// Whether it works, as of a kernel program.
    #[must_use]
    pub fn program(&self) -> Program {
        let (state, reason) = match &self.state {
            State::Unknown => (ProgramState::Off, "nothing to ask for yet".to_owned()),
            State::Works => (ProgramState::Attached, String::new()),
            State::Fails(error) => (ProgramState::Failed, error.clone()),
        };
        Program {
            name: "conntrack",
            state,
            reason,
            lost_without: "who is behind a translated address",
            essential: false,
        }
    }
}

/// Processor time of the agent so far.
fn busy() -> Duration {
    let clock = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID;
    nix::time::clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

fn read(visit: impl FnMut(Entry)) -> io::Result<Read> {
    conntrack::translated(visit)
}

/// Whether connection tracking can be asked on this host, as of a kernel program.
#[must_use]
pub fn probe() -> Program {
    let mut nat = Nat::default();
    nat.note(&read(|_| {}));
    nat.program()
}
