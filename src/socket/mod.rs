//! One WebSocket: its I/O, the messages read from it, and the frames that wait to be written to it.

mod answer;
#[cfg(feature = "__bench")]
pub(crate) mod bench_cases;
mod liveness;
mod outlet;
mod reader;
mod send_queue;
#[allow(clippy::module_inception, reason = "the socket is what the folder is named after")]
mod socket;
mod subscription;
mod transport;

use crate::protocol::close::LeaveReason;

pub(crate) use answer::Answer;
pub(crate) use reader::Inbox;
pub(crate) use send_queue::Size;
pub(crate) use socket::Socket;
pub(crate) use transport::Transport;

/// What the connection's task has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Messages are in the inbox.
    Messages,
    /// End the connection.
    End(LeaveReason),
}
