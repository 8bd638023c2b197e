//! One task per connection: it reads what the client sends, and acts on it.

mod auth;
mod connection_task;
mod deadline;
mod direct;
mod end;
mod faults;
mod frames;
mod history;
mod join;
mod leave;
mod presence;
mod publish;
mod rate_limiter;
mod resume;
mod token_expiry;
mod waiting;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::admission::Permit;
use crate::connection::connection_task::Connection;
use crate::engine::Engine;
use crate::hooks::auth::Admission;
use crate::protocol::close::LeaveReason;
use crate::protocol::subprotocol::Subprotocol;
use crate::protocol::{frame, outbound};
use crate::socket::{Socket, Transport};

/// What is known about a connection when it opens.
pub(crate) struct Opening {
    pub(crate) permit: Permit,
    pub(crate) admission: Admission,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) subprotocol: Subprotocol,
    /// Bytes that arrived after the handshake, before the socket was read.
    pub(crate) first: Bytes,
    /// Largest single write.
    pub(crate) max_write: usize,
}

/// Opens a connection over any I/O whose handshake is done, and returns the task that runs it until it ends.
/// The first heartbeat is written immediately, before any other task runs.
///
/// Dropping the future ends the connection immediately; its membership ends correctly.
pub(crate) fn serve(
    engine: Arc<Engine>,
    io: Transport,
    opening: Opening,
) -> impl Future<Output = ()> + Send + 'static {
    Connection::open(engine, io, opening).serve()
}

/// Tells a `chat-rooms.v1` client that it is not authenticated, and closes the connection.
pub(crate) async fn refuse(engine: Arc<Engine>, io: Transport, opening: Opening, reason: String) {
    let Opening { permit, subprotocol, first, max_write, .. } = opening;
    let mut socket = Socket::new(io, max_write, engine.context.clone(), subprotocol, first);
    socket.send(None, &frame::text(outbound::no_auth(&reason).as_bytes()));
    let (why, limit) = (LeaveReason::NotAuthenticated, engine.config().timeouts.close_timeout);
    engine.finish(socket.finish(why, limit)).await;
    tracing::debug!(reason = %why, "connection closed");
    drop(permit);
}
