//! Calls hooks, which may panic or take too long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::stats::{Hook, HookTimes};

/// A hook panicked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Why an async hook did not answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    Panicked,
    TooLate,
}

/// Calls a sync hook, and measures how long it takes.
pub(crate) fn call<T>(times: &HookTimes, hook: Hook, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let start = Instant::now();
    let result = run(hook.name(), work);
    times.add(hook, start.elapsed());
    result
}

/// Runs code of the host that is not a hook.
pub(crate) fn run<T>(hook: &'static str, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    // Unwind safety concerns only the hook's own state; the crate's state is not touched inside.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        tracing::error!(hook, "a hook panicked; the connection is closed");
        Panicked
    })
}

/// Awaits an async hook for a limited time, and measures how long it takes.
pub(crate) async fn answer<T>(
    times: &HookTimes,
    hook: Hook,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Result<T, NoAnswer> {
    let start = Instant::now();
    let answer = tokio::time::timeout(limit, catch(hook.name(), future)).await;
    times.add(hook, start.elapsed());
    match answer {
        Ok(result) => result.map_err(|Panicked| NoAnswer::Panicked),
        Err(_) => {
            let hook = hook.name();
            tracing::warn!(hook, ?limit, "a hook did not answer in time");
            Err(NoAnswer::TooLate)
        }
    }
}

/// Awaits an async hook.
pub(crate) async fn catch<T>(hook: &'static str, future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(_) => {
            tracing::error!(hook, "a hook panicked; what waits for it fails");
            Poll::Ready(Err(Panicked))
        }
    })
    .await
}
