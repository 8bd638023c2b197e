//! Drains a node: its connections are closed one after the other, so that their clients come back elsewhere.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::admission::Admission;
use crate::config::Drain;
use crate::delivery::Recipient;
use crate::engine::Engine;
use crate::session::Session;
use crate::sync::{Mutex, lock};

/// After this many connections that are closed at once, the other tasks get a turn.
const SESSIONS_PER_TURN: usize = 64;

/// Clients come back within this many seconds. They are spread by the times at which they are closed.
const RETRY_SPREAD: u32 = 1;

/// A drain that is running or has ended. Created by [`ChatRooms::drain`](crate::ChatRooms::drain).
///
/// It is a future that completes when the drain has ended. If you drop it, the drain continues.
pub struct Draining {
    admission: Arc<Admission>,
    state: watch::Receiver<State>,
    /// Present once it was polled.
    end: Option<Pin<Box<dyn Future<Output = Drained> + Send>>>,
}

/// The progress of a drain. Created by [`Draining::progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainProgress {
    /// Connections that are still open.
    pub connections: usize,
    /// Connections that the drain has closed, and whose clients were told to reconnect.
    pub closed: usize,
}

/// The result of a drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that the drain has closed, and whose clients were told to reconnect. Connections that ended by
    /// themselves are not counted.
    pub closed: usize,
    /// How many of the closed connections had a session that other nodes can resume.
    pub kept: usize,
    /// Connections that were still open at the end. This is 0, unless a [`shutdown`](crate::ChatRooms::shutdown) has
    /// cut the drain short.
    pub open: usize,
    /// How long the drain took, including the [`ready_delay`](Drain::ready_delay).
    pub took: Duration,
}

/// The drain of an engine, if there was one.
#[derive(Default)]
pub(crate) struct DrainSlot(Mutex<Option<watch::Receiver<State>>>);

#[derive(Debug, Default)]
struct State {
    closed: usize,
    kept: usize,
    /// Present at the end.
    totals: Option<Drained>,
}

/// When each connection is closed.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    step: Duration,
}

impl Schedule {
    fn new(connections: usize, window: Duration) -> Schedule {
        Schedule { step: window / u32::try_from(connections).unwrap_or(u32::MAX).max(1) }
    }

    /// The time since the beginning at which the connection with this number is closed. The first one is 0.
    fn at(self, n: usize) -> Duration {
        self.step.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX))
    }
}

impl Engine {
    /// Begins to drain. If that has begun already, returns the same drain.
    pub(crate) fn drain(self: &Arc<Engine>, drain: Drain) -> Draining {
        let mut slot = lock(&self.drain_slot().0);
        let state = slot.get_or_insert_with(|| self.begin_drain(drain)).clone();
        Draining { admission: self.admission.clone(), state, end: None }
    }

    fn begin_drain(self: &Arc<Engine>, drain: Drain) -> watch::Receiver<State> {
        let (sender, receiver) = watch::channel(State::default());
        let connections = self.admission.connections();
        if !self.admission.begin_drain() {
            // A shutdown has begun.
            sender.send_modify(|state| {
                state.totals = Some(Drained { open: connections, ..Drained::default() })
            });
            return receiver;
        }
        self.context.spread_drain(RETRY_SPREAD);
        if self.admission.is_closing() {
            // A shutdown has begun just now, and decides when clients come back.
            self.spread_restart();
        }
        let (over, ready_delay) = (drain.window(), drain.delay());
        tracing::info!(connections, ?over, ?ready_delay, "draining: no more connections are accepted");
        let engine = self.clone();
        self.tasks.spawn_for_host(async move { engine.run_drain(drain, &sender).await });
        if receiver.has_changed().is_err() {
            // There is no runtime, so no connection has opened yet. One that was accepted just now is closed when it opens.
            self.admission.end_drain();
        }
        receiver
    }

