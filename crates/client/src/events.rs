//! The queue of events between the client's task and the application.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::event::{ClientEvent, ClientState};

/// The task's half.
pub(crate) struct EventSender {
    shared: Arc<Mutex<Shared>>,
}

/// The application's half.
#[derive(Debug)]
pub(crate) struct EventReceiver {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    events: VecDeque<ClientEvent>,
    capacity: usize,
    receiver: Option<Waker>,
    sender: Option<Waker>,
    sender_dropped: bool,
    receiver_dropped: bool,
}

/// Creates a queue that is full at `capacity` events.
pub(crate) fn channel(capacity: usize) -> (EventSender, EventReceiver) {
    let shared = Arc::new(Mutex::new(Shared { capacity, ..Shared::default() }));
    (EventSender { shared: shared.clone() }, EventReceiver { shared })
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn is_reconnecting(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::State(ClientState::Reconnecting { .. }))
}

impl Shared {
    fn has_capacity(&self) -> bool {
        self.events.len() <= self.capacity / 2
    }
}

impl EventSender {
    /// Adds an event, even to a full queue. The caller is responsible for stopping when it is full.
    pub(crate) fn push(&self, event: ClientEvent) {
        let mut shared = lock(&self.shared);
        if shared.receiver_dropped {
            return;
        }
        let is_attempt = is_reconnecting(&event) && shared.events.iter().rev().take(2).all(is_reconnecting);
        if is_attempt && shared.events.len() >= 2 {
            // Of the attempts that fail after a connection was lost, only the latest matters.
            shared.events.pop_back();
        }
        shared.events.push_back(event);
        let receiver = shared.receiver.take();
        drop(shared);
        wake(receiver);
    }

    /// How many events wait beyond the capacity.
    pub(crate) fn excess(&self) -> usize {
        let shared = lock(&self.shared);
        shared.events.len().saturating_sub(shared.capacity)
    }

    pub(crate) fn is_full(&self) -> bool {
        let shared = lock(&self.shared);
        shared.events.len() >= shared.capacity
    }

    /// Ready once half of the capacity is free.
    pub(crate) fn poll_capacity(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, Shared::has_capacity)
    }

    /// Ready once the receiver is dropped.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, |shared| shared.receiver_dropped)
    }

    fn poll(&self, cx: &mut Context<'_>, is_ready: impl FnOnce(&Shared) -> bool) -> Poll<()> {
        let mut shared = lock(&self.shared);
        if is_ready(&shared) {
            return Poll::Ready(());
        }
        shared.sender = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.sender_dropped = true;
        let receiver = shared.receiver.take();
        drop(shared);
        wake(receiver);
    }
}

impl EventReceiver {
    /// The next event; `None` once there will be no more.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        let mut shared = lock(&self.shared);
        let had_capacity = shared.has_capacity();
        match shared.events.pop_front() {
            Some(event) => {
                // Wake the sender only for what it can be waiting for.
                let freed = !had_capacity && shared.has_capacity();
                let sender = if freed { shared.sender.take() } else { None };
                drop(shared);
                wake(sender);
                Poll::Ready(Some(event))
            }
            None if shared.sender_dropped => Poll::Ready(None),
            None => {
                shared.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for EventReceiver {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.receiver_dropped = true;
        let events = std::mem::take(&mut shared.events);
        let sender = shared.sender.take();
        drop(shared);
        drop(events);
        wake(sender);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ClientError;

    #[test]
    fn of_attempts_that_fail_in_a_row_the_first_and_the_latest_are_kept() {
        let (sender, receiver) = channel(10);
        let failed = |why: &str| {
            let (reason, retry_in) = (ClientError::Unreachable(why.into()), Duration::ZERO);
            ClientEvent::State(ClientState::Reconnecting { reason, retry_in })
        };
        let online = ClientEvent::State(ClientState::Online);
        for event in [&online, &failed("1"), &failed("2"), &failed("3"), &online, &failed("4")] {
            sender.push(event.clone());
        }
        drop(sender);
        let mut cx = Context::from_waker(Waker::noop());
        for expected in [online.clone(), failed("1"), failed("3"), online, failed("4")] {
            assert_eq!(receiver.poll_next(&mut cx), Poll::Ready(Some(expected)));
        }
        assert_eq!(receiver.poll_next(&mut cx), Poll::Ready(None));
    }
}
