//! Answers that readers share.
//!
//! An answer is good for everybody who asked for the same before what it tells was taken out of the state: of those who
//! come together, one has it made. Of a large graph, which takes its time to be added up, it is good for a second
//! longer: who asks then gets it at once, and has the next one made meanwhile. The end of its window says how old it is.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{body::Bytes, response::Response};
use serde::Serialize;
use tokio::{task::spawn_blocking, time::Instant};

use super::{
    answer::{self, NOT_READ},
    problem::Problem,
};
use crate::{config::Grant, state::Shared};

/// How long an answer of a large graph is good for.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// Edges from which on a graph is large: an answer takes more than some milliseconds.
const LARGE: usize = 5_000;

/// Answers that are kept, and bytes of each at most.
const MOST: usize = 8;
const MOST_BYTES: usize = 4 << 20;

/// Answers that were made of late, by what was asked for.
#[derive(Default)]
pub struct Kept(Mutex<HashMap<Key, Arc<Slot>>>);

/// What was asked for, and how much of it the reader may see.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    route: &'static str,
    query: String,
    namespaces: Option<BTreeSet<String>>,
}

/// The place of an answer.
#[derive(Default)]
struct Slot {
    last: Mutex<Option<Made>>,
    /// Who makes the next one.
    maker: Arc<tokio::sync::Mutex<()>>,
    /// The last one was too large to be kept: nobody waits for what another one makes.
    too_large: AtomicBool,
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
    pub(super) fn new(route: &'static str, query: Option<String>, grant: &Grant) -> Self {
        let query = query.unwrap_or_default();
        Self { route, query, namespaces: grant.namespaces.clone() }
    }
}

impl Kept {
    /// The place for an answer; one of its own where there are too many.
    fn slot(&self, key: Key) -> Arc<Slot> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.is_recent());
        if all.len() >= MOST && !all.contains_key(&key) {
            return Arc::default();
        }
        Arc::clone(all.entry(key).or_default())
    }
}

impl Slot {
    fn last(&self) -> Option<Made> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_recent(&self) -> bool {
        self.last().is_some_and(|made| made.taken.elapsed() <= GOOD_FOR)
    }

    /// The last answer, if it is good for who asked at that moment.
    fn good(&self, asked: Instant) -> Option<Made> {
        let is_good =
            |made: &Made| made.taken >= asked || (made.large && made.taken.elapsed() <= GOOD_FOR);
        self.last().filter(is_good)
    }

    /// An answer for who asked at that moment: the last one, or what comes of `making`. The next one is made meanwhile
    /// if there is a turn to spare for it.
    async fn get<T: Send + 'static>(
        self: &Arc<Self>,
        asked: Instant,
        making: impl Future<Output = Result<Made, Problem>> + Send + 'static,
        spare: impl FnOnce() -> Option<T> + Send,
    ) -> Result<Made, Problem> {
        if let Some(made) = self.good(asked) {
            if made.taken.elapsed() >= GOOD_FOR / 2
                && let Ok(maker) = Arc::clone(&self.maker).try_lock_owned()
                && let Some(turn) = spare()
            {
                let slot = Arc::clone(self);
                tokio::spawn(async move {
                    // What goes wrong is told to whoever has to wait for it.
                    let _ = slot.make(making).await;
                    drop((maker, turn));
                });
            }
            return Ok(made);
        }
        if self.too_large.load(Ordering::Relaxed) {
            return self.make(making).await;
        }
        let _maker = self.maker.lock().await;
        match self.good(asked) {
            Some(made) => Ok(made),
            None => self.make(making).await,
        }
    }

    async fn make(
        &self,
        making: impl Future<Output = Result<Made, Problem>>,
    ) -> Result<Made, Problem> {
        let made = making.await?;
        let kept = (made.body.len() <= MOST_BYTES).then(|| made.clone());
        self.too_large.store(kept.is_none(), Ordering::Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(made)
    }
}

/// A document for whoever asks for this, made where that may block.
pub(super) async fn json<T: Serialize + 'static>(
    shared: Arc<Shared>,
    key: Key,
    make: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Result<Response, Problem> {
    let asked = Instant::now();
    let turn = shared.answers.turn().await;
    let all = Arc::clone(&shared);
    // Whoever does not wait for it has his turn until it is made, all the same.
    let made = tokio::spawn(async move {
        let making = making(Arc::clone(&all), make);
        let made = all.kept.slot(key).get(asked, making, || all.answers.turn_to_spare()).await;
        (made, turn)
    });
    let (made, turn) = made.await.map_err(|_| Problem::internal(NOT_READ))?;
    Ok(answer::document(&shared, made?.body, turn))
}

