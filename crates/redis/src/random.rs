//! Random numbers.

use std::time::Duration;

/// A number that nobody else has drawn.
pub(crate) fn number() -> u64 {
    // The system's generator fails only where there is none at all, and then it has done so before: TLS and hash maps
    // need it, too.
    getrandom::u64().unwrap_or_else(|_| {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(std::time::Instant::now())
    })
}

/// A random part of a time.
pub(crate) fn up_to(limit: Duration) -> Duration {
    limit.mul_f64((number() >> 11) as f64 / (1u64 << 53) as f64)
}
