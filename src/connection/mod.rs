//! One task per connection: its seat, which others write to, and the conversation it leads.

mod authenticating;
mod conversation;
mod course;
mod entering;
mod lifetime;
mod reader;
mod saying;
mod seat;
mod stay;
mod sweep;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::conversation::Conversation;
use crate::engine::engine::{Engine, Permit};
use crate::hooks::auth::Admission;
use crate::protocol::wire::Wire;

/// What is known of a connection when it opens.
pub(crate) struct Opening {
    pub(crate) permit: Permit,
    pub(crate) admission: Admission,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) wire: Wire,
    /// What came behind the handshake before anybody read the socket.
    pub(crate) first: Bytes,
}

/// Opens a connection over any I/O whose handshake is done, and returns what leads it to its
/// end. The first heartbeat is written at once, before any other task runs.
///
/// Dropping the future ends the connection at once; its membership ends in good order.
pub(crate) fn serve<IO>(
    engine: Arc<Engine>,
    io: IO,
    opening: Opening,
) -> impl Future<Output = ()> + Send + 'static
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut conversation = Conversation::open(engine, io, opening);
    async move {
        let reason = conversation.run().await;
        conversation.end(reason);
        conversation.finish(reason).await;
    }
}
