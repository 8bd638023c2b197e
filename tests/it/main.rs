//! What must hold, seen from outside: conversations over duplex I/O in paused time, and real
//! sockets through hyper and axum.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod auth;
mod capture;
mod client;
mod closing;
mod comer;
mod crowd;
mod edge;
mod engine;
mod events;
mod expiry;
mod flapping;
mod handshake;
mod heartbeat;
mod http2;
mod hyper_server;
mod jwt_keys;
mod lagging;
mod last_words;
mod layers;
mod limits;
mod middleware;
mod names;
mod once;
mod peers;
mod policy;
mod rates;
mod recovery;
mod regressions;
mod replay;
mod rfc6455;
mod rooms;
mod script;
mod secrets;
mod slow;
mod slow_lines;
mod stress;
mod takeover;
mod transcripts;
mod trust;
mod v1;
mod wire;
