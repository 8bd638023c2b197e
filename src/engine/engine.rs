//! The engine: what it was built with, who may connect, what it has running.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::unconstrained;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::config::Config;
use crate::engine::delivery::flush;
use crate::engine::peers::{Peer, Peers};
use crate::engine::pulse::Pulse;
use crate::engine::recipient::Recipient;
use crate::engine::stats::{Counters, Stats};
use crate::engine::table::{SLOTS, Table};
use crate::engine::tickets::Tickets;
use crate::hooks::auth::ErasedAuth;
use crate::hooks::events::RoomEvents;
use crate::hooks::policy::ErasedPolicy;
use crate::protocol::close::LeaveReason;
use crate::room::registry::{Registry, SharedRoom};
use crate::room::room::Room;

type EngineRoom = Arc<SharedRoom<Arc<dyn Recipient>>>;

/// What the host has supplied.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) auth: Option<Box<dyn ErasedAuth>>,
    pub(crate) policy: Option<Box<dyn ErasedPolicy>>,
    pub(crate) events: Option<Box<dyn RoomEvents>>,
}

pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) hooks: Hooks,
    pub(crate) table: Table,
    pub(crate) counters: Counters,
    pub(crate) tasks: TaskTracker,
    pulse: Pulse,
    born: Instant,
    pub(crate) tickets: Tickets,
    pub(crate) registry: Registry<Arc<dyn Recipient>>,
    /// Members whose connections are lost, and whose seats are kept.
    absent: AtomicUsize,
    connections: AtomicUsize,
    /// Those of them that have not entered a room yet.
    pending: AtomicUsize,
    pub(crate) peers: Peers,
    /// Of which peers the absent members were.
    absent_peers: Peers,
    closing: AtomicBool,
    /// Told when the engine begins to shut down.
    closed: Notify,
    runtime: OnceLock<Handle>,
}

/// A connection's place under `max_connections`, among those of its peer, and at first among those that
/// have not entered: given back when dropped.
///
/// A shutdown waits for it.
pub(crate) struct Permit {
    engine: Arc<Engine>,
    peer: Option<Peer>,
    is_pending: bool,
    _task: TaskTrackerToken,
}

/// The place of a member without a connection, given back when dropped.
pub(crate) struct Absence {
    engine: Arc<Engine>,
    peer: Option<Peer>,
    since: Instant,
}

/// Why no further connection is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPermit {
    Full,
    /// Too many have not entered yet.
    Crowded,
    /// This peer has too many.
    PeerFull,
    ShuttingDown,
}

impl Engine {
    pub(crate) fn new(config: Config, hooks: Hooks) -> Engine {
        let registry = Registry::new(config.recovery.history, config.unique_names);
        Engine {
            config,
            hooks,
            table: Table::new(),
            counters: Counters::default(),
            tasks: TaskTracker::new(),
            pulse: Pulse::default(),
            born: Instant::now(),
            tickets: Tickets::default(),
            registry,
            absent: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            peers: Peers::default(),
            absent_peers: Peers::default(),
            closing: AtomicBool::new(false),
            closed: Notify::new(),
            runtime: OnceLock::new(),
        }
    }

    /// Takes a place for one connection. Where the address is not known, it counts for no peer.
    pub(crate) fn admit(self: &Arc<Engine>, address: Option<IpAddr>) -> Result<Permit, NoPermit> {
        // In this order: whoever finds the engine open is waited for.
        let task = self.tasks.token();
        if self.is_closing() {
            return Err(NoPermit::ShuttingDown);
        }
        if !take(&self.connections, self.config.limits.max_connections) {
            return Err(NoPermit::Full);
        }
        // From here on it gives back what it has.
        let mut permit = Permit { engine: self.clone(), peer: None, is_pending: false, _task: task };
        if let Some(peer) = self.peer(address) {
            if !self.peers.take(peer, self.config.limits.max_connections_per_ip) {
                if self.counters.refused_per_ip.read() == 0 {
                    tracing::warn!(
                        ?address,
                        max = self.config.limits.max_connections_per_ip,
                        "an address has all the connections it may have; if it is a proxy, name it in \
                         `trusted_proxies`"
                    );
                }
                return Err(NoPermit::PeerFull);
            }
            permit.peer = Some(peer);
        }
        if !take(&self.pending, self.config.limits.max_pending) {
            return Err(NoPermit::Crowded);
        }
        permit.is_pending = true;
        Ok(permit)
    }

    /// The sweep is at work.
    pub(crate) fn beat(&self, tick: Duration) {
        self.pulse.beat(self.born.elapsed(), tick);
    }

    /// The sweep has ended.
    pub(crate) fn rest(&self) {
        self.pulse.rest();
        self.table.release_sweep();
    }

    /// Whether the whole process stands still, or did a moment ago.
    pub(crate) fn has_stalled(&self) -> bool {
        self.pulse.has_stalled(self.born.elapsed(), self.config.heartbeat.interval() / SLOTS as u32)
    }

