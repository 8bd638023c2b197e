//! What all connections of a run share: the target, the clock, and what has been counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;
use tokio::sync::Semaphore;

use crate::histogram::Histogram;
use crate::options::{Options, Scenario};

/// Handshakes under way at once: a server's queue of unaccepted connections holds some 128.
const CONNECTING: usize = 64;
/// Different complaints that are kept; a server may answer each message with another.
const COMPLAINTS: usize = 20;

/// One run.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) target: Target,
    pub(crate) tally: Tally,
    pub(crate) connecting: Semaphore,
    /// Apart from other runs against the same server.
    run: String,
    epoch: Instant,
    /// Messages due between these are measured. Closed until all have entered.
    begin: AtomicU64,
    end: AtomicU64,
    /// How many have entered each room.
    rooms: Box<[AtomicU64]>,
}

/// A server, its name already resolved.
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// What has been counted.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) connected: Counter,
    pub(crate) entered: Counter,
    /// Never connected, or refused.
    pub(crate) failed: Counter,
    /// Ended by the server or the network after entering.
    pub(crate) closed: Counter,
    /// Messages due while measuring.
    pub(crate) messages: Counter,
    /// Deliveries that these must lead to.
    pub(crate) expected: Counter,
    /// Deliveries that came while measuring, whenever they were due.
    pub(crate) arrived: Counter,
    /// Deliveries that came twice or before an earlier one of the same sender.
    pub(crate) disordered: Counter,
    pub(crate) heartbeats: Counter,
    pub(crate) errors: Counter,
    pub(crate) connect: Histogram,
    /// From when a message was due until it arrived.
    pub(crate) latency: Histogram,
    /// From when a message was due until it was written: the load generator's own share of that.
    pub(crate) late: Histogram,
    complaints: Mutex<BTreeMap<String, u64>>,
}

impl World {
    pub(crate) fn new(options: Options, target: Target) -> World {
        let unix = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        World {
            run: format!("load-{:x}-{:x}", std::process::id(), unix.as_millis()),
            rooms: (0..options.rooms()).map(|_| AtomicU64::new(0)).collect(),
            connecting: Semaphore::new(CONNECTING),
            epoch: Instant::now(),
            begin: AtomicU64::new(u64::MAX),
            end: AtomicU64::new(u64::MAX),
            tally: Tally::default(),
            options,
            target,
        }
    }

    /// Nanoseconds since the start; the clock of all time stamps.
    pub(crate) fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Measures what is due in this time.
    pub(crate) fn measure(&self, begin: u64, duration: Duration) {
        self.end.store(begin.saturating_add(duration.as_nanos() as u64), Relaxed);
        self.begin.store(begin, Relaxed);
    }

    /// Nothing is due any more.
    pub(crate) fn finish(&self) {
        self.end.fetch_min(self.now(), Relaxed);
    }

    /// Whether something may still be due then.
    pub(crate) fn goes_on(&self, due: u64) -> bool {
        due < self.end.load(Relaxed)
    }

    /// The time that has been measured.
    pub(crate) fn measured(&self) -> Duration {
        let end = self.end.load(Relaxed).min(self.now());
        Duration::from_nanos(end.saturating_sub(self.begin.load(Relaxed)))
    }

    pub(crate) fn is_measured(&self, moment: u64) -> bool {
        self.begin.load(Relaxed) <= moment && self.goes_on(moment)
    }

    pub(crate) fn room_name(&self, room: usize) -> String {
        format!("{}-{room}", self.run)
    }

    /// Somebody has entered a room.
    pub(crate) fn enter(&self, room: usize) {
        let online = self.rooms[room].fetch_add(1, Relaxed) + 1;
        self.tally.entered.add(1);
        if self.options.scenario == Scenario::Enter {
            // Of the k-th to enter, k members hear.
            self.tally.expected.add(online);
        }
    }

    /// A message is due in a room. From now on it counts as lost until it arrives.
    pub(crate) fn owe(&self, room: usize, due: u64) {
        if !self.is_measured(due) {
            return;
        }
        self.tally.messages.add(1);
        if self.options.scenario != Scenario::Enter {
            self.tally.expected.add(self.rooms[room].load(Relaxed));
        }
    }

    /// What was due then has arrived.
    pub(crate) fn deliver(&self, due: u64) {
        let now = self.now();
        if self.is_measured(due) {
            self.tally.latency.record(now.saturating_sub(due));
        }
        if self.is_measured(now) {
            self.tally.arrived.add(1);
        }
    }
}

impl Tally {
    /// How many are in their rooms.
    pub(crate) fn online(&self) -> u64 {
        self.entered.get().saturating_sub(self.closed.get())
    }

    /// Measured messages that have arrived.
    pub(crate) fn delivered(&self) -> u64 {
        self.latency.count()
    }

    /// Measured messages that have not arrived, though due.
    pub(crate) fn lost(&self) -> u64 {
        self.expected.get().saturating_sub(self.delivered())
    }

    /// Keeps a text of the server or the system for the report.
    pub(crate) fn complain(&self, text: &str) {
        let text: String = text.chars().filter(|c| !c.is_control()).take(160).collect();
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < COMPLAINTS || complaints.contains_key(&text) {
            *complaints.entry(text).or_default() += 1;
        }
    }

    /// What was complained of, and how often; the most frequent first.
    pub(crate) fn complaints(&self) -> Vec<(String, u64)> {
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = complaints.iter().map(|(text, n)| (text.clone(), *n)).collect();
        all.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        all
    }
}

impl Target {
    /// Finds the server's addresses, and refuses those on other machines.
    pub(crate) async fn resolve(uri: Uri, allow_remote: bool) -> Result<Target, String> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let found = tokio::net::lookup_host((host.as_str(), uri.port_u16().unwrap_or(80))).await;
        let addresses: Vec<_> = found.map_err(|e| format!("no address for {host:?}: {e}"))?.collect();
        // Connections go to the addresses checked here; the name is not asked for again.
        if let Some(remote) = addresses.iter().find(|a| !a.ip().to_canonical().is_loopback())
            && !allow_remote
        {
            return Err(format!(
                "{} is not an address of this machine alone. Load that others have not asked for is an \
                 attack; if the server is yours to load, add --allow-remote",
                remote.ip()
            ));
        }
        Ok(Target { uri, addresses })
    }
}

/// Counts, from any thread.
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
