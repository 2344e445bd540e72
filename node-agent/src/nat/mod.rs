//! Who is behind a translated address: which halves the kernel translates addresses for, and into what.
//!
//! Connection tracking is asked for all translated connections of a network namespace at once, when halves are new or
//! have new connections. What that took says how long the next time has to wait. About single connections it is asked when
//! the aggregator wants to know whose they were.

pub(crate) mod conntrack;
mod turns;
mod wanted;

use std::{
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

use crate::{
    addresses::{Addresses, Scopes},
    netlink::Read,
    report::Report,
    source::{Program, ProgramState},
};
use conntrack::{Entry, Original, Seen};
use topology::model::{Ends, Scope, Tuple};
use turns::Turns;
pub use wanted::SlotEnds;
use wanted::{Findings, Wanted};

/// So many times as long as asking took is not asked again. The kernel goes through a table of a quarter of a million
/// places for it, which takes some 9 ms.
const REST: u32 = 30;

/// But at least this long.
const LEAST_REST: Duration = Duration::from_millis(200);

/// At least this long, where the host's list could not be read: it is asked for again without a cause.
const RETRY: Duration = Duration::from_secs(10);

/// The same, where it was not read to its end: perhaps others had the processor.
const RETRY_PART: Duration = Duration::from_secs(1);

/// All lists of one look together take so long: nothing else is looked at meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);

/// The host's list takes no more of it than this.
const PATIENCE_HERE: Duration = Duration::from_millis(400);

/// All connections that the aggregator asks about at once take so long.
const PATIENCE_ANSWERING: Duration = Duration::from_millis(400);

/// Network namespaces that are asked in besides the host's, in one look.
const NAMESPACES: usize = 256;

fn seen(tuple: &Tuple) -> Seen {
    Seen {
        client: tuple.client.ip,
        client_port: tuple.client_port,
        server: tuple.server.ip,
        server_port: tuple.server_port,
    }
}

/// A connection that the aggregator asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// As its client has it, as far as is known.
    pub tuple: Tuple,
    /// It was looked for and is not tracked: what it was to its client may have been something else.
    pub untracked: bool,
}

impl Asked {
    /// Whether it is not to be guessed whose it was, given what servers see of connections of several.
    #[must_use]
    pub fn is_unclear(&self, unclear: &HashSet<Ends>) -> bool {
        let Tuple { client, server, server_port, .. } = self.tuple;
        self.untracked && unclear.contains(&Ends { client, server, server_port })
    }
}

/// What a connection was that the host's network namespace knows as `seen`. Loopback of another is not known there.
fn original(tuple: &Tuple, seen: Seen, scopes: &Scopes) -> Tuple {
    if matches!(tuple.client.scope, Scope::Namespace(cookie) if cookie != scopes.host()) {
        return *tuple;
    }
    let address = |ip| scopes.of(ip, scopes.host());
    Tuple {
        client: address(seen.client),
        client_port: seen.client_port,
        server: address(seen.server),
        server_port: seen.server_port,
    }
}

/// Shows the translated connections of the calling thread's network namespace, until the deadline.
type List = dyn Fn(Instant, &mut dyn FnMut(Entry)) -> io::Result<Read> + Sync;

/// How many connections the calling thread's network namespace tracks, where that is known.
type Tracked = dyn Fn() -> Option<u64> + Sync;

/// Asks for translations and tells the report.
#[derive(Debug)]
pub struct Nat {
    not_before: Option<Instant>,
    /// When the host's list was last read.
    looked: Option<Instant>,
    /// Of the other namespaces.
    turns: Turns,
    state: State,
    misses: Misses,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Works,
    /// The kernel tracks no connections, and so translates none.
    Absent,
    Fails(String),
}

/// What was not found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Misses {
    /// Lists that were not read to their end, or not at all.
    unread: u64,
    /// Halves of whose translations it was not clear whether they are theirs.
    unclear: u64,
    /// Halves with translations that there was no room for.
    refused: u64,
}

impl Default for Nat {
    fn default() -> Self {
        Self {
            not_before: None,
            looked: None,
            turns: Turns::default(),
            state: State::Unknown,
            misses: Misses::default(),
        }
    }
}

impl Nat {
    /// Looks for translations of halves that are new or have new connections, when it is time.
    pub fn look(&mut self, report: &mut Report, addresses: &Addresses, now: Instant) {
        let tracked = &conntrack::tracked;
        self.look_by(&conntrack::translated, tracked, report, addresses, now);
    }