async fn making<T: Serialize + 'static>(
    shared: Arc<Shared>,
    make: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Result<Made, Problem> {
    let all = Arc::clone(&shared);
    let made = spawn_blocking(move || {
        let taken = Instant::now();
        let body = serde_json::to_vec(&make(&shared))?;
        let large = shared.core().graph().stats().edges >= LARGE;
        Ok::<_, serde_json::Error>(Made { body: body.into(), taken, large })
    });
    let made = made.await.map_err(|_| Problem::internal(NOT_READ))?;
    // Nobody waits for that.
    drop(spawn_blocking(move || all.prepare_views()));
    made.map_err(|_| Problem::internal("the answer could not be written"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::{task::JoinSet, time::sleep};

    use super::*;

    const TAKES: Duration = Duration::from_millis(300);

    /// Makes answers that say how many there were before, and have so many bytes besides.
    #[derive(Clone, Default)]
    struct Maker(Arc<AtomicUsize>, usize);

    impl Maker {
        fn make(
            &self,
            large: bool,
        ) -> impl Future<Output = Result<Made, Problem>> + Send + 'static {
            let number = Arc::clone(&self.0);
            let size = self.1;
            async move {
                let taken = Instant::now();
                sleep(TAKES).await;
                let mut body = number.fetch_add(1, Ordering::Relaxed).to_string();
                body.extend(std::iter::repeat_n(' ', size));
                Ok(Made { body: body.into(), taken, large })
            }
        }

        fn made(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    async fn ask(slot: &Arc<Slot>, maker: &Maker, large: bool) -> (Bytes, Duration) {
        let asked = Instant::now();
        let made = slot.get(asked, maker.make(large), || Some(())).await;
        let made = made.map_err(|_| "not made").unwrap();
        (made.body, asked.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_together_shares_an_answer_that_is_of_after_they_came() {
        let (slot, maker) = (Arc::<Slot>::default(), Maker::default());
        let mut readers = JoinSet::new();
        for _ in 0..5 {
            let (slot, maker) = (Arc::clone(&slot), maker.clone());
            readers.spawn(async move { ask(&slot, &maker, false).await.0 });
        }
        sleep(TAKES / 2).await;
        // What is being made is not of after this one came.
        assert_eq!(ask(&slot, &maker, false).await.0, "1");
        assert!(readers.join_all().await.iter().all(|body| body == "0"));
        assert_eq!(ask(&slot, &maker, false).await.0, "2");
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_large_graph_the_last_answer_is_good_for_a_second() {
        let (slot, maker) = (Arc::<Slot>::default(), Maker::default());
        assert_eq!(ask(&slot, &maker, true).await, (Bytes::from("0"), TAKES));
        for _ in 0..3 {
            assert_eq!(ask(&slot, &maker, true).await, (Bytes::from("0"), Duration::ZERO));
        }
        sleep(TAKES).await;
        assert_eq!(maker.made(), 1, "it is too new for another one");
        assert_eq!(ask(&slot, &maker, true).await, (Bytes::from("0"), Duration::ZERO));
        sleep(TAKES).await;
        tokio::task::yield_now().await;
        assert_eq!(maker.made(), 2, "one more was made meanwhile");
        assert_eq!(ask(&slot, &maker, true).await, (Bytes::from("1"), Duration::ZERO));
        sleep(TAKES + GOOD_FOR).await;
        let (body, took) = ask(&slot, &maker, true).await;
        assert_eq!((body, took), (Bytes::from("2"), TAKES), "an older one is not told");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_an_answer_that_is_too_large_to_be_kept() {
        let (slot, maker) = (Arc::<Slot>::default(), Maker(Arc::default(), MOST_BYTES));
        ask(&slot, &maker, true).await;
        let mut readers = JoinSet::new();
        for _ in 0..3 {
            let (slot, maker) = (Arc::clone(&slot), maker.clone());
            readers.spawn(async move { ask(&slot, &maker, true).await.1 });
        }
        let took = readers.join_all().await;
        assert!(took.iter().all(|took| *took == TAKES), "one beside the other: {took:?}");
        assert_eq!(maker.made(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_kept_and_not_for_long() {
        let (kept, maker) = (Kept::default(), Maker::default());
        let key = |number: usize| Key { route: "x", query: number.to_string(), namespaces: None };
        for number in 0..3 * MOST {
            ask(&kept.slot(key(number)), &maker, true).await;
        }
        assert!(kept.0.lock().unwrap().len() <= MOST);
        sleep(2 * GOOD_FOR).await;
        ask(&kept.slot(key(0)), &maker, true).await;
        assert_eq!(kept.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn who_may_see_less_has_answers_of_their_own() {
        let grant = |namespaces: Option<&str>| Grant {
            name: String::new(),
            role: crate::config::Role::Read,
            namespaces: namespaces.map(|namespace| [namespace.to_owned()].into()),
        };
        let key = |namespaces| Key::new("x", Some("q".to_owned()), &grant(namespaces));
        assert_eq!(key(Some("a")), key(Some("a")));
        assert_ne!(key(Some("a")), key(Some("b")));
        assert_ne!(key(Some("a")), key(None));
    }
}
