//! Nodes with a real server: `cargo test -p tower-chat-rooms-redis --test server`.
//!
//! `redis-server` must be installed, or `CHAT_REDIS_SERVER` must name a binary. Each test starts servers of its own.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod batches;
mod claims;
mod cluster;
mod faults;
mod fences;
mod history;
mod lagging;
mod late_answers;
mod leases;
mod limits;
mod login;
mod names;
mod network;
mod processes;
mod publishers;
mod repeats;
mod rooms;
mod same_names;
mod sentinel;
mod session_claims;
mod sessions;
mod settings;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod users;
