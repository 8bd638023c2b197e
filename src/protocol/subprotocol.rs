//! The two subprotocols: the plain one, and the one with positions and resumption.

use http::HeaderValue;
pub(crate) use tower_chat_rooms_protocol::{SUBPROTOCOL_PLAIN as PLAIN, SUBPROTOCOL_V1 as V1};

/// The subprotocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Subprotocol {
    /// The frames of the tutorial, and nothing else.
    Plain,
    /// `chat-rooms.v1`.
    V1,
}

impl Subprotocol {
    /// What was chosen in the handshake.
    pub(crate) fn of(protocol: Option<&HeaderValue>) -> Subprotocol {
        if protocol.is_some_and(|p| p == V1) { Subprotocol::V1 } else { Subprotocol::Plain }
    }
}
