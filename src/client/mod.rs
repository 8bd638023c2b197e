//! Clients of the `chat-rooms.v1` subprotocol: the browser's, which the crate serves, and one in Rust.

#[cfg(feature = "client")]
pub(crate) mod builder;
#[cfg(feature = "client")]
mod dial;
#[cfg(feature = "client")]
mod driver;
#[cfg(feature = "client")]
pub(crate) mod error;
#[cfg(feature = "client")]
pub(crate) mod event;
#[cfg(feature = "client")]
pub(crate) mod handle;
#[cfg(feature = "client")]
mod incoming;
#[cfg(feature = "client")]
mod machine;
#[cfg(feature = "client")]
mod outgoing;
#[cfg(feature = "client")]
mod queue;
pub(crate) mod script;
#[cfg(feature = "client-rustls")]
mod tls;
#[cfg(feature = "client")]
mod wire;
