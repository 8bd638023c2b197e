//! One task per connection: its seat, which others write to, and the conversation it leads.

mod conversation;
pub(crate) mod guard;
mod reader;
mod seat;
mod sweep;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::conversation::Conversation;
use crate::engine::engine::{Engine, Permit};
use crate::hooks::auth::Admission;

/// What is known of a connection when it opens.
pub(crate) struct Opening {
    pub(crate) permit: Permit,
    pub(crate) admission: Admission,
    pub(crate) peer: Option<SocketAddr>,
    /// What came behind the handshake before anybody read the socket.
    pub(crate) first: Bytes,
}

/// Serves a connection over any I/O, from the end of its handshake to its own end.
///
/// Dropping the future ends the connection at once; its membership ends in good order.
pub(crate) async fn serve<IO>(engine: Arc<Engine>, io: IO, opening: Opening)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut conversation = Conversation::open(engine, io, opening);
    let reason = conversation.run().await;
    conversation.end(reason);
    conversation.finish(reason).await;
}
