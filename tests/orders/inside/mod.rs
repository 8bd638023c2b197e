//! The crate's own modules, with other locks.
#![allow(dead_code, unused, unreachable_pub, missing_docs, reason = "the crate itself is checked for these")]

#[path = "../../../src/config/mod.rs"]
pub(crate) mod config;
pub(crate) mod engine;
#[path = "../../../src/error.rs"]
pub(crate) mod error;
#[path = "../../../src/hooks/mod.rs"]
pub(crate) mod hooks;
#[path = "../../../src/ids/mod.rs"]
pub(crate) mod ids;
#[path = "../../../src/protocol/mod.rs"]
pub(crate) mod protocol;
#[path = "../../../src/room/mod.rs"]
pub(crate) mod room;

/// In the place of `src/sync.rs`.
pub(crate) mod sync {
    pub(crate) use shuttle::sync::atomic;
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
}
