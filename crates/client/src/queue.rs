//! The events between the client's task and the application.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::event::ClientEvent;

/// The task's side.
pub(crate) struct Teller {
    shared: Arc<Mutex<Shared>>,
}

/// The application's side.
#[derive(Debug)]
pub(crate) struct Listener {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    events: VecDeque<ClientEvent>,
    capacity: usize,
    listener: Option<Waker>,
    teller: Option<Waker>,
    /// No more will come.
    over: bool,
    /// Nobody listens any more.
    gone: bool,
}

/// A queue that is full with so many events.
pub(crate) fn queue(capacity: usize) -> (Teller, Listener) {
    let shared = Arc::new(Mutex::new(Shared { capacity, ..Shared::default() }));
    (Teller { shared: shared.clone() }, Listener { shared })
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Shared {
    fn has_room(&self) -> bool {
        self.events.len() <= self.capacity / 2
    }
}

impl Teller {
    /// Tells, be the queue full or not: it is the teller's to bring no more then.
    pub(crate) fn push(&self, event: ClientEvent) {
        let mut shared = lock(&self.shared);
        if shared.gone {
            return;
        }
        shared.events.push_back(event);
        let listener = shared.listener.take();
        drop(shared);
        wake(listener);
    }

    /// How many wait beyond those that may.
    pub(crate) fn excess(&self) -> usize {
        let shared = lock(&self.shared);
        shared.events.len().saturating_sub(shared.capacity)
    }

    pub(crate) fn is_full(&self) -> bool {
        let shared = lock(&self.shared);
        shared.events.len() >= shared.capacity
    }

    /// Ready once half of it is free.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, Shared::has_room)
    }

    /// Ready once nobody listens any more.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, |shared| shared.gone)
    }

    fn poll(&self, cx: &mut Context<'_>, is: impl FnOnce(&Shared) -> bool) -> Poll<()> {
        let mut shared = lock(&self.shared);
        if is(&shared) {
            return Poll::Ready(());
        }
        shared.teller = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.over = true;
        let listener = shared.listener.take();
        drop(shared);
        wake(listener);
    }
}

impl Listener {
    /// The next event; `None` once no more will come.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        let mut shared = lock(&self.shared);
        let had_room = shared.has_room();
        match shared.events.pop_front() {
            Some(event) => {
                // Only what the teller can be waiting for wakes it.
                let teller = if !had_room && shared.has_room() { shared.teller.take() } else { None };
                drop(shared);
                wake(teller);
                Poll::Ready(Some(event))
            }
            None if shared.over => Poll::Ready(None),
            None => {
                shared.listener = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.gone = true;
        let events = std::mem::take(&mut shared.events);
        let teller = shared.teller.take();
        drop(shared);
        drop(events);
        wake(teller);
    }
}
