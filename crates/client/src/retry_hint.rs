//! When a server wants its clients to come back.

use std::time::Duration;

/// The longest wait that a server may ask for.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// When a server wants its clients to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryHint {
    pub(crate) wait: Duration,
    /// Clients add a random time up to this.
    pub(crate) spread: Duration,
}

impl RetryHint {
    /// The hint at the end of a close frame's reason: `retry in N s`, or `retry in A-B s`.
    pub(crate) fn in_reason(reason: &str) -> Option<RetryHint> {
        let (_, hint) = reason.strip_suffix(" s")?.rsplit_once("retry in ")?;
        match hint.split_once('-') {
            None => seconds(hint).map(RetryHint::after),
            Some((from, to)) => {
                let (wait, to) = (seconds(from)?, seconds(to)?);
                Some(RetryHint { wait, spread: to.saturating_sub(wait) })
            }
        }
    }

    /// The hint of a `Retry-After` header in seconds.
    pub(crate) fn in_header(text: &str) -> Option<RetryHint> {
        seconds(text).map(RetryHint::after)
    }

    /// After this time. Clients add up to half of it, to spread out.
    pub(crate) fn after(wait: Duration) -> RetryHint {
        RetryHint { wait, spread: wait / 2 }
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // A number with too many digits is a very long time.
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)).min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_close_reason_may_ask_for_a_wait() {
        let hint = |wait, spread| {
            Some(RetryHint { wait: Duration::from_millis(wait), spread: Duration::from_millis(spread) })
        };
        for (reason, expected) in [
            ("the server restarts; retry in 5 s", hint(5000, 2500)),
            ("the server restarts; retry in 4-10 s", hint(4000, 6000)),
            ("retry in 0-1 s", hint(0, 1000)),
            ("retry in 4-4 s", hint(4000, 0)),
            ("retry in 4-2 s", hint(4000, 0)),
            ("retry in 0 s", hint(0, 0)),
            ("retry in 99999999999 s", hint(3_600_000, 1_800_000)),
            ("retry in 99999999999999999999999 s", hint(3_600_000, 1_800_000)),
            ("retry in 1-99999999999999999999999 s", hint(1000, 3_599_000)),
        ] {
            assert_eq!(RetryHint::in_reason(reason), expected, "{reason}");
        }
        for none in
            ["", "retry in s", "retry in -1 s", "retry in 5 s.", "5 s", "retry in 4- s", "retry in 4-1-2 s"]
        {
            assert_eq!(RetryHint::in_reason(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_reason_is_read(reason in ".{0,30}") {
            let _ = RetryHint::in_reason(&reason);
        }
    }
}
