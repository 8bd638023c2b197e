//! The crate's own modules, compiled once more into each bench: they are private, and stay so.
//!
//! A bench says `mod inside; use inside::*;`, so that the `crate::` paths inside of the modules
//! resolve at its root.
#![allow(dead_code, unused, unreachable_pub, missing_docs, reason = "the crate itself is checked for these")]

#[path = "../../src/config/mod.rs"]
pub(crate) mod config;
pub(crate) mod connection;
#[path = "../../src/engine/mod.rs"]
pub(crate) mod engine;
#[path = "../../src/error.rs"]
pub(crate) mod error;
#[path = "../../src/hooks/mod.rs"]
pub(crate) mod hooks;
#[path = "../../src/ids/mod.rs"]
pub(crate) mod ids;
#[path = "../../src/protocol/mod.rs"]
pub(crate) mod protocol;
#[path = "../../src/room/mod.rs"]
pub(crate) mod room;
pub(crate) mod samples;
#[path = "../../src/sync.rs"]
pub(crate) mod sync;
