//! One task that sends all heartbeats and looks for missed ones, slot by slot.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::{unconstrained, yield_now};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Heartbeat;
use crate::engine::delivery::guarded;
use crate::engine::engine::Engine;
use crate::engine::table::SLOTS;

/// After so many connections the other tasks get a turn.
const CONNECTIONS_PER_TURN: usize = 64;

/// Keeps the timer's arithmetic in range, whatever interval was configured.
const MAX_TICK: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Which slots have their turn at a tick.
///
/// Slot `s` gets its heartbeats at every tick `t` with `t % SLOTS == s`, and is looked at when
/// the timeout, rounded up to whole ticks, has passed since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    tick: Duration,
    timeout_ticks: usize,
}

impl Schedule {
    pub(crate) fn new(heartbeat: &Heartbeat) -> Schedule {
        let tick = (heartbeat.interval() / SLOTS as u32).min(MAX_TICK);
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

/// Starts the sweep if it isn't running. It ends with the last connection.
pub(crate) fn ensure(engine: &Arc<Engine>) {
    if engine.table.claim_sweep() {
        engine.spawn(unconstrained(sweep(engine.clone())));
    }
}

fn sweep(engine: Arc<Engine>) -> impl Future<Output = ()> + Send {
    let duty = Duty { engine, over: false };
    async move {
        // All of it has to move in here, not its fields.
        let mut duty = duty;
        let engine = duty.engine.clone();
        let schedule = Schedule::new(&engine.config.heartbeat);
        let mut ticks = interval(schedule.tick);
        // After a stall of the whole process clients must get their time all the same.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = Vec::new();
        let mut closing = pin!(engine.until_closing());
        for tick in 0.. {
            let over = poll_fn(|cx| match closing.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => ticks.poll_tick(cx).map(|_| false),
            });
            if over.await {
                return;
            }
            engine.beat(schedule.tick);
            engine.trim_histories(tick);
            // Whoever was late in this slot is looked at before he is asked again.
            engine.table.in_slot(schedule.checked_at(tick), &mut due);
            for recipient in due.drain(..) {
                guarded(&*recipient, |r| r.check());
            }
            engine.table.in_slot(schedule.asked_at(tick), &mut due);
            for (n, recipient) in due.drain(..).enumerate() {
                if n > 0 && n % CONNECTIONS_PER_TURN == 0 {
                    yield_now().await;
                }
                guarded(&*recipient, |r| r.beat());
            }
            if tick % SLOTS == 0 && engine.table.is_empty() {
                engine.rest();
                // Somebody may have come between the look and the release.
                if engine.table.is_empty() || !engine.table.claim_sweep() {
                    duty.over = true;
                    return;
                }
            }
        }
    }
}

/// If the sweep is dropped, as with its runtime, the next connection starts another.
struct Duty {
    engine: Arc<Engine>,
    over: bool,
}

impl Drop for Duty {
    fn drop(&mut self) {
        if !self.over {
            self.engine.rest();
        }
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
