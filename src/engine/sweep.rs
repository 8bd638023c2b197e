//! One task that sends all heartbeats and looks for missed ones, slot by slot.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::{unconstrained, yield_now};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Heartbeat;
use crate::context::Context;
use crate::delivery::Recipient;
use crate::engine::engine::Engine;
use crate::protocol::subprotocol::Subprotocol;
use crate::session::{SLOTS, Session};
use crate::sync::atomic::{AtomicBool, Ordering};

/// After this many connections, the other tasks get a turn.
const CONNECTIONS_PER_TURN: usize = 64;

/// Whether a task is running of which there is at most one.
#[derive(Debug, Default)]
pub(crate) struct Running(AtomicBool);

/// The right to run such a task. If it is dropped, for example with its runtime, the next connection starts another.
pub(super) struct RunGuard {
    engine: Arc<Engine>,
    running: fn(&Engine) -> &Running,
    is_released: bool,
}

impl RunGuard {
    /// `None` if the task is running.
    pub(super) fn claim(engine: &Arc<Engine>, running: fn(&Engine) -> &Running) -> Option<RunGuard> {
        let is_free = !running(engine).0.swap(true, Ordering::SeqCst);
        is_free.then(|| RunGuard { engine: engine.clone(), running, is_released: false })
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Releases the right, unless there is something to do after all. Returns whether the task should end.
    pub(super) fn release_if(&mut self, is_idle: impl Fn(&Engine) -> bool) -> bool {
        let running = &(self.running)(&self.engine).0;
        running.store(false, Ordering::SeqCst);
        // Something may have arrived between the check and the release.
        self.is_released = is_idle(&self.engine) || running.swap(true, Ordering::SeqCst);
        self.is_released
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        if !self.is_released {
            (self.running)(&self.engine).0.store(false, Ordering::SeqCst);
        }
    }
}

/// Which slots have their turn at a tick.
///
/// Slot `s` gets its heartbeats at every tick `t` with `t % SLOTS == s`. It is checked once the timeout, rounded up
/// to whole ticks, has passed since.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    tick: Duration,
    timeout_ticks: usize,
}

impl Schedule {
    fn new(heartbeat: &Heartbeat) -> Schedule {
        let tick = heartbeat.interval() / SLOTS as u32;
        let ticks = heartbeat.timeout().as_nanos().div_ceil(tick.as_nanos().max(1));
        Schedule { tick, timeout_ticks: (ticks as usize).clamp(1, SLOTS) }
    }

    fn checked_at(self, tick: usize) -> usize {
        (tick + SLOTS - self.timeout_ticks) % SLOTS
    }

    fn asked_at(self, tick: usize) -> usize {
        tick % SLOTS
    }
}

/// Starts the sweep of the connections that speak this subprotocol, if it isn't running. It ends with the
/// last of them, and with the last room that is kept without members.
pub(super) fn ensure(engine: &Arc<Engine>, subprotocol: Subprotocol) {
    let running = match subprotocol {
        Subprotocol::Plain => Engine::plain_heartbeats,
        Subprotocol::V1 => Engine::v1_heartbeats,
    };
    if let Some(guard) = RunGuard::claim(engine, running) {
        engine.tasks.spawn(unconstrained(sweep(guard, subprotocol)));
    }
}

/// The longest time between two ticks of a sweep.
pub(super) fn longest_tick(context: &Context) -> Duration {
    let all = [Subprotocol::Plain, Subprotocol::V1].map(|of| Schedule::new(context.heartbeat_of(of)).tick);
    all.into_iter().max().unwrap_or_default()
}

async fn sweep(mut guard: RunGuard, subprotocol: Subprotocol) {
    let engine = guard.engine().clone();
    let schedule = Schedule::new(engine.context.heartbeat_of(subprotocol));
    let mut ticks = interval(schedule.tick);
    // After a stall of the whole process, clients must still get their full time.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = Vec::new();
    let mut closing = pin!(engine.admission.until_closing());
    for tick in 0.. {
        let is_over = poll_fn(|cx| match closing.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => ticks.poll_tick(cx).map(|_| false),
        });
        if is_over.await {
            return;
        }
        engine.stall().tick(engine.context.clock.now(), longest_tick(&engine.context));
        engine.rooms.trim_histories(tick);
        // A late client is checked before it is asked again.
        engine.sessions.table().in_slot(subprotocol, schedule.checked_at(tick), &mut due);
        for (n, session) in due.drain(..).enumerate() {
            if n > 0 && n % CONNECTIONS_PER_TURN == 0 {
                yield_now().await;
            }
            guarded(&session, Session::check_alive);
        }
        engine.sessions.table().in_slot(subprotocol, schedule.asked_at(tick), &mut due);
        for (n, session) in due.drain(..).enumerate() {
            if n > 0 && n % CONNECTIONS_PER_TURN == 0 {
                yield_now().await;
            }
            guarded(&session, Session::beat);
            engine.sessions.trim_direct(&session);
        }
        let is_idle =
            |engine: &Engine| engine.sessions.table().is_empty(subprotocol) && engine.rooms.empty() == 0;
        if tick % SLOTS == 0 && is_idle(&engine) {
            engine.stall().rest();
            engine.sessions.recheck_deadlines();
            if guard.release_if(is_idle) {
                return;
            }
        }
    }
}

/// Works on a session whose I/O may be the host's own and may panic. A panic ends only that connection.
fn guarded(session: &Session, work: fn(&Session)) {
    if catch_unwind(AssertUnwindSafe(|| work(session))).is_err() {
        tracing::error!("the I/O of a connection panicked; the connection is closed");
        session.fail();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_looked_at_after_the_timeout() {
        let check = |interval_ms, timeout_ms| {
            let heartbeat = Heartbeat::every(Duration::from_millis(interval_ms))
                .with_timeout(Duration::from_millis(timeout_ms));
            let schedule = Schedule::new(&heartbeat);
            let beat = (0..).find(|t| schedule.asked_at(*t) == 7).unwrap();
            let check = (beat + 1..).find(|t| schedule.checked_at(*t) == 7).unwrap();
            schedule.tick * (check - beat) as u32
        };
        assert_eq!(check(1000, 1000), Duration::from_millis(1000));
        assert_eq!(check(1000, 500), Duration::from_millis(500));
        assert_eq!(check(1000, 501), Duration::from_millis(520));
        assert_eq!(check(25_000, 20_000), Duration::from_millis(20_000));
        assert_eq!(check(50, 1), Duration::from_millis(1));
    }
}