    async fn run_drain(&self, drain: Drain, state: &watch::Sender<State>) {
        let start = self.context.clock.now();
        let is_complete = self.admission.unless_closing(self.close_evenly(drain, state)).await.is_some();
        let took = self.context.clock.now().saturating_sub(start);
        let open = if is_complete { 0 } else { self.admission.connections() };
        let mut totals = Drained { open, took, ..Drained::default() };
        state.send_modify(|state| {
            (totals.closed, totals.kept) = (state.closed, state.kept);
            state.totals = Some(totals);
        });
        let Drained { closed, kept, .. } = totals;
        match is_complete {
            true => tracing::info!(closed, kept, ?took, "drained; all connections are closed"),
            false => tracing::info!(closed, kept, open, ?took, "a shutdown has cut the drain short"),
        }
    }

    /// Closes all connections, and waits until they have ended.
    async fn close_evenly(&self, drain: Drain, state: &watch::Sender<State>) {
        sleep(drain.delay()).await;
        let schedule = Schedule::new(self.admission.connections(), drain.window());
        let start = self.context.clock.now();
        let sessions = self.sessions.table().all_in_random_order();
        for (n, session) in sessions.filter(|session| session.is_connected()).enumerate() {
            let elapsed = self.context.clock.now().saturating_sub(start);
            match schedule.at(n).saturating_sub(elapsed) {
                // A timer would take a millisecond or more.
                Duration::ZERO if n % SESSIONS_PER_TURN == 0 => yield_now().await,
                Duration::ZERO => {}
                wait => sleep(wait).await,
            }
            self.drain_session(&session, state);
        }
        // A connection that was accepted before the drain may open only now.
        self.admission.end_drain();
        for (n, session) in self.sessions.table().all().enumerate() {
            if n > 0 && n % SESSIONS_PER_TURN == 0 {
                yield_now().await;
            }
            self.drain_session(&session, state);
        }
        self.admission.until_empty().await;
    }

    fn drain_session(&self, session: &Arc<Session>, state: &watch::Sender<State>) {
        if let Some(is_kept) = self.sessions.drain(session) {
            state.send_modify(|state| {
                state.closed += 1;
                state.kept += usize::from(is_kept);
            });
        }
    }
}

impl Draining {
    /// How far the drain has come.
    pub fn progress(&self) -> DrainProgress {
        DrainProgress { connections: self.admission.connections(), closed: self.state.borrow().closed }
    }
}

impl Future for Draining {
    type Output = Drained;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Drained> {
        let Draining { state, end, .. } = &mut *self;
        let end = end.get_or_insert_with(|| {
            let mut state = state.clone();
            Box::pin(async move {
                // An error says that the drain has ended with its runtime.
                let _ = state.wait_for(|state| state.totals.is_some()).await;
                let state = state.borrow();
                state.totals.unwrap_or(Drained {
                    closed: state.closed,
                    kept: state.kept,
                    ..Drained::default()
                })
            })
        });
        end.as_mut().poll(cx)
    }
}

impl Clone for Draining {
    fn clone(&self) -> Draining {
        Draining { admission: self.admission.clone(), state: self.state.clone(), end: None }
    }
}

impl fmt::Debug for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draining").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn connections_are_closed_evenly_over_the_window() {
        let times = |connections, window| -> Vec<Duration> {
            let schedule = Schedule::new(connections, window);
            (0..connections).map(|n| schedule.at(n)).collect()
        };
        assert_eq!(times(4, ms(1000)), [ms(0), ms(250), ms(500), ms(750)]);
        assert_eq!(times(1, ms(30_000)), [ms(0)], "nobody has to wait for others");
        assert_eq!(times(3, Duration::ZERO), [ms(0); 3]);
        assert!(times(0, ms(1000)).is_empty());
        let many = times(10_000, ms(10_000));
        assert_eq!((many[0], many[1], many[9_999]), (ms(0), ms(1), ms(9_999)));
    }

    #[test]
    fn any_window_will_do() {
        for window in [Duration::from_nanos(1), Duration::MAX] {
            for connections in [0, 1, 3, usize::MAX] {
                let schedule = Schedule::new(connections, window);
                assert!(schedule.at(0).is_zero() && schedule.at(connections.saturating_sub(1)) <= window);
            }
        }
    }
}
