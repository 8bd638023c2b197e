//! What must hold, seen from outside: conversations over duplex I/O in paused time, and real
//! sockets through hyper and axum.

mod auth;
mod client;
mod engine;
mod events;
mod heartbeat;
mod house;
mod limits;
mod policy;
mod rooms;
mod slow;
mod wire;
