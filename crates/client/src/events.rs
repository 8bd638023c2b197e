//! A queue of events between the client's task and the application: one for each room, and one for the connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::event::{ChatEvent, ChatState, ClientEvent, ClientState};

/// The task's half.
#[derive(Debug)]
pub(crate) struct EventSender<E> {
    shared: Arc<Mutex<Shared<E>>>,
    /// Events dropped because the application takes none.
    dropped: u64,
}

/// The application's half.
#[derive(Debug)]
pub(crate) struct EventReceiver<E> {
    shared: Arc<Mutex<Shared<E>>>,
}

/// What waits in a queue.
pub(crate) trait Event: Sized {
    /// Whether it reports an attempt to connect that has failed.
    fn is_reconnecting(&self) -> bool;

    /// Whether no event follows.
    fn is_last(&self) -> bool;

    /// Reports that this many events were dropped.
    fn overflow(lost: u64) -> Self;
}

/// Events that may be queued beyond the capacity, as when connections are lost and made.
const MAX_EXCESS: usize = 64;

#[derive(Debug)]
struct Shared<E> {
    events: VecDeque<E>,
    /// How many events were taken.
    taken: u64,
    /// An event of which only the latest matters, and how many events are to be taken before it.
    latest: Option<(u64, E)>,
    capacity: usize,
    receiver: Option<Waker>,
    sender: Option<Waker>,
    sender_dropped: bool,
    receiver_dropped: bool,
}

/// Creates a queue that is full at `capacity` events.
pub(crate) fn channel<E>(capacity: usize) -> (EventSender<E>, EventReceiver<E>) {
    let shared = Arc::new(Mutex::new(Shared {
        events: VecDeque::new(),
        taken: 0,
        latest: None,
        capacity,
        receiver: None,
        sender: None,
        sender_dropped: false,
        receiver_dropped: false,
    }));
    (EventSender { shared: shared.clone(), dropped: 0 }, EventReceiver { shared })
}

fn lock<E>(shared: &Mutex<Shared<E>>) -> MutexGuard<'_, Shared<E>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Event for ClientEvent {
    fn is_reconnecting(&self) -> bool {
        matches!(self, ClientEvent::State(ClientState::Reconnecting { .. }))
    }

    fn is_last(&self) -> bool {
        matches!(self, ClientEvent::State(ClientState::Closed { .. }))
    }

    fn overflow(lost: u64) -> ClientEvent {
        ClientEvent::Overflow { lost }
    }
}

impl Event for ChatEvent {
    fn is_reconnecting(&self) -> bool {
        matches!(self, ChatEvent::State(ChatState::Reconnecting { .. }))
    }

    fn is_last(&self) -> bool {
        matches!(self, ChatEvent::State(ChatState::Closed { .. }))
    }

    fn overflow(lost: u64) -> ChatEvent {
        ChatEvent::Overflow { lost }
    }
}

impl<E> Shared<E> {
    fn has_capacity(&self) -> bool {
        self.events.len() <= self.capacity / 2
    }

    fn pop(&mut self) -> Option<E> {
        if let Some((_, latest)) = self.latest.take_if(|(before, _)| *before <= self.taken) {
            return Some(latest);
        }
        let event = self.events.pop_front()?;
        self.taken += 1;
        Some(event)
    }
}

impl<E: Event> EventSender<E> {
    /// Adds an event, even to a full queue. The caller is responsible for stopping when it is full. If it does not, events
    /// are dropped, and the next one that is added tells how many.
    pub(crate) fn push(&mut self, event: E) {
        let mut shared = lock(&self.shared);
        if shared.receiver_dropped {
            return;
        }
        let is_overfull = shared.events.len() >= shared.capacity.saturating_add(MAX_EXCESS);
        if is_overfull && !event.is_last() {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            shared.events.push_back(E::overflow(std::mem::take(&mut self.dropped)));
        }
        let is_attempt =
            event.is_reconnecting() && shared.events.iter().rev().take(2).all(E::is_reconnecting);
        if is_attempt && shared.events.len() >= 2 {
            // Of the attempts that fail after a connection was lost, only the latest matters.
            shared.events.pop_back();
        }
        shared.events.push_back(event);
        let receiver = shared.receiver.take();
        drop(shared);
        wake(receiver);
    }

    /// Adds an event that replaces the last one that was added with this method, if that was not taken yet. It does not
    /// count towards the capacity.
    pub(crate) fn push_latest(&mut self, event: E) {
        let mut shared = lock(&self.shared);
        if shared.receiver_dropped {
            return;
        }
        let before = match &shared.latest {
            Some((before, _)) => *before,
            None => shared.taken + shared.events.len() as u64,
        };
        shared.latest = Some((before, event));
        let receiver = shared.receiver.take();
        drop(shared);
        wake(receiver);
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

    fn poll(&self, cx: &mut Context<'_>, is_ready: impl FnOnce(&Shared<E>) -> bool) -> Poll<()> {
        let mut shared = lock(&self.shared);
        if is_ready(&shared) {
            return Poll::Ready(());
        }
        shared.sender = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<E> Drop for EventSender<E> {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.sender_dropped = true;
        let receiver = shared.receiver.take();
        drop(shared);
        wake(receiver);
    }
}

impl<E> EventReceiver<E> {
    /// The next event; `None` once there will be no more.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<E>> {
        let mut shared = lock(&self.shared);
        let had_capacity = shared.has_capacity();
        match shared.pop() {
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

impl<E> Drop for EventReceiver<E> {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.receiver_dropped = true;
        let events = (std::mem::take(&mut shared.events), shared.latest.take());
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
    use crate::presence::{Presence, PresenceMode};

    #[test]
    fn of_attempts_that_fail_in_a_row_the_first_and_the_latest_are_kept() {
        let (mut sender, receiver) = channel(10);
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

    #[test]
    fn only_the_latest_presence_is_kept_in_the_place_of_the_first() {
        let (mut sender, receiver) = channel(2);
        let presence = |num| ClientEvent::Presence(Presence::new(PresenceMode::Count, num, 0));
        let gap = |missed| ClientEvent::Gap { missed: Some(missed) };
        let mut cx = Context::from_waker(Waker::noop());
        sender.push(gap(1));
        sender.push_latest(presence(1));
        sender.push(gap(2));
        (2..100).for_each(|num| sender.push_latest(presence(num)));
        assert!(sender.is_full());
        for expected in [gap(1), presence(99), gap(2)] {
            assert_eq!(receiver.poll_next(&mut cx), Poll::Ready(Some(expected)));
        }
        assert!(receiver.poll_next(&mut cx).is_pending());
        sender.push_latest(presence(100));
        drop(sender);
        assert_eq!(receiver.poll_next(&mut cx), Poll::Ready(Some(presence(100))));
        assert_eq!(receiver.poll_next(&mut cx), Poll::Ready(None));
    }
}
