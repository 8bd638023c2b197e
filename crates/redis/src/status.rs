//! Whether the node can work.

use std::sync::Arc;
use std::time::Instant;

use crate::event::{Event, State};
use crate::queue::Queue;
use crate::sync::{Mutex, lock};

/// What has to work.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Commands,
    Subscriber,
    Lease,
}

/// Whether the node can work. Tells the host of changes.
#[derive(Debug)]
pub(crate) struct Status {
    parts: Mutex<Parts>,
    /// Who is told; nobody if it is a publisher.
    queue: Option<Arc<Queue>>,
}

#[derive(Debug)]
struct Parts {
    works: [bool; 3],
    degraded_since: Option<Instant>,
}

impl Status {
    /// All parts work.
    pub(crate) fn new(queue: Option<Arc<Queue>>) -> Status {
        Status { parts: Mutex::new(Parts { works: [true; 3], degraded_since: None }), queue }
    }

    pub(crate) fn set(&self, part: Part, works: bool) {
        let mut parts = lock(&self.parts);
        parts.works[part as usize] = works;
        let is_degraded = parts.works.contains(&false);
        if is_degraded == parts.degraded_since.is_some() {
            return;
        }
        parts.degraded_since = is_degraded.then(Instant::now);
        let state = if is_degraded { State::Degraded } else { State::Connected };
        if let Some(queue) = &self.queue {
            queue.push(Event::State(state));
        }
    }

    /// Since when the node cannot work; `None` if it can.
    pub(crate) fn degraded_since(&self) -> Option<Instant> {
        lock(&self.parts).degraded_since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_host_hears_of_changes_only() {
        let queue = Arc::new(Queue::new(1000));
        let status = Status::new(Some(queue.clone()));
        status.set(Part::Commands, false);
        assert!(status.degraded_since().is_some());
        status.set(Part::Subscriber, false);
        status.set(Part::Commands, true);
        status.set(Part::Subscriber, true);
        assert_eq!(status.degraded_since(), None);
        queue.close();
        assert_eq!(queue.pop().await, Some(Event::State(State::Degraded)));
        assert_eq!(queue.pop().await, Some(Event::State(State::Connected)));
        assert_eq!(queue.pop().await, None);
    }
}
