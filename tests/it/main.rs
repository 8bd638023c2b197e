//! What must hold, seen from outside: conversations over duplex I/O in paused time, and real
//! sockets through hyper and axum.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod acknowledgements;
mod attach_races;
mod attacks;
mod auth;
mod backpressure;
mod browser_client;
mod closing_handshake;
mod connection_limits;
mod enter_again;
mod events;
mod floods;
mod handshake;
mod heartbeat;
mod host_handle;
mod http2;
mod jwt;
mod jwt_keys;
mod late_joiners;
mod late_verdicts;
mod limits;
mod middleware;
mod module_dependencies;
mod mounting;
mod names;
mod plain_wire;
mod policy;
mod rate_limits;
mod reauthorization;
mod reconnect_stress;
mod recovery;
mod refusals;
mod replay_races;
mod resume;
mod rfc6455;
mod room_ids;
mod rooms;
mod secrets_in_logs;
mod several_rooms;
mod several_rooms_at_random;
mod several_rooms_resume;
mod shutdown;
mod slow_consumer;
mod slow_consumer_policy;
mod slow_network;
mod stress;
mod support;
mod timeouts;
mod token_expiry;
mod transcripts;
mod transient;
mod unusual_io;
mod users;
mod write_timeout;
