//! Answers that readers share.
//!
//! An answer is good for everybody who asked for the same before what it tells was taken out of the state: of those who
//! come together, one has it made. A large graph takes its time to be added up: its answers are made again and again as
//! long as somebody asks for them now and then, and whoever asks gets the last one at once. The end of its window says
//! how old it is.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{body::Bytes, response::Response};
use serde::Serialize;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use super::{
    answer::{self, NOT_READ},
    problem::Problem,
    window::WindowQuery,
};
use crate::{config::Grant, state::Shared};

/// How long the last answer of a large graph is good for.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The same while it is made again and again, after the first time.
const GOOD_FOR_AT_MOST: Duration = Duration::from_secs(5);

/// How long an answer is made again and again after somebody asked for it: pages ask every 5, 10 or 30 s.
const WANTED_FOR: Duration = Duration::from_secs(35);

/// Nothing is made for this many times as long as the last making took, so that it takes a third of a processor at most.
const REST: u32 = 2;

/// How long a tick may take to come. What was made before it would be the same again.
const TICK_WAIT: Duration = Duration::from_secs(5);

/// How long until there may be a turn to spare.
const TURN_WAIT: Duration = Duration::from_millis(100);

/// Answers that are kept, and bytes of each at most.
const MOST: usize = 8;
const MOST_BYTES: usize = 4 << 20;

/// Answers that were made of late, by what was asked for.
pub struct Kept {
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    /// Somebody makes again and again what is wanted.
    is_warm: AtomicBool,
    /// The graph was large at the last tick. Asking it would have to wait for it.
    is_large: AtomicBool,
    /// Somebody reads the graph, or is about to, since the last tick.
    is_read: AtomicBool,
    /// When the last tick was over.
    ticked: watch::Sender<Instant>,
}

/// How what is told of ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// It goes on with time.
    Now,
    /// It has ended, and stays what it is, but for what comes late.
    Before,
}

/// What was asked for, and how much of it the reader may see.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    route: &'static str,
    query: String,
    namespaces: Option<BTreeSet<String>>,
}

/// Makes an answer, and may do so more than once.
type Make = Box<dyn Fn() -> Making + Send + Sync>;
type Making = Pin<Box<dyn Future<Output = Result<Made, Problem>> + Send>>;

/// The place of an answer.
struct Slot {
    make: Make,
    ends: Ends,
    state: Mutex<State>,
    /// Who makes the next one.
    maker: tokio::sync::Mutex<()>,
}

struct State {
    last: Option<Made>,
    /// When it was last asked for.
    wanted: Instant,
    /// It has been made again since it was first asked for.
    again: bool,
    /// The last one was too large to be kept: nobody waits for what another one makes.
    too_large: bool,
}

#[derive(Clone)]
struct Made {
    body: Bytes,
    /// Before what it tells was taken out of the state.
    taken: Instant,
    /// It is of a large graph.
    large: bool,
}

impl Key {
    /// `query` says what is asked for, the same for everybody who may have the same answer.
    pub(super) fn new(route: &'static str, query: String, grant: &Grant) -> Self {
        Self { route, query, namespaces: grant.namespaces.clone() }
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            slots: Mutex::default(),
            is_warm: AtomicBool::new(false),
            is_large: AtomicBool::new(false),
            is_read: AtomicBool::new(false),
            ticked: watch::Sender::new(Instant::now()),
        }
    }
}

impl Kept {
    /// A tick begins: who has read before it has had what the last one showed.
    pub(crate) fn ticks(&self) {
        self.is_read.store(false, Ordering::Relaxed);
    }

    /// A tick is over, of a graph that is large or not.
    pub(crate) fn ticked(&self, is_large: bool) {
        self.is_large.store(is_large, Ordering::Relaxed);
        self.ticked.send_replace(Instant::now());
    }

