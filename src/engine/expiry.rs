//! One task that ends sessions whose clients did not come back in time.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use crate::engine::engine::Engine;
use crate::engine::sweep::RunGuard;
use crate::protocol::subprotocol::Subprotocol;

/// The longest wait before the task looks again whether there is anything to do.
const LONGEST: Duration = Duration::from_secs(60);

/// After this many sessions, the other tasks get a turn: each session leaves a room that may be large.
const SESSIONS_PER_TURN: usize = 16;

/// Starts the task if it isn't running. It ends with the last session.
pub(super) fn ensure(engine: &Arc<Engine>) {
    if let Some(guard) = RunGuard::claim(engine, Engine::expiry) {
        engine.tasks.spawn(expire(guard));
    }
}

/// Only `chat-rooms.v1` sessions can be resumed.
fn is_idle(engine: &Engine) -> bool {
    engine.sessions.table().is_empty(Subprotocol::V1)
}

async fn expire(mut guard: RunGuard) {
    loop {
        let engine = guard.engine().clone();
        let now = engine.context.clock.now();
        let mut ended = 0;
        while engine.sessions.expire_next(now) {
            ended += 1;
            if ended % SESSIONS_PER_TURN == 0 {
                yield_now().await;
            }
        }
        if is_idle(&engine) && guard.release_if(is_idle) {
            return;
        }
        let wait = match engine.sessions.next_deadline() {
            Some(at) => at.saturating_sub(now).min(LONGEST),
            None => LONGEST,
        };
        let mut timer = pin!(sleep(wait));
        let mut changed = pin!(engine.sessions.until_deadlines_change());
        let changed = poll_fn(|cx| match changed.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => timer.as_mut().poll(cx),
        });
        if engine.admission.unless_closing(changed).await.is_none() {
            return;
        }
    }
}
