//! The client in whole conversations: against a scripted server over duplex I/O in paused time,
//! and against the real one.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod backpressure;
mod broken_sockets;
mod connecting;
mod direct;
mod history;
mod nodes;
mod outside;
mod presence;
mod purity;
mod random_flaps;
mod rates;
mod reconnecting;
mod scripted_server;
mod sending;
mod several_rooms;
mod support;
mod tls;
mod tokens;
mod transcripts;
mod transients;
mod unreadable;
