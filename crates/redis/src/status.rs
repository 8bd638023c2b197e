//! Whether the node can work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::{debug, info, warn};

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

/// Why a node cannot work, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outage {
    /// When this state began.
    pub since: Instant,
    /// The latest error, with what to do. It contains no password.
    pub reason: String,
}

/// Whether the node can work. Reports changes to the host and to the log.
#[derive(Debug)]
pub(crate) struct Status {
    parts: Mutex<Parts>,
    /// For the log.
    servers: String,
    /// The queue that is told of changes. A publisher has none.
    queue: Option<Arc<Queue>>,
    reconnects: AtomicU64,
}

#[derive(Debug)]
struct Parts {
    works: [bool; 3],
    outage: Option<Outage>,
}

impl Status {
    /// All parts work.
    pub(crate) fn new(servers: String, queue: Option<Arc<Queue>>) -> Status {
        let parts = Mutex::new(Parts { works: [true; 3], outage: None });
        Status { parts, servers, queue, reconnects: AtomicU64::new(0) }
    }

    /// A part does not work, or still does not.
    pub(crate) fn fails(&self, part: Part, reason: &str) {
        let servers = &*self.servers;
        let mut parts = lock(&self.parts);
        parts.works[part as usize] = false;
        match &mut parts.outage {
            Some(outage) if outage.reason == reason => {
                debug!(servers, reason, "Redis still cannot be used")
            }
            Some(outage) => {
                // What fails after a lost connection says more than that it was lost.
                warn!(servers, reason, "Redis still cannot be used");
                outage.reason = reason.to_owned();
            }
            None => {
                warn!(servers, reason, "Redis cannot be used; trying again until it can");
                parts.outage = Some(Outage { since: Instant::now(), reason: reason.to_owned() });
                drop(parts);
                self.tell(State::Degraded);
            }
        }
    }

    /// A part works again.
    pub(crate) fn works(&self, part: Part) {
        if !matches!(part, Part::Lease) {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        let mut parts = lock(&self.parts);
        parts.works[part as usize] = true;
        if parts.works.contains(&false) {
            return;
        }
        if let Some(outage) = parts.outage.take() {
            drop(parts);
            info!(servers = self.servers, away = ?outage.since.elapsed(), "Redis can be used again");
            self.tell(State::Connected);
        }
    }

    /// Why the node cannot work; `None` if it can.
    pub(crate) fn outage(&self) -> Option<Outage> {
        lock(&self.parts).outage.clone()
    }

    /// How often a connection was opened again.
    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    fn tell(&self, state: State) {
        if let Some(queue) = &self.queue {
            queue.push(Event::State(state));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_host_hears_of_changes_only() {
        let queue = Arc::new(Queue::new(1000));
        let status = Status::new("h:6379".to_owned(), Some(queue.clone()));
        status.fails(Part::Commands, "lost");
        let outage = status.outage().unwrap();
        status.fails(Part::Subscriber, "lost, too");
        assert_eq!(status.outage(), Some(Outage { reason: "lost, too".to_owned(), ..outage }));
        status.works(Part::Commands);
        status.works(Part::Subscriber);
        assert_eq!((status.outage(), status.reconnects()), (None, 2));
        queue.close();
        assert_eq!(queue.pop().await, Some(Event::State(State::Degraded)));
        assert_eq!(queue.pop().await, Some(Event::State(State::Connected)));
        assert_eq!(queue.pop().await, None);
    }
}
