//! Calls into the host's code, which may panic, hang or be late.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// A hook panicked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Why an async hook has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    Panicked,
    TooLate,
}

/// Calls a sync hook.
pub(crate) fn call<T>(hook: &'static str, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    // The hook's own state is the host's business; ours is not touched inside.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        tracing::error!(hook, "a hook of the host panicked; its connection is closed");
        Panicked
    })
}

/// Waits for an async hook, for a limited time.
pub(crate) async fn answer<T>(
    hook: &'static str,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Result<T, NoAnswer> {
    let mut future = pin!(future);
    let guarded =
        std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(_) => {
                tracing::error!(hook, "a hook of the host panicked; its connection is closed");
                Poll::Ready(Err(NoAnswer::Panicked))
            }
        });
    match tokio::time::timeout(limit, guarded).await {
        Ok(result) => result,
        Err(_) => {
            tracing::warn!(hook, ?limit, "a hook of the host gave no answer in time (hook_timeout)");
            Err(NoAnswer::TooLate)
        }
    }
}
