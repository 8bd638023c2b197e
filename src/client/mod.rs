//! Clients of the `chat-rooms.v1` subprotocol: the browser's, which the crate serves, and one in Rust.

#[cfg(feature = "client")]
pub(crate) mod native;
pub(crate) mod script;
