//! Whether the node can work. The log gets one line when an outage begins, and one when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;
use tracing::{debug, info, warn};

use crate::event::{Event, ResetReason, State};
use crate::log_limit::LogLimit;
use crate::queue::Queue;
use crate::repairs::{Repaired, Repairs};
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
    repairs: Repairs,
    /// Notified when all parts work again.
    recovered: Notify,
    /// For rooms that lose events without an outage.
    reset_limit: LogLimit,
}

#[derive(Debug)]
struct Parts {
    works: [bool; 3],
    outage: Option<Outage>,
    logged: Option<Logged>,
}

/// An outage of which the log has had only the first line.
#[derive(Debug)]
struct Logged {
    since: Instant,
    /// When everything has worked again.
    until: Option<Instant>,
    limit: LogLimit,
}

impl Logged {
    fn begin() -> Logged {
        Logged { since: Instant::now(), until: None, limit: LogLimit::default() }
    }
}

impl Status {
    /// All parts work.
    pub(crate) fn new(servers: String, queue: Option<Arc<Queue>>) -> Status {
        Status {
            parts: Mutex::new(Parts { works: [true; 3], outage: None, logged: None }),
            servers,
            queue,
            reconnects: AtomicU64::new(0),
            repairs: Repairs::default(),
            recovered: Notify::new(),
            reset_limit: LogLimit::default(),
        }
    }

    /// A part does not work, or still does not.
    pub(crate) fn fails(&self, part: Part, reason: &str) {
        let mut parts = lock(&self.parts);
        parts.works[part as usize] = false;
        self.log_failure(&mut parts, reason);
        match &mut parts.outage {
            // A failure after a lost connection says more than the loss itself.
            Some(outage) => reason.clone_into(&mut outage.reason),
            None => {
                parts.outage = Some(Outage { since: Instant::now(), reason: reason.to_owned() });
                drop(parts);
                self.tell(State::Degraded);
            }
        }
    }

    fn log_failure(&self, parts: &mut Parts, reason: &str) {
        let servers = &*self.servers;
        let is_new = parts.logged.is_none();
        let Logged { limit, .. } = parts.logged.get_or_insert_with(Logged::begin);
        match limit.take() {
            Some(_) if is_new => warn!(servers, reason, "Redis cannot be used; trying again until it can"),
            Some(_) => warn!(servers, reason, "Redis still cannot be used"),
            None => debug!(servers, reason, "Redis still cannot be used"),
        }
    }

    /// The server is a different process than before. The node does not work until it has checked its members.
    pub(crate) fn restarted(&self) {
        if self.queue.is_some() {
            lock(&self.parts).works[Part::Lease as usize] = false;
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
        if parts.outage.take().is_none() {
            return;
        }
        if let Some(logged) = &mut parts.logged {
            logged.until = Some(Instant::now());
        }
        drop(parts);
        self.tell(State::Connected);
        match self.queue {
            Some(_) => self.recovered.notify_one(),
            None => self.log_recovery(),
        }
    }

    /// Waits until all parts work again. [`Status::log_recovery`] must follow once it is known what is lost.
    pub(crate) async fn recovered(&self) {
        self.recovered.notified().await;
    }

    /// Says that the outage is over, unless there is another one.
    pub(crate) fn log_recovery(&self) {
        let mut parts = lock(&self.parts);
        if parts.outage.is_some() {
            return;
        }
        let Some(Logged { since, until: Some(until), .. }) = parts.logged.take() else { return };
        let (servers, away) = (&*self.servers, until - since);
        let Repaired { rooms_reset, members_entered_again, members_lost } = self.repairs.take();
        info!(servers, ?away, rooms_reset, members_entered_again, members_lost, "Redis can be used again");
    }

    /// What has to be repaired.
    pub(crate) fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    /// A room's members have missed events.
    pub(crate) fn room_reset(&self, room: &str, reason: ResetReason) {
        if lock(&self.parts).logged.is_some() {
            self.repairs.note_reset();
            debug!(room, ?reason, "events of a room are lost; its members are disconnected");
        } else if let Some(suppressed) = self.reset_limit.take() {
            warn!(room, ?reason, suppressed, "events of a room are lost; its members are disconnected");
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

    #[tokio::test]
    async fn a_node_works_when_it_has_looked_after_its_members() {
        let status = Status::new("h:6379".to_owned(), Some(Arc::new(Queue::new(1000))));
        status.fails(Part::Commands, "lost");
        status.restarted();
        status.works(Part::Commands);
        assert!(status.outage().is_some());
        status.works(Part::Lease);
        assert_eq!(status.outage(), None);
        status.recovered().await;
        let publisher = Status::new("h:6379".to_owned(), None);
        publisher.fails(Part::Commands, "lost");
        publisher.restarted();
        publisher.works(Part::Commands);
        assert_eq!(publisher.outage(), None);
    }
}