    fn look_by(
        &mut self,
        list: &List,
        tracked: &Tracked,
        report: &mut Report,
        addresses: &Addresses,
        now: Instant,
    ) {
        if self.not_before.is_some_and(|moment| now < moment) {
            return;
        }
        let anew = report.take_untranslated();
        if !anew && self.turns.are_over() {
            return;
        }
        let (before, began) = (busy(), Instant::now());
        let wanted = Wanted::of(report.ends_of_slots(self.looked));
        let (scopes, mut found) = (addresses.scopes(), Findings::default());
        let others = wanted.namespaces(addresses.host_namespace());
        let mut least = LEAST_REST;
        if anew {
            let mut visit = |entry| wanted.in_host(entry, &scopes, &mut found);
            // The kernel would go through its whole table all the same. The first time tells whether it can be asked.
            let here = if self.state == State::Works && tracked() == Some(0) {
                Ok(Read::All)
            } else {
                list(began + PATIENCE_HERE, &mut visit)
            };
            self.note(&here);
            if here.is_ok() {
                self.looked = Some(now);
                self.turns.begin(others);
            } else {
                self.turns.begin(Default::default());
            }
            if matches!(here, Ok(Read::All)) {
                report.looked_for_translations(now);
            } else {
                report.want_translations();
                least = if here.is_ok() { RETRY_PART } else { RETRY };
            }
        } else {
            self.turns.retain(&others);
        }
        let entered =
            addresses.within(self.turns.next(NAMESPACES).into_iter(), began + PATIENCE, |_| {
                let mut entries = Vec::new();
                if tracked() == Some(0) {
                    return Ok((Read::All, entries));
                }
                list(began + PATIENCE, &mut |entry| entries.push(entry)).map(|read| (read, entries))
            });
        let last = entered.len().saturating_sub(1);
        for (index, (cookie, outcome)) in entered.into_iter().enumerate() {
            let part = matches!(outcome, Some(Ok((Read::Part, _))));
            // What was cut off because of those before it comes first the next time.
            let cut = part && index == last && index > 0;
            if !cut {
                self.turns.had(cookie);
                self.misses.unread += u64::from(part || matches!(outcome, Some(Err(_))));
            }
            for entry in outcome.into_iter().flatten().flat_map(|(_, entries)| entries) {
                wanted.in_namespace(cookie, entry, &scopes, &mut found);
            }
        }
        for half in found.unclear {
            self.misses.unclear += u64::from(report.untranslatable(half));
        }
        for (half, ends) in found.ends {
            self.misses.refused += u64::from(report.translate(half, ends));
        }
        // Of processor time: a busy host is not to make it wait for longer.
        let took = busy().saturating_sub(before);
        self.not_before = Some(Instant::now() + (took * REST).max(least));
    }

    /// What these connections were to their clients, as far as the host has translated them: in their order, and those
    /// are missing that there was no time for.
    pub fn originals(&mut self, tuples: &[Tuple], scopes: &Scopes) -> Vec<Asked> {
        let as_it_is = |untracked| move |tuple: &Tuple| Asked { tuple: *tuple, untracked };
        match self.state {
            // Nothing is known to be translated.
            State::Unknown | State::Absent => return tuples.iter().map(as_it_is(false)).collect(),
            State::Works | State::Fails(_) => {}
        }
        if conntrack::tracked() == Some(0) {
            return tuples.iter().map(as_it_is(true)).collect();
        }
        let deadline = Instant::now() + PATIENCE_ANSWERING;
        let (read, found) = conntrack::originals(tuples.iter().map(seen), deadline)
            .unwrap_or((Read::Part, Vec::new()));
        self.misses.unread += u64::from(read == Read::Part);
        let own = |(tuple, found): (&Tuple, Original)| match found {
            Original::Translated(seen) => as_it_is(false)(&original(tuple, seen, scopes)),
            Original::Same => as_it_is(false)(tuple),
            Original::Untracked => as_it_is(true)(tuple),
        };
        tuples.iter().zip(found).map(own).collect()
    }

