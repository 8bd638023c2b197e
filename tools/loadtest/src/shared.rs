//! What all connections of a run share: the target, the clock and the counters.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;
use tokio::sync::Semaphore;

use crate::histogram::Histogram;
use crate::options::{Options, Scenario};

/// Most concurrent handshakes. A server's accept queue holds about 128 connections.
const MAX_HANDSHAKES: usize = 64;
/// Most distinct problems to keep, since a server may answer each message with another text.
const MAX_PROBLEMS: usize = 20;

/// The state of a run.
pub(crate) struct Shared {
    pub(crate) options: Options,
    targets: Vec<Target>,
    pub(crate) counters: Counters,
    pub(crate) connecting: Semaphore,
    /// Distinguishes runs against the same server.
    run: String,
    epoch: Instant,
    /// Messages due between these times are measured. Set once all have entered.
    begin: AtomicU64,
    end: AtomicU64,
    /// Number of members that read, for each room.
    rooms: Box<[AtomicU64]>,
}

/// A server with its resolved addresses.
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) addresses: Vec<SocketAddr>,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) connected: Counter,
    pub(crate) entered: Counter,
    /// Connections that failed or were refused.
    pub(crate) failed: Counter,
    /// Connections that ended unexpectedly after entering.
    pub(crate) closed: Counter,
    /// Messages due while measuring.
    pub(crate) messages: Counter,
    /// Deliveries expected for these messages.
    pub(crate) expected: Counter,
    /// Deliveries that arrived while measuring, whenever they were due.
    pub(crate) arrived: Counter,
    /// Deliveries that arrived twice, or after a later one of the same sender.
    pub(crate) out_of_order: Counter,
    /// Messages that were sent with an id, and acknowledgements, of the whole run.
    pub(crate) to_acknowledge: Counter,
    pub(crate) acknowledged: Counter,
    pub(crate) heartbeats: Counter,
    pub(crate) errors: Counter,
    pub(crate) connect: Histogram,
    /// From the time when a message was due to its arrival.
    pub(crate) latency: Histogram,
    /// From the time when a message was due until it was written: the load generator's share.
    pub(crate) late: Histogram,
    problems: Mutex<BTreeMap<String, u64>>,
}

impl Shared {
    pub(crate) fn new(options: Options, targets: Vec<Target>) -> Shared {
        let unix = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Shared {
            run: format!("load-{:x}-{:x}", std::process::id(), unix.as_millis()),
            rooms: (0..options.rooms()).map(|_| AtomicU64::new(0)).collect(),
            connecting: Semaphore::new(MAX_HANDSHAKES),
            epoch: Instant::now(),
            begin: AtomicU64::new(u64::MAX),
            end: AtomicU64::new(u64::MAX),
            counters: Counters::default(),
            options,
            targets,
        }
    }

    /// Nanoseconds since the start, as in all time stamps.
    pub(crate) fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Measures messages due in this period.
    pub(crate) fn measure(&self, begin: u64, duration: Duration) {
        self.end.store(begin.saturating_add(duration.as_nanos() as u64), Relaxed);
        self.begin.store(begin, Relaxed);
    }

    /// Whether all have connected, and messages are due.
    pub(crate) fn has_begun(&self) -> bool {
        self.begin.load(Relaxed) < u64::MAX
    }

    /// Ends the run: nothing is due from now on.
    pub(crate) fn finish(&self) {
        self.end.fetch_min(self.now(), Relaxed);
    }

    /// Whether a message may be due at this time.
    pub(crate) fn is_before_end(&self, due: u64) -> bool {
        due < self.end.load(Relaxed)
    }

    /// How long was measured.
    pub(crate) fn measured(&self) -> Duration {
        let end = self.end.load(Relaxed).min(self.now());
        Duration::from_nanos(end.saturating_sub(self.begin.load(Relaxed)))
    }

