//! Nodes with a real server: `cargo test -p tower-chat-rooms-redis --test server`.
//!
//! `redis-server` must be installed, or `CHAT_REDIS_SERVER` must name a binary. Each test starts servers of its own.

mod faults;
mod network;
mod processes;
mod rooms;
mod sessions;
mod support;
