//! The Postgres store with a real server: `cargo test -p tower-chat-rooms-store --test server`.
//!
//! Postgres must be installed; `CHAT_POSTGRES_BIN` can name the directory of its binaries. Each test starts a server of
//! its own.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod faults;
mod messages;
mod rooms;
mod server;

use std::time::Duration;

/// For what takes a moment, on a machine with much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