    /// What an address counts for, if it counts.
    fn peer(&self, address: Option<IpAddr>) -> Option<Peer> {
        address.map(Peer::of).filter(|_| self.config.limits.max_connections_per_ip < usize::MAX)
    }

    /// Keeps a place for a member without a connection, unless none may be kept, or as many are as
    /// there may be connections, in all or of his address.
    pub(crate) fn keep_absent(self: &Arc<Engine>, address: Option<IpAddr>) -> Option<Absence> {
        if self.config.recovery.resume_window.is_zero() || self.is_closing() {
            return None;
        }
        if !take(&self.absent, self.config.limits.max_connections) {
            return None;
        }
        let mut absence = Absence { engine: self.clone(), peer: None, since: Instant::now() };
        if let Some(peer) = self.peer(address) {
            if !self.absent_peers.take(peer, self.config.limits.max_connections_per_ip) {
                return None;
            }
            absence.peer = Some(peer);
        }
        Some(absence)
    }

    /// Time since it was built.
    pub(crate) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// The time for histories. Where there are none, it isn't asked for.
    pub(crate) fn now(&self) -> Duration {
        if self.config.recovery.history.is_some() { self.born.elapsed() } else { Duration::ZERO }
    }

    /// Forgets what has become too old in a part of the rooms. Called with 0, 1, 2, ... it comes
    /// by all of them.
    pub(crate) fn trim_histories(&self, turn: usize) {
        if self.config.recovery.history.is_none() {
            return;
        }
        let now = self.now();
        for room in self.registry.in_shard(turn) {
            room.lock().trim(now);
        }
    }

    /// Whether [`Engine::shutdown`] has begun.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Done when the engine begins to shut down.
    pub(crate) async fn until_closing(&self) {
        let told = self.closed.notified();
        if !self.is_closing() {
            told.await;
        }
    }

    /// Waits for something, unless a shutdown begins first.
    pub(crate) async fn unless_closing<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let (mut future, mut closing) = (pin!(future), pin!(self.until_closing()));
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => closing.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    pub(crate) fn room(&self, id: &str) -> Option<EngineRoom> {
        self.registry.get(id)
    }

    pub(crate) fn rooms(&self) -> Vec<EngineRoom> {
        self.registry.all()
    }

    /// Asks every connection to end. Those that come later find the engine closing.
    pub(crate) fn shutdown(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.closed.notify_waiters();
        self.tasks.close();
        for room in self.registry.all() {
            room.lock().close();
        }
        for recipient in self.table.all() {
            recipient.close(LeaveReason::Shutdown);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            connections: self.connections.load(Ordering::Relaxed),
            pending: self.pending.load(Ordering::Relaxed),
            rooms: self.registry.len(),
            absent: self.absent.load(Ordering::Relaxed),
            ..self.counters.read()
        }
    }

    /// Spawns a task of the engine's, which a shutdown waits for: in this runtime, or where the
    /// first connection ran.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match (Handle::try_current(), self.runtime.get()) {
            (Ok(runtime), _) => self.tasks.spawn_on(task, &runtime),
            (Err(_), Some(runtime)) => self.tasks.spawn_on(task, runtime),
            // Without a connection there has been nothing to do.
            (Err(_), None) => return,
        };
    }

    /// Remembers the runtime in which a connection runs.
    pub(crate) fn keep_runtime(&self) {
        self.runtime.get_or_init(Handle::current);
    }

    /// The host may be in a runtime of its own, which is not driven for long.
    pub(crate) fn start_flush_at_home(&self, shared: &EngineRoom, room: &mut Room<Arc<dyn Recipient>>) {
        if shared.claim_flush(room) {
            let home = self.runtime.get().cloned().or_else(|| Handle::try_current().ok());
            if let Some(home) = home {
                self.tasks.spawn_on(unconstrained(flush(shared.clone())), &home);
            }
        }
    }

    pub(crate) fn start_flush(&self, shared: &EngineRoom, room: &mut Room<Arc<dyn Recipient>>) {
        if shared.claim_flush(room) {
            // It yields by itself. Out of tokio's budget, which is 128 writes, sockets would seem
            // full, and each member's task be woken to write what is left.
            self.spawn(unconstrained(flush(shared.clone())));
        }
    }
}

/// Takes one of so many places.
fn take(places: &AtomicUsize, max: usize) -> bool {
    places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
}

impl Permit {
    /// The connection has entered a room: its place among those that have not is another's.
    pub(crate) fn settle(&mut self) {
        if std::mem::take(&mut self.is_pending) {
            self.engine.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.settle();
        if let Some(peer) = self.peer {
            self.engine.peers.give_back(peer);
        }
        self.engine.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Absence {
    /// For how long the seat is still kept.
    pub(crate) fn left(&self) -> Duration {
        self.engine.config.recovery.resume_window.saturating_sub(self.since.elapsed())
    }
}

impl Drop for Absence {
    fn drop(&mut self) {
        if let Some(peer) = self.peer {
            self.engine.absent_peers.give_back(peer);
        }
        self.engine.absent.fetch_sub(1, Ordering::Relaxed);
    }
}