    pub(crate) fn is_measured(&self, moment: u64) -> bool {
        self.begin.load(Relaxed) <= moment && self.is_before_end(moment)
    }

    /// The server of a connection. The members of a room are spread over all of them.
    pub(crate) fn target(&self, index: usize) -> &Target {
        let (room, member) = (index / self.options.members(), index % self.options.members());
        &self.targets[(room + member) % self.targets.len()]
    }

    /// All servers, for the report.
    pub(crate) fn describe_targets(&self) -> String {
        let uris: Vec<String> = self.targets.iter().map(|target| target.uri.to_string()).collect();
        uris.join(" ")
    }

    pub(crate) fn room_name(&self, room: usize) -> String {
        format!("{}-{room}", self.run)
    }

    /// Counts a connection that has entered its room.
    pub(crate) fn enter(&self, index: usize) {
        self.counters.entered.add(1);
        if !self.options.reads(index) {
            return;
        }
        let online = self.rooms[index / self.options.members()].fetch_add(1, Relaxed) + 1;
        if self.options.scenario == Scenario::Enter {
            // The k-th enter is delivered to k members.
            self.counters.expected.add(online);
        }
    }

    /// Counts the deliveries of a message that is due. They count as lost until they arrive.
    pub(crate) fn expect_deliveries(&self, room: usize, due: u64) {
        if !self.is_measured(due) {
            return;
        }
        self.counters.messages.add(1);
        if self.options.scenario != Scenario::Enter {
            self.counters.expected.add(self.rooms[room].load(Relaxed));
        }
    }

    /// Records a delivery of a message that was due at this time.
    pub(crate) fn record_delivery(&self, due: u64) {
        let now = self.now();
        if self.is_measured(due) {
            self.counters.latency.record(now.saturating_sub(due));
        }
        if self.is_measured(now) {
            self.counters.arrived.add(1);
        }
    }
}

impl Counters {
    /// Number of connections that are in their rooms.
    pub(crate) fn online(&self) -> u64 {
        self.entered.get().saturating_sub(self.closed.get())
    }

    /// Measured deliveries that have arrived.
    pub(crate) fn delivered(&self) -> u64 {
        self.latency.count()
    }

    /// Measured deliveries that have not arrived.
    pub(crate) fn lost(&self) -> u64 {
        self.expected.get().saturating_sub(self.delivered())
    }

    /// Messages that are not acknowledged.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.to_acknowledge.get().saturating_sub(self.acknowledged.get())
    }

    /// Keeps an error text for the report.
    pub(crate) fn add_problem(&self, text: &str) {
        let text: String = text.chars().filter(|c| !c.is_control()).take(160).collect();
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() < MAX_PROBLEMS || problems.contains_key(&text) {
            *problems.entry(text).or_default() += 1;
        }
    }

    /// The error texts and how often each occurred, the most frequent first.
    pub(crate) fn problems(&self) -> Vec<(String, u64)> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = problems.iter().map(|(text, n)| (text.clone(), *n)).collect();
        all.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        all
    }
}

impl Target {
    /// Resolves the server's addresses. Refuses those of other machines unless allowed.
    pub(crate) async fn resolve(uri: Uri, allow_remote: bool) -> Result<Target, String> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let found = tokio::net::lookup_host((host.as_str(), uri.port_u16().unwrap_or(80))).await;
        let addresses: Vec<_> = found.map_err(|e| format!("no address for {host:?}: {e}"))?.collect();
        // Connections use the addresses checked here; the name is not resolved again.
        if let Some(remote) = addresses.iter().find(|a| !a.ip().to_canonical().is_loopback())
            && !allow_remote
        {
            return Err(format!(
                "{} is not a loopback address. Loading a server without its owner's consent is an attack; \
                 if it is your own, add --allow-remote",
                remote.ip()
            ));
        }
        Ok(Target { uri, addresses })
    }
}

/// A counter for all threads.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
