//! Events that wait for the host.

use std::collections::VecDeque;
use std::mem;

use tokio::sync::Notify;

use crate::event::Event;
use crate::sync::{Mutex, lock};

/// Events that wait for the host. The queue itself refuses none: before a room's event is added, the caller asks
/// whether it is full.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    max_bytes: usize,
    /// An event was added.
    added: Notify,
    /// The queue is half empty again.
    has_space: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    bytes: usize,
    is_closed: bool,
}

impl Queue {
    pub(crate) fn new(max_bytes: usize) -> Queue {
        Queue { waiting: Mutex::default(), max_bytes, added: Notify::new(), has_space: Notify::new() }
    }

    pub(crate) fn push(&self, event: Event) {
        let mut waiting = lock(&self.waiting);
        waiting.bytes += cost(&event);
        waiting.events.push_back(event);
        drop(waiting);
        self.added.notify_one();
    }

    pub(crate) fn is_full(&self) -> bool {
        lock(&self.waiting).bytes >= self.max_bytes
    }

    /// The next event; `None` after the queue was closed.
    pub(crate) async fn pop(&self) -> Option<Event> {
        loop {
            {
                let mut waiting = lock(&self.waiting);
                if let Some(event) = waiting.events.pop_front() {
                    let before = waiting.bytes;
                    waiting.bytes -= cost(&event);
                    if before > self.max_bytes / 2 && waiting.bytes <= self.max_bytes / 2 {
                        self.has_space.notify_waiters();
                    }
                    return Some(event);
                }
                if waiting.is_closed {
                    return None;
                }
            }
            self.added.notified().await;
        }
    }

    /// Waits until the queue is half empty.
    pub(crate) async fn until_space(&self) {
        loop {
            let has_space = self.has_space.notified();
            if lock(&self.waiting).bytes <= self.max_bytes / 2 {
                return;
            }
            has_space.await;
        }
    }

    pub(crate) fn close(&self) {
        lock(&self.waiting).is_closed = true;
        self.added.notify_one();
    }
}

/// About the memory that an event takes.
fn cost(event: &Event) -> usize {
    let body = match event {
        Event::Room(event) => event.body.len(),
        Event::Transient { body, .. } | Event::Command { body } => body.len(),
        _ => 0,
    };
    mem::size_of::<Event>() + body
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_has_space_again_once_it_is_half_empty() {
        let queue = Queue::new(10_000);
        while !queue.is_full() {
            queue.push(Event::Command { body: Bytes::from(vec![0; 1000]) });
        }
        let mut until_space = pin!(queue.until_space());
        let mut taken = 0;
        while timeout(Duration::ZERO, &mut until_space).await.is_err() {
            queue.pop().await.unwrap();
            taken += 1;
        }
        assert!((4..7).contains(&taken), "{taken} of 9 events were taken");
        queue.close();
        while queue.pop().await.is_some() {}
    }
}
