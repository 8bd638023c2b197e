//! One task per connection: it reads what the client sends, and does it.

mod auth;
mod connection_task;
mod deadline;
mod end;
mod faults;
mod join;
mod publish;
mod rate_limiter;
mod token_expiry;

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
use crate::socket::{Io, Socket};

/// What is known of a connection when it opens.
pub(crate) struct Opening {
    pub(crate) permit: Permit,
    pub(crate) admission: Admission,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) subprotocol: Subprotocol,
    /// What came behind the handshake before the socket was read.
    pub(crate) first: Bytes,
    /// Largest single write.
    pub(crate) max_write: usize,
}

/// Opens a connection over any I/O whose handshake is done, and returns the task that leads it to its end.
/// The first heartbeat is written at once, before any other task runs.
///
/// Dropping the future ends the connection at once; its membership ends in good order.
pub(crate) fn serve(
    engine: Arc<Engine>,
    io: Box<dyn Io>,
    opening: Opening,
) -> impl Future<Output = ()> + Send + 'static {
    Connection::open(engine, io, opening).serve()
}

/// Tells a `chat-rooms.v1` client that it is not authenticated, and closes the connection.
pub(crate) async fn refuse(engine: Arc<Engine>, io: Box<dyn Io>, opening: Opening, reason: String) {
    let Opening { permit, subprotocol, first, max_write, .. } = opening;
    let mut socket = Socket::new(io, max_write, engine.context.clone(), subprotocol, first);
    socket.send(&frame::text(outbound::no_auth(&reason, None).as_bytes()));
    let limit = engine.config().timeouts.close_timeout;
    engine.finish(socket.finish(LeaveReason::NotAuthenticated, limit)).await;
    drop(permit);
}
