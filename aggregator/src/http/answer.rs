//! Answers that are made of the whole graph: they take their time and their memory, so they are made on threads of their
//! own, and only a few at once. An answer has its turn until its reader has taken it: what is held for readers is bounded,
//! however slow they are.

use std::{
    io,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use prometheus::IntCounter;
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, interval},
};

use super::problem::Problem;
use crate::state::Shared;

/// Answers that are made or taken at a time.
const AT_A_TIME: usize = 4;

/// Who has not taken his answer in this time makes room when others wait.
const SLOW: Duration = Duration::from_secs(5);

/// How often those who wait look for somebody who is slow.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Bytes of a document that a reader is given at a time.
const PIECE: usize = 64 << 10;

/// Whose turn it is.
pub struct Answers {
    turns: Arc<Semaphore>,
    /// Those that are being taken, the oldest first.
    taken: Mutex<Vec<(Instant, Weak<Taken>)>>,
    /// Those that were cut off.
    cut: IntCounter,
}

/// Whatever was to make an answer has failed.
pub(super) const NOT_READ: &str = "the graph could not be read";

/// A turn to make an answer.
pub(super) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

type Pieces = Box<dyn Iterator<Item = Bytes> + Send>;

/// An answer that is being taken.
struct Taken(Mutex<Rest>);

/// What is left of it.
enum Rest {
    Some { pieces: Pieces, _turn: Turn },
    Nothing,
    CutOff,
}

impl Answers {
    pub(crate) fn new(cut: IntCounter) -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_A_TIME)), taken: Mutex::default(), cut }
    }

    /// Waits for a turn, for which others may have to make room.
    pub(super) async fn turn(&self) -> Turn {
        let mut turn = pin!(Arc::clone(&self.turns).acquire_owned());
        let mut looks = interval(LOOK_EVERY);
        loop {
            tokio::select! {
                // It is never closed.
                turn = &mut turn => return Turn { _permit: turn.ok() },
                _ = looks.tick() => self.make_room(Instant::now()),
            }
        }
    }

    /// A turn that nobody waits for.
    pub(super) fn turn_to_spare(&self) -> Option<Turn> {
        let permit = Arc::clone(&self.turns).try_acquire_owned().ok()?;
        Some(Turn { _permit: Some(permit) })
    }

    /// Cuts off the answer that has been taken for longest, if that is too long.
    fn make_room(&self, now: Instant) {
        if self.turns.available_permits() > 0 {
            return;
        }
        let mut all = self.taken();
        all.retain(|(_, taken)| taken.strong_count() > 0);
        let slow = all.iter().position(|(since, _)| now - *since >= SLOW);
        let Some(slow) = slow.and_then(|at| all.remove(at).1.upgrade()) else { return };
        drop(all);
        *slow.rest() = Rest::CutOff;
        self.cut.inc();
        tracing::warn!("an answer was cut off: its reader took too long, and others wait");
    }

    /// The body of an answer, which keeps its turn until it is taken.
    pub(super) fn body(
        &self,
        pieces: impl Iterator<Item = Bytes> + Send + 'static,
        turn: Turn,
    ) -> Body {
        let rest = Rest::Some { pieces: Box::new(pieces), _turn: turn };
        let taken = Arc::new(Taken(Mutex::new(rest)));
        let mut all = self.taken();
        all.retain(|(_, taken)| taken.strong_count() > 0);
        all.push((Instant::now(), Arc::downgrade(&taken)));
        drop(all);
        let pieces = std::iter::from_fn(move || taken.rest().next());
        Body::from_stream(tokio_stream::iter(pieces))
    }

    fn taken(&self) -> MutexGuard<'_, Vec<(Instant, Weak<Taken>)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rest {
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        match self {
            Self::Some { pieces, .. } => {
                let piece = pieces.next();
                if piece.is_none() {
                    *self = Self::Nothing;
                }
                piece.map(Ok)
            }
            Self::Nothing => None,
            Self::CutOff => Some(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// Runs `make` where it may block, when it is its turn, which is then the answer's.
pub(super) async fn blocking<T: Send + 'static>(
    shared: Arc<Shared>,
    make: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Result<(T, Turn), Problem> {
    let turn = shared.answers.turn().await;
    let made = tokio::task::spawn_blocking(move || (make(&shared), turn));
    made.await.map_err(|_| Problem::internal(NOT_READ))
}

/// A document, made where that may block; a large one keeps its turn until it is taken.
pub(super) async fn json<T: Serialize>(
    shared: Arc<Shared>,
    make: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Result<Response, Problem> {
    let made = blocking(Arc::clone(&shared), move |shared| serde_json::to_vec(&make(shared)));
    let (body, turn) = made.await?;
    let body = body.map_err(|_| Problem::internal("the answer could not be written"))?;
    Ok(document(&shared, body.into(), turn))
}

/// A document that is made.
pub(super) fn document(shared: &Shared, body: Bytes, turn: Turn) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    if body.len() <= PIECE {
        return (kind, body).into_response();
    }
    let mut from = 0;
    let pieces = std::iter::from_fn(move || {
        // A copy: what the connection holds must not be all of it.
        let piece =
            body.get(from..body.len().min(from + PIECE)).filter(|piece| !piece.is_empty())?;
        from += piece.len();
        Some(Bytes::copy_from_slice(piece))
    });
    (kind, shared.answers.body(pieces, turn)).into_response()
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    fn answers() -> Answers {
        Answers::new(IntCounter::new("cut", "cut").unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_makes_room_for_those_who_wait() {
        let answers = answers();
        let piece = || std::iter::repeat_n(Bytes::from_static(b"piece"), 3);
        let mut slow = Vec::new();
        for _ in 0..AT_A_TIME {
            let turn = answers.turn().await;
            slow.push(answers.body(piece(), turn).into_data_stream());
        }
        assert!(slow[0].next().await.unwrap().is_ok());
        let begin = Instant::now();
        let turn = answers.turn().await;
        assert!(begin.elapsed() >= SLOW - LOOK_EVERY, "not before they are slow");
        assert_eq!(answers.cut.get(), 1);
        assert!(slow[0].next().await.unwrap().is_err(), "the oldest is cut off");
        for body in &mut slow[1..] {
            for _ in 0..3 {
                assert!(body.next().await.unwrap().is_ok(), "nobody else is");
            }
            assert!(body.next().await.is_none());
        }
        // Who has taken everything has given back his turn.
        drop((answers.turn().await, turn));
        assert_eq!(answers.turns.available_permits(), AT_A_TIME);
        assert_eq!(answers.cut.get(), 1);
    }
}