    fn note(&mut self, read: &io::Result<Read>) {
        let state = match read {
            Ok(_) => State::Works,
            Err(_) if conntrack::tracked().is_none() => State::Absent,
            Err(error) => State::Fails(error.to_string()),
        };
        // What fails for the same reason all along counts once.
        let fails = matches!(state, State::Fails(_)) && self.state != state;
        if matches!(read, Ok(Read::Part)) || fails {
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
            State::Absent => {
                (ProgramState::Off, "not needed: the kernel tracks no connections".to_owned())
            }
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

/// Whether connection tracking can be asked on this host, as of a kernel program.
#[must_use]
pub fn probe() -> Program {
    let mut nat = Nat::default();
    nat.note(&conntrack::translated(Instant::now() + PATIENCE, &mut |_| {}));
    nat.program()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::{owners::ProcFs, testing::world::World};
    use topology::model::Address;

    const SOME: &Tracked = &|| Some(1);

    /// The client of the only half, led to so many servers.
    fn entries(servers: u16) -> impl Iterator<Item = Entry> {
        let seen = |server: &str, server_port| conntrack::Seen {
            client: "10.0.0.1".parse().unwrap(),
            client_port: 40_000,
            server: server.parse().unwrap(),
            server_port,
        };
        let before = seen("10.0.0.2", 80);
        (0..servers).map(move |server| Entry { before, after: seen("10.0.0.3", 1_000 + server) })
    }

    #[test]
    fn a_list_that_was_not_read_to_its_end_is_asked_for_again_after_a_rest() {
        let mut world = World::new();
        let addresses = Addresses::new(ProcFs::new("/proc"));
        let mut nat = Nat::default();
        world.gain(0, 0, 80, 1);
        let fails: &List = &|_, _| Err(io::ErrorKind::PermissionDenied.into());
        let part: &List = &|_, _| Ok(Read::Part);
        let lists =
            [(fails, RETRY, 1), (fails, RETRY, 1), (part, RETRY_PART, 2), (part, RETRY_PART, 3)];
        for (list, rest, unread) in lists {
            nat.look_by(list, SOME, &mut world.report, &addresses, world.now);
            assert!(nat.not_before.unwrap() > Instant::now() + rest / 2);
            assert_eq!(nat.misses.unread, unread);
            nat.look_by(list, SOME, &mut world.report, &addresses, world.now);
            assert_eq!(nat.misses.unread, unread, "it rests");
            nat.not_before = None;
        }
        let all: &List = &|_, visit| {
            entries(1).for_each(visit);
            Ok(Read::All)
        };
        nat.look_by(all, SOME, &mut world.report, &addresses, world.now);
        assert!(!world.report.take_untranslated(), "found");
        assert!(nat.not_before.unwrap() < Instant::now() + RETRY_PART / 2);
        world.restart();
        world.deliver();
        assert_eq!(world.receiver.ends.values().map(|ends| ends.len()).sum::<usize>(), 1);
    }

    #[test]
    fn where_nothing_is_tracked_the_kernel_is_asked_once_whether_it_can_be() {
        let mut world = World::new();
        let addresses = Addresses::new(ProcFs::new("/proc"));
        let mut nat = Nat::default();
        world.gain(0, 0, 80, 1);
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let list: &List = &|_, _| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            Ok(Read::All)
        };
        let (none, not_known): (&Tracked, &Tracked) = (&|| Some(0), &|| None);
        let looks = [(none, 1), (none, 1), (SOME, 2), (not_known, 3), (none, 3)];
        for (tracked, expected) in looks {
            world.report.want_translations();
            nat.not_before = None;
            nat.look_by(list, tracked, &mut world.report, &addresses, world.now);
            assert_eq!(ASKED.load(Ordering::Relaxed), expected);
            assert!(!world.report.take_untranslated(), "that there are none is an answer");
            assert_eq!(nat.state, State::Works);
        }
    }

    #[test]
    fn no_room_is_counted_once_for_a_half() {
        let mut world = World::new();
        let addresses = Addresses::new(ProcFs::new("/proc"));
        world.gain(0, 0, 80, 1);
        let mut nat = Nat::default();
        let many: &List = &|_, visit| {
            entries(300).for_each(visit);
            Ok(Read::All)
        };
        for _ in 0..3 {
            world.report.want_translations();
            nat.not_before = None;
            nat.look_by(many, SOME, &mut world.report, &addresses, world.now);
            assert_eq!(nat.losses().collect::<Vec<_>>(), [("translations_refused", 1)]);
        }
    }

    #[test]
    fn what_is_translated_from_loopback_is_the_hosts_own() {
        let seen = |client: &str| Seen {
            client: client.parse().unwrap(),
            client_port: 40_000,
            server: "10.96.0.1".parse().unwrap(),
            server_port: 80,
        };
        let client = Address { ip: "10.0.0.2".parse().unwrap(), scope: Scope::Global };
        let asked = Tuple { client, client_port: 1, server: client, server_port: 8080 };
        let scopes = Scopes::on_host(6);
        let scope = |client| original(&asked, seen(client), &scopes).client.scope;
        let expected = [Scope::Namespace(6), Scope::Namespace(6), Scope::Global];
        assert_eq!(["127.0.0.1", "::1", "10.0.0.1"].map(scope), expected);
        let client = Address { ip: "127.0.0.1".parse().unwrap(), scope: Scope::Namespace(7) };
        let elsewhere = Tuple { client, ..asked };
        assert_eq!(original(&elsewhere, seen("127.0.0.1"), &scopes), elsewhere);
    }

    #[test]
    fn the_rest_begins_when_the_look_is_over() {
        let mut world = World::new();
        let addresses = Addresses::new(ProcFs::new("/proc"));
        world.gain(0, 0, 80, 1);
        let mut nat = Nat::default();
        let slow: &List = &|deadline, _| {
            assert!(deadline <= Instant::now() + PATIENCE);
            std::thread::sleep(LEAST_REST);
            Ok(Read::All)
        };
        let began = Instant::now();
        nat.look_by(slow, SOME, &mut world.report, &addresses, began);
        assert!(nat.not_before.unwrap() >= began + 2 * LEAST_REST);
    }
}
