//! The connections of readers. There are so many and no more; when all places are taken, who has asked for nothing for
//! longest makes room for the next.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::Response,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// All places.
pub(super) struct Places {
    free: Arc<Semaphore>,
    all: usize,
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    next: u64,
    taken: HashMap<u64, Arc<Seat>>,
}

/// One that is taken.
#[derive(Debug)]
pub(super) struct Seat {
    use_: Mutex<Use>,
    leave: Notify,
}

#[derive(Debug)]
struct Use {
    /// Answers that are made or taken.
    answers: usize,
    since: Instant,
}

/// A place for as long as this lives.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    pub(super) seat: Arc<Seat>,
    _permit: OwnedSemaphorePermit,
}

/// An answer, until it is handed over.
#[derive(Debug)]
pub(super) struct Busy(Arc<Seat>);

impl Places {
    pub(super) fn new(all: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(all));
        Arc::new(Self { free, all, seats: Mutex::default() })
    }

    pub(super) fn all(&self) -> usize {
        self.all
    }

    pub(super) fn are_taken(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Asks the one who has been idle for longest to go; whether there is one.
    pub(super) fn make_room(&self) -> bool {
        let seats = self.seats();
        let idle = seats.taken.values().filter_map(|seat| Some((seat.idle_since()?, seat)));
        let idlest = idle.min_by_key(|(since, _)| *since);
        if let Some((_, seat)) = &idlest {
            // It is remembered if it looks later.
            seat.leave.notify_one();
        }
        idlest.is_some()
    }

    /// Waits for a place; `None` when there will be none.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        let use_ = Mutex::new(Use { answers: 0, since: Instant::now() });
        let seat = Arc::new(Seat { use_, leave: Notify::new() });
        let mut seats = self.seats();
        let number = seats.next;
        seats.next += 1;
        seats.taken.insert(number, Arc::clone(&seat));
        drop(seats);
        Some(Place { places: Arc::clone(self), number, seat, _permit: permit })
    }

    /// Waits until all are free.
    pub(super) async fn empty(&self) {
        // It is never closed.
        let _ = self.free.acquire_many(u32::try_from(self.all).unwrap_or(u32::MAX)).await;
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.seats().taken.remove(&self.number);
    }
}

impl Seat {
    /// An answer begins.
    pub(super) fn answer(self: &Arc<Self>) -> Busy {
        self.use_().answers += 1;
        Busy(Arc::clone(self))
    }

    /// Ends when somebody else is to have the place.
    pub(super) async fn is_wanted(&self) {
        self.leave.notified().await;
    }

    fn idle_since(&self) -> Option<Instant> {
        let now = self.use_();
        (now.answers == 0).then_some(now.since)
    }

    fn use_(&self) -> MutexGuard<'_, Use> {
        self.use_.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Busy {
    /// The answer is over when its body is handed over.
    pub(super) fn until_taken(self, response: Response<Body>) -> Response<Body> {
        response.map(|body| Body::new(Taken { body, _busy: self }))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut now = self.0.use_();
        now.answers -= 1;
        now.since = Instant::now();
    }
}

/// A body that is dropped when it is handed over.
struct Taken {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