    /// Somebody reads the graph, and may do so again.
    pub(crate) fn read(&self) {
        self.is_read.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has read it since the last tick.
    pub(crate) fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Relaxed)
    }

    /// The place for an answer; where there are too many, that of what was asked for the longest time ago.
    fn slot(&self, (key, ends): (Key, Ends), make: Make) -> Arc<Slot> {
        let mut all = self.slots();
        let now = Instant::now();
        all.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.is_recent(now));
        if let Some(slot) = all.get(&key) {
            return Arc::clone(slot);
        }
        if all.len() >= MOST {
            let longest_ago = all.iter().min_by_key(|(_, slot)| slot.state().wanted);
            if let Some(key) = longest_ago.map(|(key, _)| key.clone()) {
                all.remove(&key);
            }
        }
        let slot = Arc::new(Slot::new(make, ends, now));
        all.insert(key, Arc::clone(&slot));
        slot
    }

    /// Of what somebody wants now and then, the oldest, and of when it is.
    fn next(&self) -> Option<(Arc<Slot>, Instant)> {
        let all = self.slots();
        let now = Instant::now();
        let wanted = all.values().filter_map(|slot| Some((slot.wanted_of(now)?, slot)));
        let oldest = wanted.min_by_key(|(taken, _)| *taken);
        oldest.map(|(taken, slot)| (Arc::clone(slot), taken))
    }

    /// Makes again and again what is wanted, one after the other, while there is a turn to spare; until nothing is.
    async fn keep_warm<T>(&self, spare: impl Fn() -> Option<T>) {
        let mut ticked = self.ticked.subscribe();
        while let Some((slot, taken)) = self.next() {
            self.read();
            let _ = timeout(TICK_WAIT, ticked.wait_for(|ticked| *ticked > taken)).await;
            let Some(turn) = spare() else {
                sleep(TURN_WAIT).await;
                continue;
            };
            let begun = Instant::now();
            if slot.make_one_more().await.is_err() {
                // That is told to whoever has to wait for it.
                slot.state().last = None;
            }
            drop(turn);
            sleep(REST * begun.elapsed()).await;
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn new(make: Make, ends: Ends, now: Instant) -> Self {
        let state = State { last: None, wanted: now, again: false, too_large: false };
        Self { make, ends, state: Mutex::new(state), maker: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_recent(&self, now: Instant) -> bool {
        let state = self.state();
        self.ends == Ends::Now && state.wanted_of(now).is_some()
            || state.last.as_ref().is_some_and(|made| now - made.taken <= GOOD_FOR)
    }

    fn wanted_of(&self, now: Instant) -> Option<Instant> {
        self.state().wanted_of(now).filter(|_| self.ends == Ends::Now)
    }

    /// An answer for who asks now: the last one, or the next, which others may wait for, too.
    async fn get(&self, is_warm: bool) -> Result<Made, Problem> {
        let asked = Instant::now();
        let too_large = {
            let mut state = self.state();
            state.wanted = asked;
            if let Some(made) = state.good(asked, is_warm) {
                return Ok(made);
            }
            state.too_large
        };
        if too_large {
            return self.make().await;
        }
        let _maker = self.maker.lock().await;
        let made = self.state().good(asked, is_warm);
        match made {
            Some(made) => Ok(made),
            None => self.make().await,
        }
    }

    /// The next answer, whatever the last one is.
    async fn make_one_more(&self) -> Result<Made, Problem> {
        let _maker = self.maker.lock().await;
        let made = self.make().await?;
        self.state().again = true;
        Ok(made)
    }

    async fn make(&self) -> Result<Made, Problem> {
        let made = (self.make)().await?;
        let kept = (made.body.len() <= MOST_BYTES).then(|| made.clone());
        let mut state = self.state();
        state.too_large = kept.is_none();
        state.last = kept;
        Ok(made)
    }
}

impl State {
    /// The last answer, if it is good for who asked at that moment.
    fn good(&self, asked: Instant, is_warm: bool) -> Option<Made> {
        let good_for = if is_warm && self.again { GOOD_FOR_AT_MOST } else { GOOD_FOR };
        let made = self.last.as_ref()?;
        (made.taken >= asked || (made.large && made.taken.elapsed() <= good_for))
            .then(|| made.clone())
    }

    /// Of when the last answer is, if it is of a large graph and somebody wants it now and then.
    fn wanted_of(&self, now: Instant) -> Option<Instant> {
        let made = self.last.as_ref()?;
        (made.large && now - self.wanted < WANTED_FOR).then_some(made.taken)
    }
}

/// A window as it is asked for by as many as possible, and how it ends. Answers of small graphs are hardly shared: they get
/// what they ask for.
pub(super) fn shared_by_many(shared: &Shared, window: WindowQuery) -> (WindowQuery, Ends) {
    let now = shared.now();
    let is_large = shared.kept.is_large.load(Ordering::Relaxed);
    let window = if is_large { window.up_to_now(now) } else { window };
    let ends = if window.reaches(now) { Ends::Now } else { Ends::Before };
    (window, ends)
}

/// A document for whoever asks for this, made where that may block.
pub(super) async fn json<T: Serialize + 'static>(
    shared: Arc<Shared>,
    key: (Key, Ends),
    make: impl Fn(&Shared) -> T + Send + Sync + 'static,
) -> Result<Response, Problem> {
    let turn = shared.answers.turn().await;
    let all = Arc::clone(&shared);
    // Whoever does not wait for it has his turn until it is made, all the same.
    let made = tokio::spawn(async move {
        let slot = all.kept.slot(key, maker(&all, make));
        let made = slot.get(all.kept.is_warm.load(Ordering::Relaxed)).await;
        if slot.ends == Ends::Now && made.as_ref().is_ok_and(|made| made.large) {
            keep_warm(&all);
        }
        (made, turn)
    });
    let (made, turn) = made.await.map_err(|_| Problem::internal(NOT_READ))?;
    Ok(answer::document(&shared, made?.body, turn))
}

/// What makes an answer. It is kept among what is shared, so it does not keep that.
fn maker<T: Serialize + 'static>(
    shared: &Arc<Shared>,
    make: impl Fn(&Shared) -> T + Send + Sync + 'static,
) -> Make {
    let (shared, make) = (Arc::downgrade(shared), Arc::new(make));
    Box::new(move || {
        let (shared, make) = (shared.upgrade(), Arc::clone(&make));
        Box::pin(async move {
            let shared = shared.ok_or_else(|| Problem::internal(NOT_READ))?;
            let all = Arc::clone(&shared);
            let made = spawn_blocking(move || {
                let taken = Instant::now();
                let body = serde_json::to_vec(&make(&shared))?;
                let large = shared.kept.is_large.load(Ordering::Relaxed);
                Ok::<_, serde_json::Error>(Made { body: body.into(), taken, large })
            });
            let made = made.await.map_err(|_| Problem::internal(NOT_READ))?;
            // Nobody waits for that.
            drop(spawn_blocking(move || all.prepare_views()));
            made.map_err(|_| Problem::internal("the answer could not be written"))
        })
    })
}

/// Sees to it that what is wanted is made again and again.
fn keep_warm(shared: &Arc<Shared>) {
    if shared.kept.is_warm.swap(true, Ordering::Relaxed) {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        shared.kept.keep_warm(|| shared.answers.turn_to_spare()).await;
        shared.kept.is_warm.store(false, Ordering::Relaxed);
    });
}

#[cfg(test)]
mod tests;
