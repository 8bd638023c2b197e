//! Counts what all clients have received.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How long to wait for something that must happen.
const LONGEST: Duration = Duration::from_secs(600);

/// The number of faults that are printed.
const PRINTED: usize = 10;

/// Counts something that a phase waits for.
pub(crate) struct Tally {
    what: &'static str,
    count: AtomicU64,
    goal: AtomicU64,
    reached: Notify,
}

/// A count that was not reached.
#[derive(Debug)]
pub(crate) struct Missing(String);

/// What must not happen.
#[derive(Default)]
pub(crate) struct Faults {
    count: AtomicUsize,
    first: Mutex<Vec<String>>,
}

/// What all clients share.
pub(crate) struct Tallies {
    /// Clients that have received their own enter.
    pub(crate) entered: Tally,
    pub(crate) enters: Tally,
    pub(crate) outs: Tally,
    pub(crate) heartbeats: Tally,
    pub(crate) broadcasts: Tally,
    pub(crate) messages: Tally,
    pub(crate) recovered: Tally,
    pub(crate) closed: Tally,
    /// Connections that the server has dropped.
    pub(crate) ended: Tally,
    pub(crate) faults: Faults,
}

impl Tally {
    pub(crate) fn new(what: &'static str) -> Tally {
        Tally { what, count: AtomicU64::new(0), goal: AtomicU64::new(u64::MAX), reached: Notify::new() }
    }

    pub(crate) fn add(&self) {
        if self.count.fetch_add(1, SeqCst) + 1 == self.goal.load(SeqCst) {
            self.reached.notify_one();
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(SeqCst)
    }

    /// Waits until the count has reached this number.
    pub(crate) async fn until(&self, goal: u64) -> Result<(), Missing> {
        self.goal.store(goal, SeqCst);
        let reached = async {
            while self.count() < goal {
                self.reached.notified().await;
            }
        };
        let missing = |_| Missing(format!("only {} of {goal} {}", self.count(), self.what));
        timeout(LONGEST, reached).await.map_err(missing)
    }
}

impl Default for Tallies {
    fn default() -> Tallies {
        Tallies {
            entered: Tally::new("clients have entered their rooms"),
            enters: Tally::new("enters were received"),
            outs: Tally::new("leaves were received"),
            heartbeats: Tally::new("heartbeats were received"),
            broadcasts: Tally::new("broadcasts were received"),
            messages: Tally::new("messages were received"),
            recovered: Tally::new("sessions were resumed without a gap"),
            closed: Tally::new("close frames were received"),
            ended: Tally::new("connections have ended"),
            faults: Faults::default(),
        }
    }
}

impl Faults {
    #[cold]
    pub(crate) fn add(&self, fault: impl fmt::Display) {
        if self.count.fetch_add(1, SeqCst) < PRINTED {
            self.first.lock().expect("not poisoned").push(fault.to_string());
        }
    }

    /// Notes a fault, unless both are equal.
    pub(crate) fn check<T: PartialEq + fmt::Debug>(&self, what: &str, is: T, should_be: T) {
        if is != should_be {
            self.add(format_args!("{what}: {is:?} instead of {should_be:?}"));
        }
    }

    /// Prints the first faults, and returns the number of all faults.
    pub(crate) fn print(&self) -> usize {
        for fault in &*self.first.lock().expect("not poisoned") {
            println!("fault: {fault}");
        }
        let count = self.count.load(SeqCst);
        if count > PRINTED {
            println!("and {} more faults", count - PRINTED);
        }
        count
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}
