//! Lets everybody at the state in turn.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

/// The state, of which each has a turn.
///
/// A batch takes it for microseconds, and may wait for that where it stands. What looks at every link takes it for as
/// long as there are links: who waits for that on a thread that serves other connections too would hold them up, and
/// agents take an aggregator that is silent for one that is gone.
pub(crate) struct Held<T> {
    state: Mutex<T>,
    /// How many have it for long, or are about to.
    long: AtomicUsize,
    /// One of them is done.
    done: Notify,
}

/// The state for as long as this lives, which may be long.
pub(crate) struct ForLong<'a, T> {
    state: MutexGuard<'a, T>,
    // After the state is free: fields go in this order.
    _turn: Turn<'a, T>,
}

struct Turn<'a, T>(&'a Held<T>);

impl<T> Held<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { state: Mutex::new(state), long: AtomicUsize::new(0), done: Notify::new() }
    }

    /// The state, for a moment.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        // A panic while it was held is a bug, but the numbers of the others are still right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of whoever has it alone.
    #[cfg(test)]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for as long as it takes; not to be called where other tasks wait for this thread.
    pub(crate) fn lock_for_long(&self) -> ForLong<'_, T> {
        self.long.fetch_add(1, Ordering::AcqRel);
        let turn = Turn(self);
        ForLong { state: self.lock(), _turn: turn }
    }

    /// Waits, where somebody has the state for long, until he is done. Another may have it by then: whoever waits here
    /// waits for one of them, not for all that ever come.
    pub(crate) async fn soon(&self) {
        let done = self.done.notified();
        if self.long.load(Ordering::Acquire) > 0 {
            done.await;
        }
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.0.long.fetch_sub(1, Ordering::AcqRel);
        self.0.done.notify_waiters();
    }
}

impl<T> Deref for ForLong<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.state
    }
}

impl<T> DerefMut for ForLong<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_long_turn_holds_nobody_up() {
        let held = Arc::new(Held::new(()));
        let long = held.lock_for_long();
        let mut soon = std::pin::pin!(held.soon());
        // This thread goes on.
        assert!(timeout(Duration::from_millis(5), soon.as_mut()).await.is_err());
        drop(long);
        soon.await;
        assert!(held.state.try_lock().is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_for_more_than_one_turn() {
        let held = Arc::new(Held::new(()));
        let first = held.lock_for_long();
        let mut soon = std::pin::pin!(held.soon());
        assert!(timeout(Duration::from_millis(5), soon.as_mut()).await.is_err());
        let (other, (told, wait)) = (Arc::clone(&held), std::sync::mpsc::channel::<()>());
        let next = thread::spawn(move || {
            let long = other.lock_for_long();
            let _ = wait.recv();
            drop(long);
        });
        while held.long.load(Ordering::Acquire) < 2 {
            thread::yield_now();
        }
        drop(first);
        timeout(Duration::from_secs(60), soon).await.unwrap();
        drop(told);
        next.join().unwrap();
    }

    #[tokio::test]
    async fn a_turn_that_is_over_is_not_waited_for() {
        let held = Arc::new(Held::new(()));
        drop(held.lock_for_long());
        held.soon().await;
        assert_eq!(held.long.load(Ordering::Acquire), 0);
    }
}
