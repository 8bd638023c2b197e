//! One WebSocket: its I/O, what was read from it, and what waits to be written to it.

mod reader;
mod send_queue;
#[allow(clippy::module_inception, reason = "the socket is what the folder is named after")]
mod socket;

pub(crate) use reader::Inbox;
pub(crate) use socket::{Io, Socket, Turn};
