//! Locks and atomics of what many tasks share. The tests of concurrency put others in their place,
//! which try one order of events after the other.

pub(crate) use std::sync::atomic;
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
