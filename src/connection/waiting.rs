//! Waiting for something while the connection is served.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::connection::connection_task::Connection;
use crate::connection::end::End;
use crate::hooks::guard::{self, NoAnswer};
use crate::protocol::close::LeaveReason;
use crate::socket::Turn;
use crate::stats::Hook;

/// While a client has replays and rosters to read, this is how often it is checked whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// If a broker or a store takes this long for a message, the client is considered to be kept waiting.
const LONG_WAIT: Duration = Duration::from_millis(100);

/// The next replay or roster waits while there is more than this fraction of the send queue's bound to read.
const ANSWERS_SHARE: usize = 4;

/// Whether the client has so many replays and rosters to read that the next one has to wait. Those of several rooms are
/// asked for at once, and keep memory until they are read.
pub(super) fn has_answers_to_read(connection: &Connection) -> bool {
    connection.attachment().replay_bytes() > connection.config().limits.max_queue_bytes / ANSWERS_SHARE
}

/// Waits until the client may get another replay or roster.
pub(super) async fn until_answers_are_read(connection: &mut Connection) -> Result<(), End> {
    while has_answers_to_read(connection) {
        connection.attachment().keep_waiting();
        connection.rates().keep_waiting();
        watch(connection, sleep(LOOK)).await?;
        // Otherwise a client could stay by reading very slowly.
        connection.check_time().await?;
    }
    Ok(())
}

/// Waits for an async hook. Returns `None` if it took too long.
pub(super) async fn ask<T>(
    connection: &mut Connection,
    hook: Hook,
    future: impl Future<Output = T>,
) -> Result<Option<T>, End> {
    let (engine, limit) = (connection.engine().clone(), connection.config().timeouts.hook_timeout);
    let times = &engine.context.counters.hooks;
    answered(watch(connection, guard::answer(times, hook, limit, future)).await?)
}

/// As [`ask`], but waits as [`watch_message`] does.
pub(super) async fn ask_about_message<T>(
    connection: &mut Connection,
    gone: &mut Option<Instant>,
    hook: Hook,
    future: impl Future<Output = T>,
) -> Result<Option<T>, End> {
    let (engine, limit) = (connection.engine().clone(), connection.config().timeouts.hook_timeout);
    let times = &engine.context.counters.hooks;
    answered(watch_message(connection, gone, guard::answer(times, hook, limit, future)).await?)
}

/// Waits for something. Meanwhile the connection is read, written and checked. Messages stay in the inbox;
/// when that is full, the client has to wait.
pub(super) async fn watch<T>(connection: &mut Connection, future: impl Future<Output = T>) -> Result<T, End> {
    let mut future = pin!(future);
    let (attachment, inbox) = connection.socket_parts();
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        match attachment.poll_turn(cx, inbox) {
            Poll::Ready(Turn::End(reason)) => Poll::Ready(Err(End(reason))),
            _ => Poll::Pending,
        }
    })
    .await
}

/// As [`watch`], for a message that is published even if its client closes or loses the connection
/// meanwhile. `gone` keeps when this was noticed: from then on, all waits for the message together last no longer
/// than a hook may.
pub(super) async fn watch_message<T>(
    connection: &mut Connection,
    gone: &mut Option<Instant>,
    future: impl Future<Output = T>,
) -> Result<T, End> {
    let mut future = pin!(future);
    let limit = connection.config().timeouts.hook_timeout;
    let (attachment, inbox) = connection.socket_parts();
    let mut timer = None;
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        match attachment.poll_turn(cx, inbox) {
            Poll::Ready(Turn::End(reason @ (LeaveReason::Closed | LeaveReason::Lost))) => {
                let since = *gone.get_or_insert_with(Instant::now);
                let left = || Box::pin(sleep(limit.saturating_sub(since.elapsed())));
                timer.get_or_insert_with(left).as_mut().poll(cx).map(|()| Err(End(reason)))
            }
            Poll::Ready(Turn::End(reason)) => Poll::Ready(Err(End(reason))),
            _ => Poll::Pending,
        }
    })
    .await
}

/// As [`watch_message`], for the answer of a store, or of a broker that several nodes share.
pub(super) async fn watch_answer<T>(
    connection: &mut Connection,
    gone: &mut Option<Instant>,
    answer: impl Future<Output = T>,
) -> Result<T, End> {
    connection.attachment().keep_waiting();
    let since = Instant::now();
    let answer = watch_message(connection, gone, answer).await?;
    // Every message waits a little. If that counted, no message would ever be beyond a rate.
    if since.elapsed() >= LONG_WAIT {
        connection.rates().keep_waiting();
    }
    Ok(answer)
}

/// The answer of a hook; `None` if it took too long.
fn answered<T>(answer: Result<T, NoAnswer>) -> Result<Option<T>, End> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(NoAnswer::TooLate) => Ok(None),
        Err(NoAnswer::Panicked) => Err(End(LeaveReason::HookFailed)),
    }
}
