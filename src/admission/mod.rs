//! The limits on connections, in total and per address. During a drain or a shutdown, no client may connect.

mod peers;
mod shared_rates;
pub(crate) mod token_bucket;

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::admission::peers::{Peer, Peers};
use crate::admission::shared_rates::SharedRates;
pub(crate) use crate::admission::shared_rates::{Action, Key};
use crate::context::Context;
use crate::log_limit::LogLimit;
use crate::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use crate::tasks::Tasks;

pub(crate) struct Admission {
    context: Arc<Context>,
    tasks: Arc<Tasks>,
    connections: AtomicUsize,
    /// Connections that have not entered a room yet.
    pending: AtomicUsize,
    peers: Peers,
    rates: SharedRates,
    /// Sessions without a connection.
    absent: AtomicUsize,
    /// The peers that those sessions were connected from.
    absent_peers: Peers,
    /// A [`Stage`].
    stage: AtomicU8,
    /// Notified when the engine begins to shut down.
    closed: Notify,
    /// Notified when the last connection has ended and no further one is accepted.
    empty: Notify,
    full_peer: LogLimit,
}

/// A connection's share of the limits, given back when dropped. A shutdown waits for it.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    peer: Option<Peer>,
    is_pending: bool,
    is_fresh: bool,
    _task: TaskTrackerToken,
}

/// The share of the limits of a session without a connection, given back when dropped. A shutdown waits for it.
pub(crate) struct AbsencePermit {
    admission: Arc<Admission>,
    peer: Option<Peer>,
    _task: TaskTrackerToken,
}

/// Why no further connection is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPermit {
    Full,
    /// Too many connections have not entered a room yet.
    TooManyPending,
    /// This peer has too many connections.
    PeerFull,
    /// This peer connects, or fails to authenticate, too often.
    TooFast,
    Draining,
    ShuttingDown,
}

/// How far the end of an engine has come. It only goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stage {
    Open,
    /// No further connection is accepted.
    Draining,
    /// As above, and those that were accepted before, but open only now, are closed.
    Drained,
    ShuttingDown,
}

impl Stage {
    fn of(number: u8) -> Stage {
        let stages = [Stage::Open, Stage::Draining, Stage::Drained];
        stages.into_iter().find(|stage| *stage as u8 == number).unwrap_or(Stage::ShuttingDown)
    }
}

impl Admission {
    pub(crate) fn new(context: Arc<Context>, tasks: Arc<Tasks>) -> Admission {
        Admission {
            rates: SharedRates::new(context.clone()),
            context,
            tasks,
            connections: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            peers: Peers::default(),
            absent: AtomicUsize::new(0),
            absent_peers: Peers::default(),
            stage: AtomicU8::new(Stage::Open as u8),
            closed: Notify::new(),
            empty: Notify::new(),
            full_peer: LogLimit::default(),
        }
    }

    /// A permit for one connection. If the address is not known, no peer is counted.
    pub(crate) fn admit(self: &Arc<Admission>, address: Option<IpAddr>) -> Result<Permit, NoPermit> {
        // In this order: a shutdown waits for every caller that finds the engine open.
        let task = self.tasks.token();
        self.check_open()?;
        let limits = &self.context.config.limits;
        if !take(&self.connections, limits.max_connections) {
            return Err(NoPermit::Full);
        }
        // From here on, dropping the permit gives back what it has taken.
        let mut permit =
            Permit { admission: self.clone(), peer: None, is_pending: false, is_fresh: true, _task: task };
        if let Some(peer) = self.peer(address) {
            if !self.peers.take(peer, limits.max_connections_per_ip) {
                if let Some(suppressed) = self.full_peer.take(self.context.clock.now()) {
                    tracing::warn!(
                        ?address,
                        max = limits.max_connections_per_ip,
                        suppressed,
                        "an address has as many connections as it may have; if it is a proxy, name it in \
                         `trusted_proxies` (`--trusted-proxy` of the standalone server)"
                    );
                }
                return Err(NoPermit::PeerFull);
            }
            permit.peer = Some(peer);
            let key = Key::Peer(peer);
            if !self.rates.is_allowed(&key, Action::FailedAuth)
                || self.rates.take(&key, Action::Connect).is_err()
            {
                return Err(NoPermit::TooFast);
            }
            permit.is_fresh = self.rates.take(&key, Action::Burst).is_ok();
        }
        if !take(&self.pending, limits.max_pending) {
            return Err(NoPermit::TooManyPending);
        }
        permit.is_pending = true;
        Ok(permit)
    }

    /// A permit for a session without a connection; `None` if none may be kept, or if as many are kept as there may be
    /// connections, in total or from its address.
    pub(crate) fn keep_absent(self: &Arc<Admission>, address: Option<IpAddr>) -> Option<AbsencePermit> {
        let config = &self.context.config;
        let task = self.tasks.token();
        if config.recovery.resume_window.is_zero() || self.is_closing() {
            return None;
        }
        if !take(&self.absent, config.limits.max_connections) {
            return None;
        }
        let mut permit = AbsencePermit { admission: self.clone(), peer: None, _task: task };
        if let Some(peer) = self.peer(address) {
            if !self.absent_peers.take(peer, config.limits.max_connections_per_ip) {
                return None;
            }
            permit.peer = Some(peer);
        }
        Some(permit)
    }

    /// Counts an action of an address and of a user. The error says how long until it is allowed.
    pub(crate) fn take(
        &self,
        address: Option<IpAddr>,
        user: Option<&str>,
        action: Action,
    ) -> Result<(), Duration> {
        let keys = self.peer(address).map(Key::Peer).into_iter().chain(user.map(|id| Key::User(id.into())));
        for key in keys {
            self.rates.take(&key, action)?;
        }
        Ok(())
    }

    /// Connections that are open or being opened.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Those of them that have not entered a room yet.
    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Sessions without a connection.
    pub(crate) fn absent(&self) -> usize {
        self.absent.load(Ordering::Relaxed)
    }

    /// The connections that are counted for peers.
    #[cfg(feature = "test-util")]
    pub(crate) fn peer_connections(&self) -> usize {
        self.peers.totals().0
    }

    /// Makes a shutdown wait until the token is dropped.
    pub(crate) fn hold_shutdown(&self) -> TaskTrackerToken {
        self.tasks.token()
    }

    /// Fails if no connection is accepted any more.
    pub(crate) fn check_open(&self) -> Result<(), NoPermit> {
        match self.stage() {
            Stage::Open => Ok(()),
            Stage::Draining | Stage::Drained => Err(NoPermit::Draining),
            Stage::ShuttingDown => Err(NoPermit::ShuttingDown),
        }
    }

    /// From now on, no connection is accepted. Returns false if that was so before.
    pub(crate) fn begin_drain(&self) -> bool {
        self.enter_stage(Stage::Draining) == Stage::Open
    }

    /// From now on, connections that were accepted before are closed when they open.
    pub(crate) fn end_drain(&self) {
        self.enter_stage(Stage::Drained);
    }

    /// Whether a drain or a shutdown has begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.stage() >= Stage::Draining
    }

    /// Whether a connection that opens now has to be closed.
    pub(crate) fn is_over(&self) -> bool {
        self.stage() >= Stage::Drained
    }

    /// From now on, no connection is accepted, and nothing waits for long.
    pub(crate) fn close(&self) {
        self.enter_stage(Stage::ShuttingDown);
        self.closed.notify_waiters();
    }

    /// Whether a shutdown has begun.
    pub(crate) fn is_closing(&self) -> bool {
        self.stage() == Stage::ShuttingDown
    }

    fn stage(&self) -> Stage {
        Stage::of(self.stage.load(Ordering::SeqCst))
    }

    /// Returns the stage before.
    fn enter_stage(&self, stage: Stage) -> Stage {
        Stage::of(self.stage.fetch_max(stage as u8, Ordering::SeqCst))
    }

    /// Completes when no connection is left and no further one is accepted.
    pub(crate) async fn until_empty(&self) {
        loop {
            let told = self.empty.notified();
            if self.is_draining() && self.connections() == 0 {
                return;
            }
            told.await;
        }
    }

    /// Completes when a shutdown begins.
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

    /// The peer that an address counts for, if it counts.
    fn peer(&self, address: Option<IpAddr>) -> Option<Peer> {
        address.map(Peer::of).filter(|_| self.context.config.limits.max_connections_per_ip < usize::MAX)
    }
}

/// Takes one of a limited number of places.
fn take(places: &AtomicUsize, max: usize) -> bool {
    places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
}

impl Permit {
    /// Whether the connection starts with full token buckets.
    pub(crate) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// The connection has entered a room.
    pub(crate) fn set_entered(&mut self) {
        if std::mem::take(&mut self.is_pending) {
            self.admission.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.set_entered();
        if let Some(peer) = self.peer {
            self.admission.peers.give_back(peer);
        }
        if self.admission.connections.fetch_sub(1, Ordering::SeqCst) == 1 && self.admission.is_draining() {
            self.admission.empty.notify_waiters();
        }
    }
}

impl Drop for AbsencePermit {
    fn drop(&mut self) {
        if let Some(peer) = self.peer {
            self.admission.absent_peers.give_back(peer);
        }
        self.admission.absent.fetch_sub(1, Ordering::Relaxed);
    }
}
